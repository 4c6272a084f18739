"""Proximal gradient methods: ISTA, and FISTA with adaptive restart.

Daubechies, Defrise, De Mol 2004 (ISTA); Beck, Teboulle 2009 (FISTA); O'Donoghue, Candès 2015 (restart).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .problem import Problem, largest_eigenvalue, soft_threshold

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


def ista_step(state: ProximalState, problem: Problem, c: Tensor) -> ProximalState:
    """``a <- prox(a + D^T (x - D a) / c)``, c >= the largest eigenvalue of D^T D; prox is soft, then clipped."""
    a = _gradient_step(state.a, problem, c)
    return ProximalState(a, a, state.t)


def fista_step(state: ProximalState, problem: Problem, c: Tensor) -> ProximalState:
    """The same step from an extrapolated point; its momentum is dropped per row when it points uphill."""
    a = _gradient_step(state.y, problem, c)
    move = a - state.a
    uphill = ((state.y - a) * move).sum(-1, keepdim=True) > 0
    t = torch.where(uphill, torch.ones_like(state.t), state.t)
    t_next = (1 + torch.sqrt(1 + 4 * t * t)) / 2
    return ProximalState(a, torch.addcmul(a, (t - 1) / t_next, move), t_next)


def _gradient_step(a: Tensor, problem: Problem, c: Tensor) -> Tensor:
    X, D, lam = problem.X, problem.D, problem.lam[:, None]
    return problem.clip(soft_threshold(torch.addmm(a, X - a @ D.T, D / c), lam / c))


STEPS = {"ista": ista_step, "fista": fista_step}


def proximal_gradient(problem: Problem, tol: float, max_iter: int, *, kind: str) -> tuple[Tensor, Tensor]:
    """Iterate every right-hand side until its relative gap is below tol; finished ones leave the batch.

    Parameters
    ----------
    problem : Problem
        Of B right-hand sides and n columns.
    kind : {"ista", "fista"}

    Returns
    -------
    code : Tensor, (B, n)
    iterations : Tensor, (B,), int64
    """
    step = STEPS[kind]
    c = largest_eigenvalue(problem.D)
    code = _start(problem)
    iterations = torch.full((len(code),), max_iter, device=code.device)
    rows = torch.arange(len(code), device=code.device)
    state = ProximalState.begin(code)
    for k in range(1, max_iter + 1):
        state = step(state, problem, c)
        if k % CHECK_EVERY and k < max_iter:
            continue
        done = problem.relative_gap(state.a) <= tol
        code[rows] = state.a
        iterations[rows[done]] = k
        if bool(done.all()):
            break
        rows, problem, state = rows[~done], problem[~done], state[~done]
    return code, iterations


def unroll(problem: Problem, steps: int, *, kind: str) -> Tensor:
    """A fixed number of steps, left to automatic differentiation; the step length counts as a constant.

    In float32 at least: half precision loses the support within a few steps.
    """
    dtype = torch.promote_types(problem.X.dtype, torch.float32)
    problem = problem.map(lambda tensor: tensor.to(dtype))
    c = largest_eigenvalue(problem.D.detach())
    state = ProximalState.begin(_start(problem))
    for _ in range(steps):
        state = STEPS[kind](state, problem, c)
    return state.a


def _start(problem: Problem) -> Tensor:
    if problem.start is None:
        return problem.X.new_zeros(len(problem.X), problem.D.shape[1])
    return problem.clip(problem.start.clone())
