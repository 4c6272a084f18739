"""What a check keeps of each image that it opens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pointsense.datasets.dataset import Sample, points_inside
from pointsense.images import read_image
from pointsense.images.pixel_size import stored_um_per_px


@dataclass(frozen=True)
class Looked:
    """What is kept of an opened image: its shape, number type and stated pixel size, and how points stand out from it.

    `contrast` is (K, 2) for the points that lie inside in both orders of the coordinates: the distance of the
    grey value from the image's median at (y, x) and at (x, y).
    """

    sample: Sample
    shape: tuple[int, int, int]
    dtype: str
    um_per_px: float | None
    contrast: npt.NDArray[np.float64]


def look(sample: Sample) -> Looked:
    """Open an image.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    image = read_image(sample.path)
    both = points_inside(sample.points, image.shape) & points_inside(sample.points[:, ::-1], image.shape)
    points = sample.points[both]
    median = np.median(image[:: max(1, image.shape[0] // 256), :: max(1, image.shape[1] // 256)].mean(axis=2))
    contrast = [np.abs(_grey_around(image, order) - median) for order in (points, points[:, ::-1])]
    return Looked(
        sample, image.shape, str(image.dtype), stored_um_per_px(sample.path), np.stack(contrast, axis=1)
    )


def _grey_around(image: npt.NDArray[Any], points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean over channels and 7 x 7 pixels around each of the (K, 2) points -> (K,)."""
    steps = np.arange(-3, 4)
    rows, columns = (
        np.clip(np.rint(points[:, axis]).astype(int)[:, None] + steps, 0, image.shape[axis] - 1)
        for axis in (0, 1)
    )
    return image[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2, 3), dtype=np.float64)
