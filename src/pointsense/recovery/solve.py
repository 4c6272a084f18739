"""The two entry points: `lasso` solves and certifies, `sparse_code` is differentiable."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .dal import dal
from .gradients import RULES
from .homotopy import homotopy
from .hybrid import hybrid, polish
from .problem import LassoResult, Problem, duality_gap, relative_gap
from .proximal import STEPS, proximal_gradient, unroll

Solver = Callable[[Tensor, Tensor, Tensor, Tensor | None, float, int], tuple[Tensor, Tensor]]

#: Solver and default of max_iter by name.
METHODS: dict[str, tuple[Solver, int]] = {
    "auto": (hybrid, 20_000),
    "ista": (partial(proximal_gradient, kind="ista"), 1_000),
    "fista": (partial(proximal_gradient, kind="fista"), 5_000),
    "homotopy": (homotopy, 20_000),
    "dal": (dal, 500),
}
BACKWARDS = ("exact", "paper", "unrolled")
TOL = 1e-6
#: Aim of the exact rule unless told otherwise: its gradient needs the very support of the solution.
SUPPORT_TOL = 1e-10
UNROLLED_STEPS = 100


class ConvergenceWarning(RuntimeWarning):
    """A gradient was asked for at codes whose duality gap is above the tolerance."""


def lasso(
    x: Tensor,
    D: Tensor,
    lam: float | Tensor,
    *,
    method: str = "auto",
    tol: float = TOL,
    max_iter: int | None = None,
    warm_start: Tensor | None = None,
) -> LassoResult:
    """Minimise ``1/2 |x - D a|^2 + lam |a|_1`` for every right-hand side, with a certificate.

    Parameters
    ----------
    x : Tensor, (..., m)
        Measurements, on the device of D.
    D : Tensor, (m, n)
        Sensing matrix.
    lam : float or Tensor
        Absolute weight, one number or one per right-hand side; see `lam_max` and `lam_from_noise`.
    method : {"auto", "ista", "fista", "homotopy", "dal"}
        "auto": FISTA until the support settles, a solve on it, the homotopy for what is left.
        "homotopy": exact, on the CPU. "ista" is slow and often runs out of iterations.
    tol : float
        Relative duality gap, ``gap / (1/2 |x|^2)``, to reach.
    max_iter : int, optional
        Default: 20 000 for "auto" and "homotopy", 5 000 for "fista", 1 000 for "ista", 500 for "dal".
    warm_start : Tensor, (..., n), optional
        Codes to start from; not used by "homotopy".

    Returns
    -------
    LassoResult
        Whatever the dtype of x, solutions are certified in float64. No gradient passes: see `sparse_code`.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type, shape, name or value.
    """
    _check_options(method, tol, max_iter)
    problem = Problem.check(x, D, lam, warm_start)
    code, gap, iterations = _solve(problem, method, tol, max_iter)
    shape = problem.batch_shape
    return LassoResult(
        code=code.to(x.dtype).reshape(*shape, D.shape[1]),
        duality_gap=gap.reshape(shape),
        iterations=iterations.reshape(shape),
        converged=(gap <= tol).reshape(shape),
        method=method,
        tol=tol,
    )


def sparse_code(
    x: Tensor,
    D: Tensor,
    lam: float | Tensor,
    *,
    method: str = "auto",
    backward: str = "exact",
    ridge: float = 0.0,
    tol: float | None = None,
    max_iter: int | None = None,
    warm_start: Tensor | None = None,
) -> Tensor:
    """Codes of `lasso`, differentiable in the tensors x, D and lam.

    Parameters
    ----------
    x, D, lam, method, max_iter, warm_start
        As for `lasso`.
    backward : {"exact", "paper", "unrolled"}
        "exact": eqs. (5)-(7) and the gradient to lam, after one more solve on the support in float64.
        "paper": the approximation of eqs. (8) and (9).
        "unrolled": automatic differentiation through a fixed number of steps (max_iter, default 100), of ISTA
        for ``method="ista"``, of FISTA with restart for "auto" and "fista"; memory grows with the number.
    ridge : float
        Added to the diagonal of D_p^T D_p in the exact rule; damps gradients of large supports.
    tol : float, optional
        Relative duality gap. Default: 1e-6; the exact rule aims at 1e-10, for its gradient needs the very
        support of the solution, and warns above 1e-6. For "unrolled" the number of steps is fixed; a tol
        only makes it warn.

    Returns
    -------
    Tensor, (..., n)
        In the dtype and on the device of x.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type, shape, name or value.

    Warns
    -----
    ConvergenceWarning
        If a gradient is asked for and a duality gap is above the tolerance.
    RuntimeWarning
        Once, if D_p^T D_p is singular: the minimum-norm solution is taken.
    """
    if backward not in BACKWARDS:
        raise ValueError(f"backward must be one of {', '.join(BACKWARDS)}, got {backward!r}")
    if not ridge >= 0:
        raise ValueError(f"ridge must be 0 or more, got {ridge!r}")
    goal = TOL if tol is None else tol
    _check_options(method, goal, max_iter)
    problem = Problem.check(x, D, lam, warm_start)
    wants_gradient = torch.is_grad_enabled() and any(
        isinstance(v, Tensor) and v.requires_grad for v in (x, D, lam)
    )
    with torch.autocast(x.device.type, enabled=False):
        if backward == "unrolled":
            code, gap = _unrolled(
                problem, method, max_iter, None if tol is None or not wants_gradient else tol
            )
        else:
            aim = SUPPORT_TOL if tol is None and backward == "exact" else goal
            solved, gap, _ = _solve(problem, method, aim, max_iter)
            if backward == "exact":
                solved = _resolved(problem, solved)
            code = RULES[backward].apply(problem.X, problem.D, problem.lam, solved, ridge)
    if wants_gradient and gap is not None and bool((gap > goal).any()):
        warnings.warn(
            f"{int((gap > goal).sum())} of {len(gap)} right-hand sides have a relative duality gap above "
            f"{goal:g} (up to {float(gap.max()):.2g}), so their gradient is not that of the lasso: raise "
            "max_iter, or use method='auto'",
            ConvergenceWarning,
            stacklevel=2,
        )
    return code.to(x.dtype).reshape(*problem.batch_shape, D.shape[1])


def _solve(problem: Problem, method: str, tol: float, max_iter: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (B, n), relative gaps (B,), iterations (B,), in float64."""
    solver, default_iterations = METHODS[method]
    with torch.no_grad(), torch.autocast(problem.X.device.type, enabled=False):
        X, D, lam = problem.X.double(), problem.D.double(), problem.lam.double()
        code = X.new_zeros(len(X), D.shape[1])
        iterations = torch.zeros(len(X), dtype=torch.long, device=X.device)
        rest = (X @ D).abs().amax(-1) > lam  # elsewhere the solution is zero
        if bool(rest.any()):
            start = None if problem.start is None else problem.start.double()[rest]
            steps = default_iterations if max_iter is None else max_iter
            code[rest], iterations[rest] = solver(X[rest], D, lam[rest], start, tol, steps)
        return code, relative_gap(code, X, D, lam), iterations


def _resolved(problem: Problem, code: Tensor) -> Tensor:
    """The solution on the support of `code`, unless its signs say that this is not the lasso's support."""
    with torch.no_grad():
        X, D, lam = problem.X.double(), problem.D.double(), problem.lam.double()
        exact = polish(X, D, lam, code)
        better = duality_gap(exact, X, D, lam) <= duality_gap(code, X, D, lam)
        better &= (torch.sign(exact) == torch.sign(code)).all(-1)
        return torch.where(better[:, None], exact, code)


def _unrolled(
    problem: Problem, method: str, max_iter: int | None, tol: float | None
) -> tuple[Tensor, Tensor | None]:
    kind = "fista" if method == "auto" else method
    if kind not in STEPS:
        raise ValueError(f"backward='unrolled' goes with method auto, fista or ista, got {method!r}")
    # Half precision loses the support within a few steps.
    dtype = torch.promote_types(problem.X.dtype, torch.float32)
    X, D, lam = problem.X.to(dtype), problem.D.to(dtype), problem.lam.to(dtype)
    start = None if problem.start is None else problem.start.to(dtype)
    code = unroll(X, D, lam, start, UNROLLED_STEPS if max_iter is None else max_iter, kind=kind)
    if tol is None:
        return code, None
    with torch.no_grad():
        return code, relative_gap(code.double(), X.double(), D.double(), lam.double())


def _check_options(method: str, tol: float, max_iter: int | None) -> None:
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if not tol > 0:
        raise ValueError(f"tol must be a relative duality gap above 0, got {tol!r}")
    if max_iter is not None and (isinstance(max_iter, bool) or not isinstance(max_iter, int) or max_iter < 1):
        raise ValueError(f"max_iter must be an integer, 1 or more, got {max_iter!r}")
