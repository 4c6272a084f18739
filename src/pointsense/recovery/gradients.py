"""Backpropagation through the lasso, the paper's eqs. (5)-(9) and their counterpart for the weight.

On a fixed support p with signs s the minimiser is ``a_p = M (D_p^T x - lam s)``, ``M = (D_p^T D_p)^-1``.
For a loss with gradient g = da_p, let r = x - D a and u = M g. Then

    dx   = D_p u                          eq. (5)
    dD_p = r u^T - (D_p u) a_p^T          eq. (6)
    dD_q = 0                              eq. (7)
    dlam = -s^T u                         (not in the paper)

A column at its upper bound, a_b = s_b upper_b, is not in p and not in s, but D_b a_b is part of what D a explains:
the second term of (6) is over all columns, and

    dupper_b = s_b (da_b - D_b^T D_p u).

The paper's approximation, eqs. (8) and (9), is the same with u = g, and so is its counterpart for the weight. For x
that is the Gauss-Newton direction: moving x by -D_p g moves a_p by exactly -g while the support holds. All of it
equals the derivative of one ISTA step of unit length at the solution.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from . import compiled
from .problem import GRAM_LIMIT
from .supports import ROUGH, Supports
from .systems import solve_on_support

_said_singular = False


class SupportRule(Function):
    """Pass a solution through; pull its gradient back to x, D, lam and upper by the exact or the paper's rule."""

    @staticmethod
    def forward(
        ctx: Any,
        X: Tensor,
        D: Tensor,
        lam: Tensor,
        upper: Tensor | None,
        code: Tensor,
        supports: Supports,
        exact: bool,
        ridge: float,
        backend: str,
    ) -> Tensor:
        """Code (B, n), in the dtype of X (B, m). Kept are X, D, the code and its supports."""
        out = code.to(X.dtype, copy=True)
        ctx.save_for_backward(X, D, out, supports.sizes, supports.members, supports.inverse)
        ctx.exact, ctx.ridge, ctx.backend, ctx.lam_dtype = exact, ridge, backend, lam.dtype
        ctx.upper_dtype = None if upper is None else upper.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        X, D, code, *supports = ctx.saved_tensors
        need_x, need_D, need_lam, need_upper = ctx.needs_input_grad[:4]
        in_rows = compiled.serves(ctx.backend, X) and D.shape[1] <= GRAM_LIMIT
        pull_back = _in_rows if in_rows else _in_batch
        dx, dD, dlam = pull_back(X, D, code, grad, Supports(*supports), ctx.exact, ctx.ridge, need_D)
        d_upper = None
        if need_upper:
            resting = torch.sign(code).masked_fill(Supports(*supports).mask(D.shape[1]), 0).double()
            d_upper = (resting * (grad.double() - dx @ D.double())).sum(0).to(ctx.upper_dtype)
        return (
            dx.to(X.dtype) if need_x else None,
            dD.to(D.dtype) if dD is not None else None,
            dlam.to(ctx.lam_dtype) if need_lam else None,
            d_upper,
            *[None] * 5,
        )


def _in_batch(
    X: Tensor,
    D: Tensor,
    code: Tensor,
    grad: Tensor,
    supports: Supports,
    exact: bool,
    ridge: float,
    need_D: bool,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """dx (B, m), dD (m, n) or None, dlam (B,), in float64, by products of whole matrices."""
    X, D, a = X.double(), D.double(), code.double()
    support = supports.mask(D.shape[1])
    g = grad.double() * support
    if not exact:
        u = g
    elif supports.inverse is not None and ridge == 0:
        u = supports.multiply_inverse(grad)
        missed = ((u @ D.T) @ D * support - g).abs().amax(-1)
        rough = ~(missed <= ROUGH[supports.inverse.dtype] * g.abs().amax(-1))  # also where M overflows
        if bool(rough.any()):
            u[rough] = _solved(D, support[rough], g[rough], ridge)
    else:
        u = _solved(D, support, g, ridge)
    along = u @ D.T  # D_p u, eqs. (5) and (8)
    dD = None
    if need_D:
        dD = (X - a @ D.T).T @ u - along.T @ a  # eqs. (6), (7) and (9)
    return along, dD, -(torch.sign(a) * u).sum(-1)


def _solved(D: Tensor, support: Tensor, g: Tensor, ridge: float) -> Tensor:
    u, singular = solve_on_support(D, support, g, ridge)
    if bool(singular.any()):
        _say_singular()
    return u


def _in_rows(
    X: Tensor,
    D: Tensor,
    code: Tensor,
    grad: Tensor,
    supports: Supports,
    exact: bool,
    ridge: float,
    need_D: bool,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The same, compiled: row after row, on the support alone."""
    from .compiled.driver import pull_back

    if X.dtype not in (torch.float32, torch.float64):
        X, code, grad = X.float(), code.float(), grad.float()
    dx, dD, dlam, singular = pull_back(X, D, code, grad, supports, exact=exact, ridge=ridge, need_D=need_D)
    if bool(singular.any()):
        left = singular.nonzero()[:, 0]
        few = Supports.of_mask(supports.mask(D.shape[1])[left])
        dx[left], more, dlam[left] = _in_batch(X[left], D, code[left], grad[left], few, exact, ridge, need_D)
        dD = dD + more if dD is not None and more is not None else None
    return dx, dD, dlam


def _say_singular() -> None:
    """Warn the first time only: training would repeat it every step."""
    global _said_singular
    if not _said_singular:
        _said_singular = True
        warnings.warn(
            "D_p^T D_p is singular on the support of at least one code (dependent columns, or more non-zeros "
            "than measurements): its gradient takes the minimum-norm solution. A small ridge or a larger lam "
            "avoids that. Said once.",
            RuntimeWarning,
            stacklevel=4,
        )
