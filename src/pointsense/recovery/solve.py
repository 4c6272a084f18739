"""The two entry points: `lasso` solves and certifies, `sparse_code` is differentiable."""

from __future__ import annotations

import warnings
from numbers import Integral

import torch
from torch import Tensor

from . import compiled
from .gradients import SupportRule
from .graphs import outside_of_graphs
from .methods import ITERATIONS, limit_of, solve
from .problem import LassoResult, Problem, Status, check_number, check_start, check_system, per_column
from .proximal import STEPS, unroll
from .supports import Supports
from .systems import polish

METHODS = ("auto", "active_set", "homotopy", *ITERATIONS)
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
    positive: bool = False,
    upper: float | Tensor | None = None,
    weights: Tensor | None = None,
    backend: str = "auto",
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
    method : {"auto", "active_set", "homotopy", "fista", "ista", "dal"}
        "active_set" and "homotopy" are exact; "auto" is the faster of them, the active set. The others iterate;
        "ista" is slow and often runs out of iterations.
    tol : float
        Relative duality gap, ``gap / (1/2 |x|^2)``, to reach.
    max_iter : int, optional
        Default: ``5 (m + n)`` changes of the support for the exact methods, which then solve what rounding has
        stopped once more, slowly and without the Gram matrix; 5 000 iterations for "fista", 1 000 for "ista",
        500 for "dal".
    warm_start : Tensor, (..., n), optional
        Codes to start from. They speed up but change nothing: the solution is certified like any other.
        "homotopy", which begins at the largest weight, does not use them.
    positive : bool
        Only codes of 0 or more.
    upper : float or Tensor, (n,), optional
        Bound of ``|a|``, above 0, for each column or all of them. "dal" knows neither.
    weights : Tensor, (n,), optional
        Weights above 0 of the columns: the penalty is ``lam sum_i weights_i |a_i|``.
    backend : {"auto", "compiled", "torch"}
        Of the exact methods. "auto": compiled by numba for tensors on the CPU, batches of torch otherwise.

    Returns
    -------
    LassoResult
        Whatever the dtype of x, solutions are certified in float64. No gradient passes: see `sparse_code`.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type, shape, name or value.
    """
    _check_options(method, tol, max_iter, backend, positive or upper is not None)
    scale = _scale(weights, x, D)
    scale = None if scale is None else scale.detach()
    problem = _problem(x, D, lam, warm_start, positive, upper, scale).in_float64()
    solution = solve(problem, method, tol, max_iter, backend)
    status = torch.full_like(solution.iterations, Status.STALLED, dtype=torch.int8)
    status[solution.iterations >= limit_of(problem, method, max_iter)] = Status.MAX_ITER
    status[solution.gaps <= tol] = Status.CONVERGED
    shape = problem.batch_shape
    code = solution.code if scale is None else solution.code / scale
    return LassoResult(
        code=code.to(x.dtype).reshape(*shape, D.shape[1]),
        duality_gap=solution.gaps.reshape(shape),
        iterations=solution.iterations.reshape(shape),
        status=status.reshape(shape),
        method=method,
        tol=tol,
    )


@outside_of_graphs
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
    positive: bool = False,
    upper: float | Tensor | None = None,
    weights: Tensor | None = None,
    keep_inverse: bool = True,
    backend: str = "auto",
) -> Tensor:
    """Codes of `lasso`, differentiable once in the tensors x, D, lam, upper and weights.

    Parameters
    ----------
    x, D, lam, method, max_iter, warm_start, positive, upper, weights
        As for `lasso`.
    backend : {"auto", "compiled", "torch"}
        As for `lasso`, but that "auto" solves a GPU's tensors on the CPU where the exact methods are compiled: with
        the copies that is faster than batches of torch, whose pivots are many small kernels.
    backward : {"exact", "paper", "unrolled"}
        "exact": eqs. (5)-(7) and the gradient to lam.
        "paper": the approximation of eqs. (8) and (9).
        "unrolled": automatic differentiation through a fixed number of steps (max_iter, default 100), of ISTA
        with method "ista", of FISTA with "auto" and "fista"; memory grows with the number.
    ridge : float
        Added to the diagonal of D_p^T D_p in the exact rule; damps gradients of large supports.
    tol : float, optional
        Relative duality gap. Default: 1e-6; the exact rule aims at 1e-10, for its gradient needs the very
        support of the solution, and warns above 1e-6. For "unrolled" the number of steps is fixed; a tol
        only makes it warn.
    keep_inverse : bool
        For the exact rule: keep the inverses that the exact methods end with, k (k + 1) / 2 numbers for a support
        of k and at most 32 MiB, instead of solving the supports again in the backward pass.

    Returns
    -------
    Tensor, (..., n)
        In the dtype and on the device of x. Under `torch.compile` the call is a graph break.

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
    ridge = check_number("ridge", ridge, above=False)
    goal = TOL if tol is None else tol
    _check_options(method, goal, max_iter, backend, positive or upper is not None)
    scale = _scale(weights, x, D)
    problem = _problem(x, D, lam, warm_start, positive, upper, scale)
    if backend == "auto" and backward != "unrolled" and method not in ITERATIONS and compiled.installed():
        problem = problem.map(Tensor.cpu)
    wants_gradient = torch.is_grad_enabled() and any(
        v is not None and v.requires_grad for v in (problem.X, problem.D, problem.lam, problem.upper)
    )
    gaps: Tensor | None
    with torch.autocast(problem.X.device.type, enabled=False):
        if backward == "unrolled":
            code, gaps = _unrolled(problem, method, max_iter, tol if wants_gradient else None)
        else:
            exact = backward == "exact"
            aim = SUPPORT_TOL if tol is None and exact else goal
            kept = None
            if wants_gradient and exact and keep_inverse and ridge == 0:
                kept = torch.promote_types(x.dtype, torch.float32)
            checked = problem.in_float64()
            solution = solve(checked, method, aim, max_iter, backend, kept)
            solved, supports = solution.code, solution.supports
            if supports is None:
                solved = polish(checked, solved) if exact else solved
                supports = Supports.of(solved, checked.upper)
            gaps = solution.gaps
            code = SupportRule.apply(
                problem.X, problem.D, problem.lam, problem.upper, solved, supports, exact, ridge, backend
            )
    if wants_gradient and gaps is not None and bool((gaps > goal).any()):
        warnings.warn(
            f"{int((gaps > goal).sum())} of {len(gaps)} right-hand sides have a relative duality gap above "
            f"{goal:g} (up to {float(gaps.max()):.2g}), so their gradient is not that of the lasso: raise "
            "max_iter, or use method='auto'",
            ConvergenceWarning,
            stacklevel=3,  # over `outside_of_graphs`
        )
    code = code.to(x.device)
    if scale is not None:
        code = code / scale
    return code.to(x.dtype).reshape(*problem.batch_shape, D.shape[1])


def _problem(
    x: Tensor,
    D: Tensor,
    lam: float | Tensor,
    warm_start: Tensor | None,
    positive: bool,
    upper: float | Tensor | None,
    scale: Tensor | None,
) -> Problem:
    """The problem without weights: columns D_i / w_i have the codes ``w_i a_i``."""
    if scale is None:
        return Problem.check(x, D, lam, warm_start=warm_start, positive=positive, upper=upper)
    if upper is not None:
        upper = per_column("upper", upper, D)
        finite = torch.isfinite(upper)  # infinity times a weight would have no gradient
        upper = torch.where(finite, torch.where(finite, upper, 1.0) * scale, torch.inf)
    if warm_start is not None:
        check_start(warm_start, (*x.shape[:-1], D.shape[1]))
        warm_start = warm_start * scale.detach()
    return Problem.check(x, D / scale, lam, warm_start=warm_start, positive=positive, upper=upper)


def _scale(weights: Tensor | None, x: Tensor, D: Tensor) -> Tensor | None:
    """Checked weights, (n,)."""
    if weights is None:
        return None
    check_system(x, D)
    scale = per_column("weights", weights, D)
    if not bool(torch.isfinite(scale.detach()).all()):
        raise ValueError("weights contains infinite values: leave such columns out of D")
    return scale


def _unrolled(
    problem: Problem, method: str, max_iter: int | None, tol: float | None
) -> tuple[Tensor, Tensor | None]:
    kind = "fista" if method == "auto" else method
    if kind not in STEPS:
        raise ValueError(f"backward='unrolled' goes with method auto, fista or ista, got {method!r}")
    code = unroll(problem, UNROLLED_STEPS if max_iter is None else max_iter, kind=kind)
    if tol is None:
        return code, None
    with torch.no_grad():
        return code, problem.in_float64().relative_gap(code.double())


def _check_options(method: str, tol: float, max_iter: int | None, backend: str, bounded: bool) -> None:
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if method == "dal" and bounded:
        raise ValueError("method 'dal' knows neither positive nor upper: use 'auto'")
    compiled.check(backend)
    check_number("tol", tol, above=True)
    if max_iter is not None and (
        isinstance(max_iter, bool) or not isinstance(max_iter, Integral) or max_iter < 1
    ):
        raise ValueError(f"max_iter must be an integer, 1 or more, got {max_iter!r}")
