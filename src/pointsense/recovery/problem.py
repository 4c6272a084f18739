"""The lasso: what is asked, checked, and what is answered.

Right-hand sides are rows: ``x`` is (..., m), the sensing matrix ``D`` is (m, n), codes are (..., n).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from numbers import Real

import torch
from torch import Tensor

from .certificate import relative_gap

#: Above this number of columns no n x n matrix is ever formed.
GRAM_LIMIT = 4096
#: Squared distance to the span of the support, relative, below which a column counts as in it.
DEPENDENT = 1e-11


class Status(IntEnum):
    """How the solution of a right-hand side ended."""

    CONVERGED = 0
    MAX_ITER = 1  # it ran out of iterations: the code is the best so far
    STALLED = 2  # rounding ended it above the tolerance: columns too nearly dependent, or a tol too small


@dataclass(frozen=True)
class LassoResult:
    """Solution of a batch of lasso problems, with its certificate.

    Attributes
    ----------
    code : Tensor, (..., n)
        Minimiser, in the dtype and on the device of ``x``.
    duality_gap : Tensor, (...,), float64
        Relative gap ``gap / (1/2 |x|^2)`` of the float64 solution (of which `code` is the rounding);
        an upper bound of how far its objective lies above the minimum. 0 for ``x = 0``.
    iterations : Tensor, (...,), int64
        Iterations spent, or changes of the support; 0 where the solution is zero.
    status : Tensor, (...,), int8
        A `Status` for every right-hand side.
    method : str
        The method asked for.
    tol : float
        Relative duality gap asked for.
    """

    code: Tensor
    duality_gap: Tensor
    iterations: Tensor
    status: Tensor
    method: str
    tol: float

    @property
    def converged(self) -> Tensor:
        """``duality_gap <= tol``: (...,), bool."""
        return self.status == Status.CONVERGED


def largest_eigenvalue(D: Tensor) -> Tensor:
    """Largest eigenvalue of ``D^T D``: the Lipschitz constant of the gradient, scalar."""
    small_gram = D @ D.T if D.shape[0] <= D.shape[1] else D.T @ D
    top = torch.linalg.eigvalsh(small_gram)[-1]
    return top.clamp_min(torch.finfo(D.dtype).tiny)


def soft_threshold(a: Tensor, threshold: Tensor) -> Tensor:
    """``sign(a) max(|a| - threshold, 0)``, the proximal map of the L1 norm."""
    return a - torch.maximum(torch.minimum(a, threshold), -threshold)


@dataclass(frozen=True)
class Problem:
    """Checked and flattened input of a solver.

    Attributes
    ----------
    X, D, lam : Tensor, (B, m), (m, n), (B,)
    start : Tensor, (B, n), or None
    positive : bool
        Codes are 0 or more.
    upper : Tensor, (n,), or None
        Bounds of ``|a|``, above 0; infinite where there is none.
    batch_shape : torch.Size
    """

    X: Tensor
    D: Tensor
    lam: Tensor
    start: Tensor | None
    positive: bool
    upper: Tensor | None
    batch_shape: torch.Size

    @classmethod
    def check(
        cls,
        x: Tensor,
        D: Tensor,
        lam: float | Tensor,
        *,
        warm_start: Tensor | None = None,
        positive: bool = False,
        upper: float | Tensor | None = None,
    ) -> Problem:
        """Check shapes, dtypes and values.

        Raises
        ------
        TypeError
            If x, D or warm_start is not a floating point tensor, or lam or upper neither number nor tensor.
        ValueError
            If shapes or devices do not fit, lam is negative, upper not above 0, or a value is not finite.
        """
        check_system(x, D)
        if not isinstance(positive, bool):
            raise TypeError(f"positive must be True or False, got {type(positive).__name__}")
        batch_shape = x.shape[:-1]
        lam = _as_tensor("lam", lam, x.device)
        _check_finite("lam", lam)
        if bool((lam.detach() < 0).any()):
            raise ValueError(f"lam must not be negative, got {float(lam.detach().min()):g}")
        try:
            lam = lam.to(x.device).expand(batch_shape)
        except RuntimeError:
            raise ValueError(
                f"lam must be one number or one per right-hand side, of a shape that broadcasts to "
                f"{tuple(batch_shape)}, got {tuple(lam.shape)}"
            ) from None
        start = None
        if warm_start is not None:
            check_start(warm_start, (*batch_shape, D.shape[1]))
            start = warm_start.detach().to(x.device).reshape(-1, D.shape[1])
        if upper is not None:
            upper = per_column("upper", upper, D)
            if bool(torch.isinf(upper).all()):
                upper = None
        return cls(x.reshape(-1, D.shape[0]), D, lam.reshape(-1), start, positive, upper, batch_shape)

    def in_float64(self) -> Problem:
        """The same without gradient, in the precision of the solvers."""
        return self.map(lambda tensor: tensor.detach().double())

    def map(self, function: Callable[[Tensor], Tensor]) -> Problem:
        """The same with a function of every tensor."""
        return replace(
            self,
            X=function(self.X),
            D=function(self.D),
            lam=function(self.lam),
            start=None if self.start is None else function(self.start),
            upper=None if self.upper is None else function(self.upper),
        )

    def __getitem__(self, rows: Tensor) -> Problem:
        """Some of the right-hand sides."""
        start = None if self.start is None else self.start[rows]
        return replace(self, X=self.X[rows], lam=self.lam[rows], start=start)

    def relative_gap(self, code: Tensor) -> Tensor:
        """Of codes (B, n): (B,)."""
        return relative_gap(code, self.X, self.D, self.lam, positive=self.positive, upper=self.upper)

    def clip(self, code: Tensor) -> Tensor:
        """The nearest code within the bounds."""
        if self.positive:
            code = code.clamp_min(0)
        if self.upper is not None:
            code = torch.maximum(torch.minimum(code, self.upper), -self.upper)
        return code


def check_start(warm_start: Tensor, shape: tuple[int, ...]) -> None:
    """Raise unless it is a finite floating point tensor of this shape."""
    _check_float("warm_start", warm_start)
    if tuple(warm_start.shape) != shape:
        raise ValueError(f"warm_start must be a code of shape {shape}, got {tuple(warm_start.shape)}")
    _check_finite("warm_start", warm_start)


def check_number(name: str, value: object, *, above: bool) -> float:
    """The value as a float; raise unless it is a real number of 0 or more, or above 0."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not (float(value) > 0 if above else float(value) >= 0):
        raise ValueError(f"{name} must be {'above 0' if above else '0 or more'}, got {value!r}")
    return float(value)


def per_column(name: str, value: float | Tensor, D: Tensor) -> Tensor:
    """One number above 0 for every column, infinite ones allowed: (n,).

    Raises
    ------
    TypeError, ValueError
        If it is neither number nor tensor, has another shape, or is not above 0.
    """
    value = _as_tensor(name, value, D.device).to(D.device)
    if value.ndim > 1 or (value.ndim == 1 and len(value) != D.shape[1]):
        raise ValueError(
            f"{name} must be one number or one for each of the {D.shape[1]} columns, "
            f"got shape {tuple(value.shape)}"
        )
    if not bool((value.detach() > 0).all()):
        raise ValueError(f"{name} must be above 0, got {float(value.detach().min()):g}")
    return value.expand(D.shape[1])


def _as_tensor(name: str, value: object, device: torch.device) -> Tensor:
    if isinstance(value, Real) and not isinstance(value, bool):
        return torch.tensor(float(value), dtype=torch.float64, device=device)
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a number or a tensor, got {type(value).__name__}")
    if value.is_complex():
        raise TypeError(f"{name} must be real, got {value.dtype}")
    return value


def check_system(x: Tensor, D: Tensor) -> None:
    """Raise unless x (..., m) and D (m, n) are finite floating point tensors on one device."""
    _check_float("x", x)
    _check_float("D", D)
    if D.ndim != 2 or 0 in D.shape:
        raise ValueError(f"D must be a non-empty (m, n) matrix, got shape {tuple(D.shape)}")
    if x.ndim == 0 or x.shape[-1] != D.shape[0]:
        raise ValueError(
            f"x must have the {D.shape[0]} rows of D as its last dimension, got shape {tuple(x.shape)}"
        )
    if x.device != D.device:
        raise ValueError(f"x and D must be on one device, got {x.device} and {D.device}")
    _check_finite("x", x)
    _check_finite("D", D)


def _check_float(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be of a real floating point dtype, got {value.dtype}")


def _check_finite(name: str, value: Tensor) -> None:
    if not bool(torch.isfinite(value.detach()).all()):
        raise ValueError(f"{name} contains NaN or infinite values")
