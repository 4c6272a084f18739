"""Whether points lie too close together for a model: for its code, and to be told apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from pointsense.datasets.dataset import Dataset, Sample, first_few
from pointsense.datasets.radius import estimate_radius, nearest_distances

WINDOW_RADII, CROWDED_WINDOW = 8, 64
"""Without a model's own numbers: a window of 8 radii that holds more than one point per radius squared."""


def crowding(
    dataset: Dataset, radius: float | None, window: float | None, capacity: int | None
) -> Iterator[str]:
    """Sentences about points that are too dense for windows of a code, or nearer than the radius (px)."""
    if radius is None:
        radius = min(dataset.radius_px.values(), default=None) or estimate_radius(dataset)
    if window is None and radius is not None:
        window = WINDOW_RADII * radius
    if window is not None:
        yield from too_dense(dataset.samples, window, CROWDED_WINDOW if capacity is None else capacity)
    distances = np.concatenate(
        [np.zeros(0), *(nearest_distances(sample.points) for sample in dataset.samples)]
    )
    if radius is not None and len(distances) and (median := float(np.median(distances))) < radius:
        yield (
            f"spacing below the bandwidth: half of the points have a neighbour within {median:.3g} px, the "
            f"radius is {radius:g} px: neighbours melt into one; take a smaller radius"
        )


def too_dense(samples: Sequence[Sample], window: float, capacity: int) -> Iterator[str]:
    """A sentence where windows of so many px a side hold more points than the code of one can bring back."""
    fullest = {sample.name: _most_in_window(sample.points, window) for sample in samples}
    if crowded := [name for name, count in fullest.items() if count > capacity]:
        yield (
            f"denser than the code can hold: up to {max(fullest.values())} points in a window of "
            f"{window:g} px, where {capacity} fit ({first_few(crowded)}); enlarge the images or shrink it"
        )


def _most_in_window(points: npt.NDArray[np.float64], window: float) -> int:
    """The most points in any square of side `window` px that is centred on one of the (K, 2) points."""
    if not len(points):
        return 0
    tree = cKDTree(points)
    return int(tree.query_ball_point(points, window / 2, p=np.inf, return_length=True).max())
