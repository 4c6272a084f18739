"""Sparse recovery as a layer of a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .solve import sparse_code


class SparseRecovery(nn.Module):
    """The paper's reconstruction layer: measurements x (..., m) to codes (..., n), eq. (4).

    Parameters
    ----------
    D : Tensor, (m, n)
        Sensing matrix; a buffer, or a parameter with `learn_sensing`.
    lam : float
        Weight of the L1 norm, in the unit of x times a column length.
    method, backward, ridge, tol, max_iter
        As for `sparse_code`.
    learn_sensing : bool
        Learn D. Keep the matrix that makes the labels fixed, or its changes enter the loss twice.
    learn_lam : bool
        Learn the weight; it stays positive, for its logarithm is the parameter.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type, shape, name or value.
    """

    D: Tensor
    log_lam: nn.Parameter
    fixed_lam: Tensor

    def __init__(
        self,
        D: Tensor,
        lam: float,
        *,
        method: str = "auto",
        backward: str = "exact",
        ridge: float = 0.0,
        tol: float | None = None,
        max_iter: int | None = None,
        learn_sensing: bool = False,
        learn_lam: bool = False,
    ) -> None:
        super().__init__()
        if learn_lam and not lam > 0:
            raise ValueError(f"lam must be above 0 to be learned, got {lam!r}")
        self.options: dict[str, Any] = {
            "method": method,
            "backward": backward,
            "ridge": ridge,
            "tol": tol,
            "max_iter": max_iter,
        }
        if isinstance(D, Tensor) and D.ndim == 2:
            with torch.no_grad():  # names wrong arguments here and not in the first training step
                sparse_code(D.new_zeros(D.shape[0]), D, lam, **self.options)
        else:
            raise ValueError("D must be an (m, n) tensor")
        sensing = D.detach().clone()
        if learn_sensing:
            self.D = nn.Parameter(sensing)
        else:
            self.register_buffer("D", sensing)
        weight = torch.tensor(float(lam), dtype=torch.float64)
        self.learn_lam = learn_lam
        if learn_lam:
            self.log_lam = nn.Parameter(weight.log().to(D.dtype))
        else:
            self.register_buffer("fixed_lam", weight.to(D.dtype))

    @property
    def lam(self) -> Tensor:
        """The weight, a scalar."""
        return self.log_lam.exp() if self.learn_lam else self.fixed_lam

    def forward(self, x: Tensor, warm_start: Tensor | None = None) -> Tensor:
        """Codes (..., n) of measurements x (..., m)."""
        return sparse_code(x, self.D, self.lam, warm_start=warm_start, **self.options)

    def extra_repr(self) -> str:
        m, n = self.D.shape
        return f"m={m}, n={n}, lam={float(self.lam):g}, " + ", ".join(
            f"{k}={v}" for k, v in self.options.items()
        )
