"""The views of an image that predictions are averaged over: its four turns, then those of its mirror image."""

from __future__ import annotations

import torch
from torch import Tensor


def turned(images: Tensor, view: int) -> Tensor:
    """Images (..., H, W) as seen in a view, 0 to 7: mirrored left to right from the fourth on, then turned."""
    return torch.rot90(images.flip(-1) if view >= 4 else images, view % 4, (-2, -1))


def turned_back(maps: Tensor, view: int) -> Tensor:
    """Maps (..., H, W) of a view as maps of the image itself."""
    maps = torch.rot90(maps, -(view % 4), (-2, -1))
    return maps.flip(-1) if view >= 4 else maps
