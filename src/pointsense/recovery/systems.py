"""Linear systems on the supports of a batch of codes: what polishing and the exact gradient share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .problem import GRAM_LIMIT, Problem

#: Cholesky pivots below this fraction of their diagonal entry count as zero.
SINGULAR = 1e-12
#: Supports are padded to a multiple of this, so that few batched factorisations serve all of them.
PADDING = 8
#: Entries of one batch of padded matrices (64 MiB of float64).
CHUNK_ENTRIES = 1 << 23


def solve_on_support(D: Tensor, support: Tensor, rhs: Tensor, ridge: float = 0.0) -> tuple[Tensor, Tensor]:
    """Solve ``(D_p^T D_p + ridge I) u_p = rhs_p`` for every row, with the least norm where that is singular.

    u is zero off the support.

    Parameters
    ----------
    D : Tensor, (m, n)
    support : Tensor, (B, n), bool
    rhs : Tensor, (B, n)
    ridge : float

    Returns
    -------
    u : Tensor, (B, n)
    singular : Tensor, (B,), bool
    """
    m, n = D.shape
    u = torch.zeros_like(rhs)
    singular = torch.zeros(len(rhs), dtype=torch.bool, device=D.device)
    gram = D.T @ D if n <= GRAM_LIMIT else None
    for rows, k in _chunks(support, m):
        present, index = torch.sort(support[rows], dim=1, descending=True, stable=True)
        present, index = present[:, :k], index[:, :k]
        b = rhs[rows].gather(1, index) * present
        if k > m and ridge == 0:  # more columns than rows: no need to try
            solution, bad = torch.zeros_like(b), torch.ones_like(present[:, 0])
        elif k > m:
            solution, bad = _pseudo_solve(D, index, present, b, ridge), torch.zeros_like(present[:, 0])
        else:
            solution, bad = _cholesky_solve(D, gram, index, present, b, ridge)
        if bool(bad.any()):
            solution[bad] = _pseudo_solve(D, index[bad], present[bad], b[bad], ridge)
        u[rows] = torch.zeros_like(u[rows]).scatter_(1, index, solution * present)
        singular[rows] = bad
    return u, singular


def polish(problem: Problem, code: Tensor) -> Tensor:
    """The minimiser on the supports of codes (B, n), ``G a_p = D_p^T (x - D_b a_b) - lam s_p``, b the columns at
    their bounds; where its signs, its bounds or its gap tell that the support is not the lasso's, the code itself.
    """
    X, D, lam = problem.X, problem.D, problem.lam
    support = code != 0
    if problem.upper is not None:
        support &= code.abs() < problem.upper
    resting = code.masked_fill(support, 0)
    right = (X - resting @ D.T) @ D - lam[:, None] * torch.sign(code)
    exact = torch.where(support, solve_on_support(D, support, right)[0], code)
    better = problem.relative_gap(exact) <= problem.relative_gap(code)
    better &= (torch.sign(exact) == torch.sign(code)).all(-1) & (problem.clip(exact) == exact).all(-1)
    return torch.where(better[:, None], exact, code)


def _cholesky_solve(
    D: Tensor, gram: Tensor | None, index: Tensor, present: Tensor, b: Tensor, ridge: float
) -> tuple[Tensor, Tensor]:
    """Solutions (b, k), zero where the matrix is singular, and which those are (b,)."""
    if gram is None:
        columns = D.T[index].mT  # (b, m, k)
        G = columns.mT @ columns
    else:
        G = gram[index[:, :, None], index[:, None, :]]
    # Padding becomes an identity block with a zero right-hand side.
    G = G * (present[:, :, None] & present[:, None, :])
    G.diagonal(dim1=-2, dim2=-1).add_(ridge * present + (~present).to(G.dtype))
    factor, info = torch.linalg.cholesky_ex(G)
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    bad = (info > 0) | ~((pivots > SINGULAR * G.diagonal(dim1=-2, dim2=-1)) | ~present).all(-1)
    factor[bad] = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
    solution = torch.cholesky_solve(b[..., None], factor)[..., 0]
    solution[bad] = 0
    return solution, bad


def _pseudo_solve(D: Tensor, index: Tensor, present: Tensor, b: Tensor, ridge: float) -> Tensor:
    """``(D_p^T D_p + ridge I)^+ b`` from the singular values of D_p, without a k x k matrix: (b, k)."""
    columns = (D.T[index] * present[..., None]).mT  # (b, m, k)
    _, values, vectors = torch.linalg.svd(columns, full_matrices=False)  # vectors (b, min(m, k), k)
    squares = values.square()
    kept = squares > SINGULAR * squares[:, :1]
    inverse = torch.where(kept, 1 / torch.where(kept, squares + ridge, 1), 0)
    along = (vectors @ b[..., None])[..., 0] * kept
    solution = (vectors.mT @ (inverse * along)[..., None])[..., 0]
    if ridge > 0:  # off the span of the rows of D_p the matrix is ridge I
        solution = solution + (b - (vectors.mT @ along[..., None])[..., 0]) / ridge
    return solution


def _chunks(support: Tensor, m: int) -> Iterator[tuple[Tensor, int]]:
    """Rows with supports of about one size, and that size padded."""
    sizes = support.sum(-1)
    padded = (sizes + PADDING - 1) // PADDING * PADDING
    padded = torch.where(sizes <= m, padded.clamp_max(m), padded.clamp_max(support.shape[1]))
    for k in padded.unique().tolist():
        if k > 0:
            rows = (padded == k).nonzero()[:, 0]
            yield from ((chunk, k) for chunk in rows.split(max(1, CHUNK_ENTRIES // (k * m))))
