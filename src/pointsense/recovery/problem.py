"""The lasso, its certificate of optimality and the choice of its weight.

Right-hand sides are rows: ``x`` is (..., m), the sensing matrix ``D`` is (m, n), codes are (..., n).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

#: Above this number of columns no n x n matrix is ever formed.
GRAM_LIMIT = 4096


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
        Iterations spent; 0 where ``lam >= lam_max``, whose solution is zero.
    converged : Tensor, (...,), bool
        ``duality_gap <= tol``.
    method : str
        The method asked for.
    tol : float
        Relative duality gap asked for.
    """

    code: Tensor
    duality_gap: Tensor
    iterations: Tensor
    converged: Tensor
    method: str
    tol: float


def objective(code: Tensor, x: Tensor, D: Tensor, lam: float | Tensor) -> Tensor:
    """``1/2 |x - D a|^2 + lam |a|_1``, the paper's eq. (4), for every right-hand side: (...,)."""
    residual = x - code @ D.T
    return residual.square().sum(-1) / 2 + lam * code.abs().sum(-1)


def lam_max(x: Tensor, D: Tensor) -> Tensor:
    """Smallest weight whose solution is zero, ``max |D^T x|``, for every right-hand side: (...,)."""
    return (x @ D).abs().amax(-1)


def lam_from_noise(sigma: float | Tensor, D: Tensor) -> Tensor:
    """Weight that keeps white noise out of the support: ``sigma * max_i |D_i| * sqrt(2 ln n)``.

    Parameters
    ----------
    sigma : float or Tensor
        Standard deviation of the noise of one entry of ``x``, in the unit of ``x``.
    D : Tensor, (m, n)

    Returns
    -------
    Tensor
        Of the shape of `sigma`. With it the largest of the n correlations of pure noise with the columns
        stays below the weight with high probability (the universal threshold of Donoho and Johnstone).
    """
    longest = torch.linalg.vector_norm(D, dim=0).amax()
    return sigma * longest * math.sqrt(2 * math.log(D.shape[1]))


def duality_gap(code: Tensor, x: Tensor, D: Tensor, lam: float | Tensor) -> Tensor:
    """Objective at `code` minus a lower bound of the minimum, for every right-hand side: (...,).

    With r = x - D a and c = D^T r the dual point is s r, s = clip(x.r / |r|^2, -lam/|c|_inf, lam/|c|_inf),
    and primal minus dual is ``(1-s)^2 |r|^2 / 2 + sum_i (lam |a_i| - s a_i c_i)``: a sum of terms that
    vanish at the solution, where the difference of the two objectives would lose half of the digits.

    Where lam = 0 no multiple of r is feasible; there the dual point is r's part orthogonal to the columns and
    the gap is half the squared length of the other part.
    """
    residual = x - code @ D.T
    correlation = residual @ D
    energy = residual.square().sum(-1)
    weight = torch.as_tensor(lam, dtype=energy.dtype, device=energy.device).expand(energy.shape)
    tiny = torch.finfo(energy.dtype).tiny
    bound = weight / correlation.abs().amax(-1).clamp_min(tiny)
    scale = (x * residual).sum(-1) / energy.clamp_min(tiny)
    scale = torch.minimum(torch.maximum(scale, -bound), bound)
    slack = (weight[..., None] * code.abs() - scale[..., None] * code * correlation).sum(-1)
    gap = (1 - scale).square() * energy / 2 + slack
    least_squares = (weight == 0) & (energy > 0)
    if bool(least_squares.any()):
        gap = torch.where(least_squares, (residual @ _range_basis(D)).square().sum(-1) / 2, gap)
    return gap.clamp_min(0)  # rounding can leave -1e-20


def relative_gap(code: Tensor, x: Tensor, D: Tensor, lam: float | Tensor) -> Tensor:
    """``duality_gap / (1/2 |x|^2)``; 0 where the code is zero for ``x = 0``: (...,)."""
    gap = duality_gap(code, x, D, lam)
    energy = x.square().sum(-1) / 2
    return torch.where(gap > 0, gap / energy, torch.zeros_like(gap))


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
    """Checked and flattened input of a solver: X (B, m), D (m, n), lam (B,), start (B, n) or None."""

    X: Tensor
    D: Tensor
    lam: Tensor
    start: Tensor | None
    batch_shape: torch.Size

    @classmethod
    def check(cls, x: Tensor, D: Tensor, lam: float | Tensor, warm_start: Tensor | None = None) -> Problem:
        """Check shapes, dtypes and values.

        Raises
        ------
        TypeError
            If x, D or warm_start is not a floating point tensor, or lam neither number nor tensor.
        ValueError
            If shapes or devices do not fit, lam is negative or a value is not finite.
        """
        check_system(x, D)
        batch_shape = x.shape[:-1]
        if isinstance(lam, Real) and not isinstance(lam, bool):
            lam = torch.tensor(float(lam), dtype=torch.float64, device=x.device)
        elif not isinstance(lam, Tensor):
            raise TypeError(f"lam must be a number or a tensor, got {type(lam).__name__}")
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
            _check_float("warm_start", warm_start)
            expected = (*batch_shape, D.shape[1])
            if tuple(warm_start.shape) != expected:
                raise ValueError(
                    f"warm_start must be a code of shape {expected}, got {tuple(warm_start.shape)}"
                )
            _check_finite("warm_start", warm_start)
            start = warm_start.detach().to(x.device).reshape(-1, D.shape[1])
        return cls(x.reshape(-1, D.shape[0]), D, lam.reshape(-1), start, batch_shape)


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


def _range_basis(D: Tensor) -> Tensor:
    """Orthonormal basis of the span of the columns: (m, rank)."""
    U, singular, _ = torch.linalg.svd(D, full_matrices=False)
    cutoff = singular[0] * max(D.shape) * torch.finfo(D.dtype).eps
    return U[:, singular > cutoff]
