"""LISTA: a fixed number of ISTA steps with learned matrices and thresholds (Gregor, LeCun 2010)."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor, nn

from .problem import GRAM_LIMIT, check_system, largest_eigenvalue, soft_threshold


class LISTA(nn.Module):
    """``a <- soft(W x + S a, theta)``, started at zero, with W, S and theta shared by all steps.

    Initialised at ``W = D^T / c``, ``S = I - D^T D / c``, ``theta = lam / c`` with c the largest eigenvalue
    of ``D^T D``, where it is `steps` iterations of ISTA. The paper prints ``W = D^T``, ``S = D^T D``: as an
    update that diverges, for it repeats ``a <- D^T x + D^T D a``, whose matrix has eigenvalues up to
    ``c ~ (1 + sqrt(n / m))^2``, about 8 at 112 x 368, where convergence asks for moduli below 1.

    Parameters
    ----------
    D : Tensor, (m, n)
        Sensing matrix; copied into W and S, not referred to afterwards.
    lam : float
        Weight of the L1 norm the thresholds start from.
    steps : int
        Depth.

    Raises
    ------
    TypeError, ValueError
        If D is no finite (m, n) matrix, ``n > 4096`` (S is n x n), lam is negative or steps below 1.
    """

    steps: int
    W: nn.Parameter
    S: nn.Parameter
    theta: nn.Parameter

    def __init__(self, D: Tensor, lam: float, steps: int = 16) -> None:
        super().__init__()
        check_system(D.new_zeros(D.shape[0]) if isinstance(D, Tensor) and D.ndim else D, D)
        n = D.shape[1]
        if n > GRAM_LIMIT:
            raise ValueError(
                f"LISTA keeps an n x n matrix and n = {n} is above {GRAM_LIMIT}: "
                "use sparse_code(..., backward='unrolled'), which does not"
            )
        if isinstance(lam, bool) or not isinstance(lam, Real) or not lam >= 0:
            raise ValueError(f"lam must be a number, 0 or more, got {lam!r}")
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps must be an integer, 1 or more, got {steps!r}")
        self.steps = steps
        D = D.detach()
        c = largest_eigenvalue(D.double()).to(D.dtype)
        self.W = nn.Parameter(D.T / c)  # (n, m)
        self.S = nn.Parameter(torch.eye(n, dtype=D.dtype, device=D.device) - D.T @ D / c)  # (n, n)
        self.theta = nn.Parameter((float(lam) / c).expand(n).clone())  # (n,)

    def forward(self, x: Tensor) -> Tensor:
        """Codes (..., n) of x (..., m)."""
        drive = x @ self.W.T
        threshold = self.theta.clamp_min(0)
        a = soft_threshold(drive, threshold)
        for _ in range(self.steps - 1):
            a = soft_threshold(drive + a @ self.S.T, threshold)
        return a
