"""Proximal gradient methods: ISTA, and FISTA with adaptive restart.

Daubechies, Defrise, De Mol 2004 (ISTA); Beck, Teboulle 2009 (FISTA); O'Donoghue, Candès 2015 (restart).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .problem import largest_eigenvalue, relative_gap, soft_threshold

CHECK_EVERY = 10


@dataclass
class ProximalState:
    """Iterate a, extrapolated point y (both (B, n)) and momentum t (B, 1) of a batch."""

    a: Tensor
    y: Tensor
    t: Tensor

    @classmethod
    def begin(cls, start: Tensor) -> ProximalState:
        return cls(start, start, torch.ones_like(start[:, :1]))

    def __getitem__(self, rows: Tensor) -> ProximalState:
        return ProximalState(self.a[rows], self.y[rows], self.t[rows])


def ista_step(state: ProximalState, X: Tensor, D: Tensor, lam: Tensor, c: Tensor) -> ProximalState:
    """``a <- soft(a + D^T (x - D a) / c, lam / c)``; lam is (B, 1), c >= the largest eigenvalue of D^T D."""
    gradient_step = torch.addmm(state.a, X - state.a @ D.T, D / c)
    a = soft_threshold(gradient_step, lam / c)
    return ProximalState(a, a, state.t)


def fista_step(state: ProximalState, X: Tensor, D: Tensor, lam: Tensor, c: Tensor) -> ProximalState:
    """The same step from an extrapolated point; its momentum is dropped per row when it points uphill."""
    a = soft_threshold(torch.addmm(state.y, X - state.y @ D.T, D / c), lam / c)
    move = a - state.a
    uphill = ((state.y - a) * move).sum(-1, keepdim=True) > 0
    t = torch.where(uphill, torch.ones_like(state.t), state.t)
    t_next = (1 + torch.sqrt(1 + 4 * t * t)) / 2
    return ProximalState(a, torch.addcmul(a, (t - 1) / t_next, move), t_next)


STEPS = {"ista": ista_step, "fista": fista_step}


def proximal_gradient(
    X: Tensor, D: Tensor, lam: Tensor, start: Tensor | None, tol: float, max_iter: int, *, kind: str
) -> tuple[Tensor, Tensor]:
    """Iterate every right-hand side until its relative gap is below tol; finished ones leave the batch.

    Parameters
    ----------
    X : Tensor, (B, m)
    D : Tensor, (m, n)
    lam : Tensor, (B,)
    start : Tensor, (B, n), or None
    kind : {"ista", "fista"}

    Returns
    -------
    code : Tensor, (B, n)
    iterations : Tensor, (B,), int64
    """
    step = STEPS[kind]
    c = largest_eigenvalue(D)
    code = torch.zeros(len(X), D.shape[1], dtype=X.dtype, device=X.device) if start is None else start.clone()
    iterations = torch.full((len(X),), max_iter, device=X.device)
    rows = torch.arange(len(X), device=X.device)
    state = ProximalState.begin(code)
    X, lam = X, lam[:, None]
    for k in range(1, max_iter + 1):
        state = step(state, X, D, lam, c)
        if k % CHECK_EVERY and k < max_iter:
            continue
        done = relative_gap(state.a, X, D, lam[:, 0]) <= tol
        code[rows] = state.a
        iterations[rows[done]] = k
        if bool(done.all()):
            break
        rows, X, lam, state = rows[~done], X[~done], lam[~done], state[~done]
    return code, iterations


def unroll(X: Tensor, D: Tensor, lam: Tensor, start: Tensor | None, steps: int, *, kind: str) -> Tensor:
    """A fixed number of steps, left to automatic differentiation; the step length counts as a constant."""
    c = largest_eigenvalue(D.detach())
    state = ProximalState.begin(X.new_zeros(len(X), D.shape[1]) if start is None else start)
    for _ in range(steps):
        state = STEPS[kind](state, X, D, lam[:, None], c)
    return state.a
