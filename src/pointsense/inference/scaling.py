"""Image px and working px: images and points from one to the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional as F

Box = tuple[int, int, int, int]
"""(top, left, bottom, right), bottom and right excluded."""


def factors(shape: tuple[int, ...], scale: float) -> npt.NDArray[np.float64]:
    """Working px an image px, in y and x, of an image (H, W): `scale`, but for rounding to whole pixels."""
    sides = np.array(shape[:2])
    return np.maximum(1, np.round(sides * scale)) / sides


def rescaled(image: Tensor, scale: float) -> Tensor:
    """An image (C, H, W) in working px."""
    if scale == 1:
        return image
    H, W = image.shape[1:]
    size = [max(1, round(H * scale)), max(1, round(W * scale))]
    return F.interpolate(image[None].float(), size=size, mode="bilinear", antialias=scale < 1)[0]


def cut_out(image: Tensor, box: Box) -> Tensor:
    """A part of an image (C, H, W) as (C, h, w) float; beyond the image the border pixels are repeated."""
    top, left, bottom, right = box
    H, W = image.shape[1:]
    part = image[:, max(top, 0) : min(bottom, H), max(left, 0) : min(right, W)].float()
    pad = (max(-left, 0), max(right - W, 0), max(-top, 0), max(bottom - H, 0))
    return F.pad(part[None], pad, mode="replicate")[0] if any(pad) else part


def resized(square: Tensor, side: int) -> Tensor:
    """A square (C, S, S) enlarged or shrunk to `side` px."""
    before = square.shape[-1]
    if before == side:
        return square
    return F.interpolate(square[None], size=(side, side), mode="bilinear", antialias=side < before)[0]


def to_working(points: npt.NDArray[Any], scale: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Image px to working px; both have the origin in the centre of the first pixel."""
    return (np.asarray(points, dtype=np.float64) + 0.5) * scale - 0.5


def to_image(points: npt.NDArray[Any], scale: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The inverse of `to_working`."""
    return (np.asarray(points, dtype=np.float64) + 0.5) / scale - 0.5
