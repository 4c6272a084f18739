"""The objective of the lasso and the certificate of a code: its duality gap."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 4


def objective(code: Tensor, x: Tensor, D: Tensor, lam: float | Tensor) -> Tensor:
    """``1/2 |x - D a|^2 + lam |a|_1``, the paper's eq. (4), for every right-hand side: (...,)."""
    residual = x - code @ D.T
    return residual.square().sum(-1) / 2 + lam * code.abs().sum(-1)


def lam_max(x: Tensor, D: Tensor, *, positive: bool = False) -> Tensor:
    """Smallest weight whose solution is zero, ``max |D^T x|``, for every right-hand side: (...,).

    With `positive` it is ``max(0, max D^T x)``.
    """
    c = x @ D
    return c.amax(-1).clamp_min(0) if positive else c.abs().amax(-1)


def duality_gap(
    code: Tensor,
    x: Tensor,
    D: Tensor,
    lam: float | Tensor,
    *,
    positive: bool = False,
    upper: float | Tensor | None = None,
) -> Tensor:
    """Objective at `code` minus a lower bound of the minimum, for every right-hand side: (...,).

    With r = x - D a and c = D^T r the dual point is s r, s = clip(x.r / |r|^2, -lam/|c|_inf, lam/|c|_inf),
    and primal minus dual is ``(1-s)^2 |r|^2 / 2 + sum_i (lam |a_i| - s a_i c_i)``: a sum of terms that
    vanish at the solution, where the difference of the two objectives would lose half of the digits.

    With `positive` only c has to stay below lam / s, not -c. A column of finite `upper` bound u sets no limit to s:
    it adds ``u max(0, s |c_i| - lam)``; then s is 1, or what the columns without a bound allow. With either,
    correlations below their own rounding, ``e_i = 4 eps |D_i| (|x| + sum_j |a_j| |D_j|)``, count as zero, for which
    ``e_i |a_i|`` is added, and the gap of a code outside its bounds is infinite.

    Where lam = 0 and nothing is bounded no multiple of r is feasible; there the dual point is r's part orthogonal
    to the columns and the gap is half the squared length of the other part.
    """
    residual = x - code @ D.T
    correlation = residual @ D
    charge: float | Tensor = 0.0
    if positive or upper is not None:
        lengths = torch.linalg.vector_norm(D, dim=0)
        terms = torch.linalg.vector_norm(x, dim=-1) + code.abs() @ lengths
        rounding = ROUNDING * torch.finfo(x.dtype).eps * lengths * terms[..., None]
        vanishing = correlation.abs() <= rounding
        correlation = correlation.masked_fill(vanishing, 0)
        charge = (rounding * code.abs() * vanishing).sum(-1)
    gap = gap_of(code, x, lam, residual, correlation, positive=positive, upper=upper)
    if positive or upper is not None:  # other bounds of the minimum: without upper, and with s = 1
        for multiple in (None, 1.0):
            other = gap_of(code, x, lam, residual, correlation, positive=positive, multiple=multiple)
            gap = torch.minimum(gap, other)
    least_squares = torch.as_tensor(lam, device=x.device) == 0
    if upper is None and not positive and bool(least_squares.any()):
        off = (residual @ _range_basis(D)).square().sum(-1) / 2
        gap = torch.where(least_squares & (residual.square().sum(-1) > 0), off, gap)
    return torch.where(_outside(code, positive, upper), torch.inf, gap + charge)


def _outside(code: Tensor, positive: bool, upper: float | Tensor | None) -> Tensor:
    """Which codes leave their bounds, by more than their rounding in float32: (...,), bool."""
    outside = (code < 0) if positive else torch.zeros_like(code, dtype=torch.bool)
    if upper is not None:
        outside = outside | (code.abs() > torch.as_tensor(upper, device=code.device) * (1 + 1e-6))
    return outside.any(-1)


def gap_of(
    code: Tensor,
    x: Tensor,
    lam: float | Tensor,
    residual: Tensor,
    correlation: Tensor,
    *,
    positive: bool = False,
    upper: float | Tensor | None = None,
    multiple: float | None = None,
) -> Tensor:
    """`duality_gap` from residual ``x - D a`` and correlation ``D^T (x - D a)``; too large where lam = 0: (...,).

    `multiple` is the s of the dual point before it is made feasible, x.r / |r|^2 by default.
    """
    energy = residual.square().sum(-1)
    weight = torch.as_tensor(lam, dtype=energy.dtype, device=energy.device).expand(energy.shape)
    tiny = torch.finfo(energy.dtype).tiny
    limiting = correlation
    scale = (x * residual).sum(-1) / energy.clamp_min(tiny)
    if upper is not None:
        upper = torch.as_tensor(upper, dtype=energy.dtype, device=energy.device)
        limiting = torch.where(torch.isinf(upper), correlation, 0)
        multiple = 1.0
    if multiple is not None:
        scale = torch.full_like(scale, multiple)
    highest, lowest = limiting.amax(-1).clamp_min(0), (-limiting).amax(-1).clamp_min(0)
    if not positive:
        highest = lowest = torch.maximum(highest, lowest)
    greatest = torch.where(highest > 0, weight / highest.clamp_min(tiny), torch.inf)
    least = torch.where(lowest > 0, -weight / lowest.clamp_min(tiny), -torch.inf)
    scale = torch.maximum(torch.minimum(scale, greatest), least)
    slack = (weight[..., None] * code.abs() - scale[..., None] * code * correlation).sum(-1)
    if upper is not None:
        reach = scale[..., None] * (correlation if positive else correlation.abs())
        excess = (reach - weight[..., None]).clamp_min(0)
        slack = slack + torch.where(torch.isinf(upper), 0, upper * excess).sum(-1)
    gap = (1 - scale).square() * energy / 2 + slack
    return gap.clamp_min(0)  # rounding can leave -1e-20


def relative_gap(
    code: Tensor,
    x: Tensor,
    D: Tensor,
    lam: float | Tensor,
    *,
    positive: bool = False,
    upper: float | Tensor | None = None,
) -> Tensor:
    """``duality_gap / (1/2 |x|^2)``; 0 where the code is zero for ``x = 0``: (...,)."""
    return relative(duality_gap(code, x, D, lam, positive=positive, upper=upper), x)


def relative(gap: Tensor, x: Tensor) -> Tensor:
    """A gap relative to ``1/2 |x|^2``; 0 for ``x = 0`` and no gap; inf where numbers overflow or vanish: (...,)."""
    energy = x.square().sum(-1) / 2
    ratio = gap / energy
    ratio = torch.where(torch.isfinite(ratio) & torch.isfinite(energy), ratio, torch.inf)
    return torch.where((gap == 0) & (x == 0).all(-1), torch.zeros_like(ratio), ratio)


def _range_basis(D: Tensor) -> Tensor:
    """Orthonormal basis of the span of the columns: (m, rank)."""
    U, singular, _ = torch.linalg.svd(D, full_matrices=False)
    cutoff = singular[0] * max(D.shape) * torch.finfo(D.dtype).eps
    return U[:, singular > cutoff]
