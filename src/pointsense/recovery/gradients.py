"""Backpropagation through the lasso, the paper's eqs. (5)-(9) and their counterpart for the weight.

On a fixed support p with signs s the minimiser is ``a_p = M (D_p^T x - lam s)``, ``M = (D_p^T D_p)^-1``.
For a loss with gradient g = da_p, let r = x - D a and u = M g. Then

    dx   = D_p u                          eq. (5)
    dD_p = r u^T - (D_p u) a_p^T          eq. (6)
    dD_q = 0                              eq. (7)
    dlam = -s^T u                         (not in the paper)

The paper's approximation, eqs. (8) and (9), is the same with u = g, and so is its counterpart for the weight.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .support import solve_on_support

_said_singular = False


class _SupportRule(Function):
    """Pass a solution through; pull its gradient back to x, D and lam by a rule for u."""

    @staticmethod
    def forward(ctx: Any, X: Tensor, D: Tensor, lam: Tensor, code: Tensor, ridge: float) -> Tensor:
        ctx.save_for_backward(X, D, lam, code)
        ctx.ridge = ridge
        return code.to(X.dtype)

    @staticmethod
    def solve(D: Tensor, support: Tensor, g: Tensor, ridge: float) -> Tensor:
        raise NotImplementedError

    @classmethod
    def pull_back(cls, ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        X, D, lam, code = ctx.saved_tensors
        X64, D64, a = X.double(), D.double(), code.double()
        support = a != 0
        u = cls.solve(D64, support, grad.double() * support, ctx.ridge)  # (B, n), zero off the support
        along = u @ D64.T  # D_p u
        need_x, need_D, need_lam = ctx.needs_input_grad[:3]
        dx = along.to(X.dtype) if need_x else None  # eq. (5), (8)
        dD = None
        if need_D:
            residual = X64 - a @ D64.T
            dD = (residual.T @ u - along.T @ a).to(D.dtype)  # eq. (6), (7), (9)
        dlam = -(torch.sign(a) * u).sum(-1).to(lam.dtype) if need_lam else None
        return dx, dD, dlam, None, None


class ExactRule(_SupportRule):
    """Equations (5)-(7): u = (D_p^T D_p + ridge I)^-1 g, in float64."""

    @staticmethod
    def solve(D: Tensor, support: Tensor, g: Tensor, ridge: float) -> Tensor:
        u, singular = solve_on_support(D, support, g, ridge)
        if bool(singular.any()):
            _say_singular()
        return u

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ExactRule.pull_back(ctx, grad)


class PaperRule(_SupportRule):
    """Equations (8) and (9): u = g, that is D_p^T D_p taken for the identity.

    For x this is the Gauss-Newton direction: moving x by -D_p g moves a_p by exactly -g while the support
    holds. All of it equals the derivative of one ISTA step of unit length at the solution.
    """

    @staticmethod
    def solve(D: Tensor, support: Tensor, g: Tensor, ridge: float) -> Tensor:
        return g

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return PaperRule.pull_back(ctx, grad)


RULES: dict[str, type[_SupportRule]] = {"exact": ExactRule, "paper": PaperRule}


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
            stacklevel=3,
        )
