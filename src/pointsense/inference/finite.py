"""Networks whose output is no number."""

from __future__ import annotations

import torch
from torch import Tensor

from pointsense.errors import DataError


def require_finite(output: Tensor) -> None:
    """Fail where what a network gives is not finite.

    Raises
    ------
    DataError
    """
    if not torch.isfinite(output).all():
        raise DataError(
            "the network's output is not finite: its weights are damaged, or half precision is too little for it "
            "(--precision 32-true)"
        )
