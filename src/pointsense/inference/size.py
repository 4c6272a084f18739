"""How large the objects of an image are, by looking at it at several sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pointsense.inference.detector import Detector

ZOOMS = tuple(2.0 ** (step / 2) for step in range(-5, 3))
"""Enlargements that are tried, from a sixth to twice."""

DOUBTFUL = 0.6
"""Score below which a detection speaks against a size."""

REGION = 1024
"""px: side of the middle of an image that is looked at."""


def estimate_diameter(detector: Detector, image: npt.NDArray[Any], name: str = "the image") -> float:
    """Typical diameter in px of the objects of an image (H, W[, C]).

    Of several sizes that of most sure detections is taken, each counting by how much its score exceeds `DOUBTFUL`:
    too small, objects are not told apart, too large, they fall to pieces of low scores. The answer is one of a few
    sizes, half an octave apart; where nothing is found, that of the training.

    Raises
    ------
    UsageError
        If the diameter of the training's objects is not known.
    """
    detector.zoom_of(detector.config.diameter or 1.0)  # fails where the training's diameter is not known
    top, left = (max(0, (side - REGION) // 2) for side in image.shape[:2])
    region = image[top : top + REGION, left : left + REGION]
    best, found = 0.0, 1.0
    for zoom in sorted(ZOOMS, key=lambda zoom: abs(np.log(zoom))):
        if min(region.shape[:2]) * zoom * detector.config.scale < detector.config.stride:
            continue
        scores = detector.predict(region, diameter=detector.config.diameter / zoom, name=name).scores
        if (merit := float(np.sum(np.minimum(scores, 1.0) - DOUBTFUL))) > best:
            best, found = merit, zoom
    return detector.config.diameter / found
