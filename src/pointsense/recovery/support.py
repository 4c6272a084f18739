"""Linear systems on the supports of a batch of codes: what polishing and the exact gradient share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pointsense.recovery.problem import GRAM_LIMIT

#: Cholesky pivots below this fraction of the largest diagonal entry count as zero.
SINGULAR = 1e-12
#: Supports are padded to a multiple of this, so that few batched factorisations serve all of them.
PADDING = 8
#: Entries of one batch of padded matrices (64 MiB of float64).
CHUNK_ENTRIES = 1 << 23


def solve_on_support(
    D: Tensor, support: Tensor, rhs: Tensor, ridge: float = 0.0, *, least_norm: bool = True
) -> tuple[Tensor, Tensor]:
    """Solve ``(D_p^T D_p + ridge I) u_p = rhs_p`` for every row; u is zero off the support.

    Parameters
    ----------
    D : Tensor, (m, n)
    support : Tensor, (B, n), bool
    rhs : Tensor, (B, n)
    ridge : float
    least_norm : bool
        Give rows whose matrix is singular their minimum-norm solution; zero otherwise.

    Returns
    -------
    u : Tensor, (B, n)
    singular : Tensor, (B,), bool
    """
    n = D.shape[1]
    u = torch.zeros_like(rhs)
    singular = torch.zeros(len(rhs), dtype=torch.bool, device=D.device)
    gram = D.T @ D if n <= GRAM_LIMIT else None
    for rows, k in _chunks(support, D.shape[0] if gram is None else 0):
        present, index = torch.sort(support[rows], dim=1, descending=True, stable=True)
        present, index = present[:, :k], index[:, :k]
        if gram is None:
            columns = D.T[index].mT  # (b, m, k)
            G = columns.mT @ columns
        else:
            G = gram[index[:, :, None], index[:, None, :]]
        # Padding becomes an identity block with a zero right-hand side.
        G = G * (present[:, :, None] & present[:, None, :])
        G.diagonal(dim1=-2, dim2=-1).add_(ridge * present + (~present).to(G.dtype))
        b = rhs[rows].gather(1, index) * present
        factor, info = torch.linalg.cholesky_ex(G)
        pivots = factor.diagonal(dim1=-2, dim2=-1).square()
        diagonal = torch.where(present, G.diagonal(dim1=-2, dim2=-1), 0).amax(-1, keepdim=True)
        bad = (info > 0) | ~(pivots > SINGULAR * diagonal).logical_or(~present).all(-1)
        if bool(bad.any()):
            factor[bad] = torch.eye(k, dtype=G.dtype, device=G.device)
        solution = torch.cholesky_solve(b[..., None], factor)[..., 0]
        if bool(bad.any()):
            solution[bad] = _minimum_norm(G[bad], b[bad]) if least_norm else 0.0
        u[rows] = torch.zeros_like(u[rows]).scatter_(1, index, solution * present)
        singular[rows] = bad
    return u, singular


def _minimum_norm(G: Tensor, b: Tensor) -> Tensor:
    """``G^+ b`` for symmetric positive semi-definite G: (b, k)."""
    values, vectors = torch.linalg.eigh(G)
    keep = values > SINGULAR * values[:, -1:]
    inverse = torch.where(keep, 1 / torch.where(keep, values, 1), 0)
    return (vectors @ (inverse * (vectors.mT @ b[..., None])[..., 0])[..., None])[..., 0]


def _chunks(support: Tensor, m: int) -> Iterator[tuple[Tensor, int]]:
    """Rows with supports of about one size, and that size padded."""
    sizes = support.sum(-1)
    padded = (sizes + PADDING - 1) // PADDING * PADDING
    for size in padded.unique().tolist():
        if size == 0:
            continue
        k = min(size, support.shape[1])
        rows = (padded == size).nonzero()[:, 0]
        yield from ((chunk, k) for chunk in rows.split(max(1, CHUNK_ENTRIES // (k * max(k, m)))))
