"""The views of an image that predictions are averaged over: its four turns, then those of its mirror image.

Every second one may be enlarged.
"""

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


def brought_back(maps: Tensor, zoom: float, cells: tuple[int, int]) -> Tensor:
    """Mass maps (K, h, w) of an enlarged image as maps of the image itself, whose first `cells` (H, W) show something.

    Mass is shared by the two nearest of those cells, in y and in x, so that none is lost; what lies beyond them is
    left out.
    """
    rows, columns = (
        _shares(small, zoom, large, maps.device) for small, large in zip(maps.shape[1:], cells, strict=True)
    )
    return rows @ maps @ columns.T


def _shares(small: int, zoom: float, large: int, device: torch.device) -> Tensor:
    """Which share (large, small) of each small cell's mass is that of each large one."""
    place = (torch.arange(small, device=device) + 0.5) / zoom - 0.5
    shown = place < large - 0.5
    distance = torch.arange(large, device=device)[:, None] - place.clamp(0, large - 1)
    return (1 - distance.abs()).clamp(min=0) * shown
