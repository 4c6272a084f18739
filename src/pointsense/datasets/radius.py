"""The size of the objects, guessed from how closely their points lie."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from pointsense.datasets.dataset import Dataset

CROWDED = 20
"""Points in a typical image from which on neighbours may be taken to touch now and then."""

FAR_PX = 100.0
"""Median distance in pixels above which neighbours say more about the tissue than about an object's size."""

SHARE = 0.4
"""Of the median distance: below one half, so that the match circles of typical neighbours do not overlap."""


def nearest_distances(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distance in pixels of each of the distinct (K, 2) points to the nearest other one; none for K < 2."""
    points = np.unique(points, axis=0)
    if len(points) < 2:
        return np.zeros(0)
    return cKDTree(points).query(points, k=2)[0][:, 1]


def estimate_radius(dataset: Dataset) -> float | None:
    """Match radius in pixels from the spacing of the `train` points, or None where spacing cannot tell.

    The estimate is 0.4 times the median distance to the nearest neighbour. It stands for an object's size
    only in crowded fields, where neighbours often touch; of points strewn over a large field, at random,
    spacing tells the density and nothing else. Hence None unless a typical image with points holds at least
    20 of them and the median distance is at most 100 px.
    """
    counts = [len(sample.points) for sample in dataset.train if len(sample.points)]
    if not counts or np.median(counts) < CROWDED:
        return None
    distances = np.concatenate([nearest_distances(sample.points) for sample in dataset.train])
    if not len(distances) or (median := float(np.median(distances))) > FAR_PX:
        return None
    return round(SHARE * median, 1)
