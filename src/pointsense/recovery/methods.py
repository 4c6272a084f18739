"""The methods by their names: each solves a problem in float64; what an exact one leaves in doubt is solved again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from . import compiled
from .dal import dal
from .orthogonal import orthogonal_active_set
from .problem import Problem
from .proximal import proximal_gradient
from .supports import Solution, Supports

Iteration = Callable[[Problem, float, int], tuple[Tensor, Tensor]]

#: Iterative solvers, and the default of max_iter.
ITERATIONS: dict[str, tuple[Iteration, int]] = {
    "fista": (partial(proximal_gradient, kind="fista"), 5_000),
    "ista": (partial(proximal_gradient, kind="ista"), 1_000),
    "dal": (dal, 500),
}
DOUBTFUL = 1e-12  # relative gap above which an exact method's code is certified once more
#: Bytes of the inverses that one call keeps for its backward pass; above it they are computed again.
INVERSE_LIMIT = 32 << 20


def limit_of(problem: Problem, method: str, max_iter: int | None) -> int:
    """The most steps, or changes of a support: as given, else the method's own number."""
    if max_iter is not None:
        return max_iter
    return ITERATIONS[method][1] if method in ITERATIONS else 5 * sum(problem.D.shape)


def solve(
    problem: Problem,
    method: str,
    tol: float,
    max_iter: int | None,
    backend: str,
    kept: torch.dtype | None = None,
) -> Solution:
    """The solution of a problem in float64; with the inverses of its supports in the dtype `kept`."""
    limit = limit_of(problem, method, max_iter)
    with torch.no_grad(), torch.autocast(problem.X.device.type, enabled=False):
        if method in ITERATIONS or len(problem.X) == 0:
            return _iterate(problem, method, tol, limit)
        if compiled.serves(backend, problem.X):
            from .compiled.driver import solve as solve_exactly
        else:
            from .batched.driver import solve as solve_exactly
        solution = solve_exactly(
            problem, path=method == "homotopy", max_changes=limit, kept=kept, limit=INVERSE_LIMIT
        )
        # What was cut short, or lies where the solvers' own formula does not reach (lam = 0, tight bounds).
        doubtful = ~(solution.gaps <= DOUBTFUL) | (solution.iterations >= limit)
        if problem.positive or problem.upper is not None:
            clipped = problem.clip(solution.code)
            doubtful |= (clipped != solution.code).any(-1)
            solution.code[doubtful] = clipped[doubtful]
        if bool(doubtful.any()):
            solution.gaps[doubtful] = problem[doubtful].relative_gap(solution.code[doubtful])
        failed = ~(solution.gaps <= tol)
        if bool(failed.any()) and limit >= limit_of(problem, method, None):
            solution = _rescue(problem, solution, failed, limit)
        return solution


def _rescue(problem: Problem, solution: Solution, failed: Tensor, limit: int) -> Solution:
    """Solve without the Gram matrix, one after the other, what its rounding stopped; keep what is better."""
    code, gaps, iterations = solution.code, solution.gaps, solution.iterations
    other, spent = orthogonal_active_set(problem[failed], limit)
    better = problem[failed].relative_gap(other)
    iterations[failed] += spent
    rows = failed.nonzero()[:, 0][better < gaps[failed]]
    code[rows], gaps[rows] = other[better < gaps[failed]], better[better < gaps[failed]]
    return Solution(code, gaps, iterations, Supports.of(code, problem.upper))


def _iterate(problem: Problem, method: str, tol: float, limit: int) -> Solution:
    code = problem.X.new_zeros(len(problem.X), problem.D.shape[1])
    iterations = torch.zeros(len(code), dtype=torch.long, device=code.device)
    c = problem.X @ problem.D
    rest = (c if problem.positive else c.abs()).amax(-1) > problem.lam  # elsewhere the solution is zero
    if bool(rest.any()):
        code[rest], iterations[rest] = ITERATIONS[method][0](problem[rest], tol, limit)
    return Solution(code, problem.relative_gap(code), iterations)
