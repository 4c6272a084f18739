"""The default solver: FISTA finds the support, a float64 solve on it finishes, the homotopy takes the rest.

float32 finds a support but cannot certify a relative gap of 1e-6 (rounding alone costs about as much).
So the iterations run in float32, the system of the support is solved once in float64, and the gap of that
solution decides. What FISTA has not identified after `FISTA_ITERATIONS` goes to the exact path.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .homotopy import homotopy
from .problem import largest_eigenvalue, relative_gap
from .proximal import ProximalState, fista_step
from .support import solve_on_support

FISTA_ITERATIONS = 600
CHECK_EVERY = 20


def polish(X: Tensor, D: Tensor, lam: Tensor, code: Tensor) -> Tensor:
    """Minimiser among the codes with the support and the signs of `code`: ``G a_p = D_p^T x - lam s_p``.

    Only a solution of the lasso if its signs come out as assumed; the duality gap tells. (B, n).
    """
    right = X @ D - lam[:, None] * torch.sign(code)
    return solve_on_support(D, code != 0, right)[0]


def hybrid(
    X: Tensor, D: Tensor, lam: Tensor, start: Tensor | None, tol: float, max_iter: int
) -> tuple[Tensor, Tensor]:
    """Solve every right-hand side to a relative gap of `tol`.

    Parameters
    ----------
    X : Tensor, (B, m), float64
    D : Tensor, (m, n), float64
    lam : Tensor, (B,), float64
    start : Tensor, (B, n), float64, or None

    Returns
    -------
    code : Tensor, (B, n), float64
    iterations : Tensor, (B,), int64
        Of FISTA, plus the pieces of the path where it was followed.
    """
    m = len(D)
    # float32 works without units, lest squares overflow: D/d, x/e, lam/(d e) have the solution a d/e.
    length, size = D.norm(dim=0).amax(), X.abs().amax(-1, keepdim=True)
    D32, X32, lam32 = (D / length).float(), (X / size).float(), (lam[:, None] / (length * size)).float()
    unit = size / length
    c = largest_eigenvalue(D32) * (1 + 1e-5)
    code = X.new_zeros(len(X), D.shape[1]) if start is None else start.clone()
    state = ProximalState.begin((code / unit).float())
    signs = torch.sign(state.a)
    rows = torch.arange(len(X), device=X.device)
    budget = min(max_iter, FISTA_ITERATIONS)
    iterations = torch.full_like(rows, budget)
    best = torch.full_like(lam, torch.inf)
    for k in range(1, budget + 1):
        state = fista_step(state, X32, D32, lam32, c)
        if k % CHECK_EVERY and k < budget:
            continue
        before, signs = signs, torch.sign(state.a)
        number = (signs != 0).sum(-1)
        # A support that has settled, or is cheap to try, may be the right one.
        trial = (number <= m) & ((signs == before).all(-1) | (4 * number <= m))
        candidate = state.a.double() * unit
        candidate[trial] = polish(X[trial], D, lam[trial], candidate[trial])
        gap = relative_gap(candidate, X, D, lam)
        better = gap < best[rows]
        code[rows[better]], best[rows[better]] = candidate[better], gap[better]
        done = gap <= tol
        iterations[rows[done]] = k
        if bool(done.any()):
            rows, X, lam, unit = rows[~done], X[~done], lam[~done], unit[~done]
            X32, lam32, signs, state = X32[~done], lam32[~done], signs[~done], state[~done]
        if len(rows) == 0:
            break
    if len(rows) and max_iter > budget:
        exact, pieces = homotopy(X, D, lam, None, tol, max_iter - budget)
        better = relative_gap(exact, X, D, lam) < best[rows]
        code[rows[better]] = exact[better]
        iterations[rows] += pieces
    return code, iterations
