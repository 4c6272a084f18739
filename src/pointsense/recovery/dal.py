"""Dual augmented Lagrangian with semismooth Newton steps, the solver of the paper's predecessors.

Tomioka, Sugiyama 2009; Tomioka, Suzuki, Sugiyama 2011 (whose penalty grows by 2 a round: faster growth makes
the inner problems so ill-conditioned that Newton's line search stalls). A round minimises over the dual alpha

    phi(alpha) = 1/2 |alpha|^2 - x^T alpha + 1/(2 eta) |s|^2,   s = soft(a + eta D^T alpha, eta lam),

whose gradient is ``alpha - x + D s`` and whose generalised Hessian is ``I + eta D_+ D_+^T`` over the
non-zeros of s; then ``a <- s``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .certificate import relative_gap
from .problem import Problem, soft_threshold

GROWTH = 2.0
ARMIJO = 1e-4
HALVINGS = 30
CHUNK_ENTRIES = 1 << 22


def dal(problem: Problem, tol: float, max_iter: int) -> tuple[Tensor, Tensor]:
    """Solve every right-hand side to a relative gap of `tol`; each is in its own round.

    Parameters
    ----------
    problem : Problem
        Of B right-hand sides and n columns, without bounds.

    Returns
    -------
    code : Tensor, (B, n)
    iterations : Tensor, (B,), int64
        Newton steps and multiplier updates.
    """
    X, D, lam = problem.X, problem.D, problem.lam
    code = X.new_zeros(len(X), D.shape[1]) if problem.start is None else problem.start.clone()
    rows = torch.arange(len(X), device=X.device)
    iterations = torch.full_like(rows, max_iter)
    unit = (X @ D).abs().amax(-1, keepdim=True)  # lam_max: makes the first penalty independent of units
    X, lam, a = X / unit, lam[:, None] / unit, code / unit
    eta = torch.ones_like(lam) / D.square().sum(0).amax()
    alpha = X - a @ D.T
    for k in range(1, max_iter + 1):
        s = soft_threshold(a + eta * (alpha @ D), eta * lam)
        gradient = alpha - X + s @ D.T
        done = relative_gap(s, X, D, lam[:, 0]) <= tol
        code[rows] = s * unit
        iterations[rows[done]] = k
        if bool(done.all()):
            break
        accuracy = (s - a).norm(dim=-1, keepdim=True) / eta.sqrt()
        solved = gradient.norm(dim=-1, keepdim=True) <= accuracy
        inner = ~solved[:, 0] & ~done
        direction = -_newton(D, s[inner] != 0, eta[inner, 0], gradient[inner])
        a, eta = torch.where(solved, s, a), torch.where(solved, GROWTH * eta, eta)
        alpha = alpha.index_copy(
            0,
            inner.nonzero()[:, 0],
            _armijo(X[inner], D, lam[inner], a[inner], eta[inner], alpha[inner], gradient[inner], direction),
        )
        rows, X, lam, unit, a, eta, alpha = (v[~done] for v in (rows, X, lam, unit, a, eta, alpha))
    return code, iterations


def _newton(D: Tensor, active: Tensor, eta: Tensor, gradient: Tensor) -> Tensor:
    """``(I + eta D_+ D_+^T)^-1 gradient``: (B, m)."""
    m, n = D.shape
    out = torch.empty_like(gradient)
    for rows in torch.arange(len(active), device=D.device).split(max(1, CHUNK_ENTRIES // (m * max(m, n)))):
        H = (eta[rows, None, None] * active[rows, None, :] * D) @ D.T
        H.diagonal(dim1=-2, dim2=-1).add_(1)
        factor = torch.linalg.cholesky_ex(H)[0]
        out[rows] = torch.cholesky_solve(gradient[rows, :, None], factor)[..., 0]
    return out


def _armijo(
    X: Tensor,
    D: Tensor,
    lam: Tensor,
    a: Tensor,
    eta: Tensor,
    alpha: Tensor,
    gradient: Tensor,
    direction: Tensor,
) -> Tensor:
    """alpha plus the longest of the steps 1, 1/2, 1/4, ... that decreases phi enough."""

    def phi(alpha: Tensor) -> Tensor:
        s = soft_threshold(a + eta * (alpha @ D), eta * lam)
        return ((alpha / 2 - X) * alpha).sum(-1) + s.square().sum(-1) / (2 * eta[:, 0])

    start, slope = phi(alpha), (gradient * direction).sum(-1)
    rounding = 1e-14 * start.abs()
    step = torch.ones_like(slope)
    for _ in range(HALVINGS):
        short = phi(alpha + step[:, None] * direction) > start + ARMIJO * step * slope + rounding
        if not bool(short.any()):
            break
        step = torch.where(short, step / 2, step)
    return alpha + step[:, None] * direction
