"""How large the objects of an image are, by looking at it at several sizes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree
from torch import Tensor

from pointsense.points import Detections

Predict = Callable[[Tensor, float], Detections]
"""What is found in an image (C, H, W) whose objects are taken to have a diameter in px."""

ZOOMS = tuple(2.0 ** (step / 2) for step in range(-5, 3))
"""Enlargements that are tried, from a sixth to twice."""

REGION, SMALLEST, LARGEST = 768, 32, 1536
"""px: side of the middle of an image that is looked at; of that part, enlarged, at least and at most."""


def estimate_diameter(predict: Predict, image: Tensor, *, known: float, radius: float) -> float:
    """Typical diameter in px of the objects of an image (C, H, W).

    Near the right size many objects are found, surely, and the same ones when the image is a little larger or
    smaller; when it is too small they merge, when it is too large they fall to pieces, and each size finds others.
    Of several sizes, half an octave apart, that of the largest

        agreement with the neighbouring sizes squared * mean score * square root of the number of objects

    is taken; where nothing is found, that of the training.

    Parameters
    ----------
    predict : Predict
    image : Tensor, (C, H, W)
    known, radius : float
        Typical diameter of the training's objects, and the least match radius, in px of the training's images.
    """
    top, left = (max(0, (side - REGION) // 2) for side in image.shape[1:])
    region = image[:, top : top + REGION, left : left + REGION]
    sides = np.array(region.shape[1:])
    zooms = [
        zoom
        for zoom in ZOOMS
        if zoom == 1 or ((sides * zoom).min() >= SMALLEST and (sides * zoom).max() <= LARGEST)
    ]
    found = [predict(region, known / zoom) for zoom in zooms]
    merits = []
    for k, (zoom, own) in enumerate(zip(zooms, found, strict=True)):
        near = [_agreement(own, found[j], radius / zoom) for j in (k - 1, k + 1) if 0 <= j < len(zooms)]
        sure = float(np.minimum(own.scores, 1).mean()) if len(own) else 0.0
        merits.append(float(np.mean(near or [1.0])) ** 2 * sure * len(own) ** 0.5)
    return known / zooms[int(np.argmax(merits))] if max(merits) > 0 else known


def _agreement(first: Detections, second: Detections, reach: float) -> float:
    """Share of the points of both that are each other's nearest, within `reach` px."""
    if not len(first) or not len(second):
        return 0.0
    distance, there = cKDTree(second.points).query(first.points)
    _, back = cKDTree(first.points).query(second.points)
    mutual = (back[there] == np.arange(len(first))) & (distance < reach)
    return 2 * float(mutual.sum()) / (len(first) + len(second))
