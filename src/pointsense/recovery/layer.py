"""Sparse recovery as a layer of a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .problem import check_number
from .solve import sparse_code


class SparseRecovery(nn.Module):
    """The paper's reconstruction layer: measurements x (..., m) to codes (..., n), eq. (4).

    Parameters
    ----------
    D : Tensor, (m, n)
        Sensing matrix; a buffer, or a parameter with `learn_sensing`.
    lam : float
        Weight of the L1 norm, in the unit of x times a column length.
    method, backward, ridge, tol, max_iter, positive, upper, keep_inverse, backend
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
    upper: Tensor | None

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
        positive: bool = False,
        upper: float | Tensor | None = None,
        keep_inverse: bool = True,
        backend: str = "auto",
        learn_sensing: bool = False,
        learn_lam: bool = False,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {
            "method": method,
            "backward": backward,
            "ridge": ridge,
            "tol": tol,
            "max_iter": max_iter,
            "positive": positive,
            "upper": upper,
            "keep_inverse": keep_inverse,
            "backend": backend,
        }
        if isinstance(D, Tensor) and D.ndim == 2:
            with torch.no_grad():  # names wrong arguments here and not in the first training step
                sparse_code(D.new_zeros(D.shape[0]), D, lam, **self.options)
        else:
            raise ValueError("D must be an (m, n) tensor")
        if learn_lam:
            check_number("lam", lam, above=True)
        self.register_buffer("upper", self.options.pop("upper") if isinstance(upper, Tensor) else None)
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
        options = self.options if self.upper is None else {**self.options, "upper": self.upper}
        return sparse_code(x, self.D, self.lam, warm_start=warm_start, **options)

    def extra_repr(self) -> str:
        m, n = self.D.shape
        return f"m={m}, n={n}, lam={float(self.lam.detach()):g}, " + ", ".join(
            f"{k}={v}" for k, v in self.options.items()
        )
