"""Whether x and y were exchanged, by where points lie and by what lies under them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pointsense.datasets.dataset import Sample, points_inside
from pointsense.images import read_image
from pointsense.images.pixel_size import stored_um_per_px

SURE = 4.0
"""Standard errors by which exchanged coordinates must fit the images better to be called swapped."""


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


def are_swapped(looked: Sequence[Looked]) -> Iterator[str]:
    """By geometry: outside as given, inside when exchanged."""
    outside = inside_swapped = 0
    for image in looked:
        points = image.sample.points[~points_inside(image.sample.points, image.shape)]
        outside += len(points)
        inside_swapped += int(points_inside(points[:, ::-1], image.shape).sum())
    if inside_swapped > max(1, outside / 2):
        yield (
            f"x and y are probably swapped: {inside_swapped} of {outside} points that lie outside would lie "
            "inside; exchange the names of the two columns"
        )


def seem_swapped(looked: Sequence[Looked]) -> Iterator[str]:
    """By what lies under the points."""
    if _evidence_for_swap([image.contrast for image in looked]) > SURE:
        yield (
            "x and y are probably swapped: what stands out in the images lies at the exchanged positions; "
            "look at an overlay, and exchange the names of the two columns"
        )


def _evidence_for_swap(contrasts: Sequence[npt.NDArray[np.float64]]) -> float:
    """Standard errors by which exchanged points stand out more from their images than the given ones.

    Each image counts once, for its points share whatever unevenness it has; where there are fewer than five,
    each point.
    """
    differences = [pairs[:, 1] - pairs[:, 0] for pairs in contrasts if len(pairs)]
    if len(differences) >= 5:
        values = np.array([difference.mean() for difference in differences])
    else:
        values = np.concatenate([np.zeros(0), *differences])
    if len(values) < 5 or not values.std() > 0:
        return 0.0
    return float(values.mean() / values.std(ddof=1) * np.sqrt(len(values)))
