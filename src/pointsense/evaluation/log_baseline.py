"""Laplacian of Gaussian blob detection, tuned: what a learned detector has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_laplace
from skimage.feature import peak_local_max
from skimage.util import img_as_float64

from pointsense.errors import DataError
from pointsense.evaluation.cases import Case
from pointsense.evaluation.threshold import best_threshold

Polarity = Literal["bright", "dark"]


@dataclass(frozen=True)
class LogDetector:
    """Maxima of the scale-normalised Laplacian of Gaussian of the grey image.

    Attributes
    ----------
    sigma : float
        Width of the Gaussian, px; a disc of radius r answers most at r / sqrt(2).
    threshold : float
        Least response; an image of 0 to 1 gives responses of about the blob's contrast.
    polarity : {"bright", "dark"}
        Whether the blobs are brighter or darker than their surroundings.
    """

    sigma: float
    threshold: float
    polarity: Polarity

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return points (K, 2) (y, x) in px and their responses (K,), strongest first.

        `image` is (h, w) or (h, w, channels) of any number type; a fourth channel (alpha) is left out.
        """
        grey = img_as_float64(image)
        if grey.ndim == 3:
            grey = grey[..., :3].mean(axis=2)
        response = self.sigma**2 * gaussian_laplace(grey, self.sigma, mode="nearest")
        if self.polarity == "bright":
            response = -response
        peaks = peak_local_max(response, min_distance=max(1, round(self.sigma)), exclude_border=False)
        scores = response[tuple(peaks.T)]
        kept = scores >= self.threshold
        return peaks[kept].astype(np.float64), scores[kept]


def fit_log(images: Sequence[np.ndarray], truths: Sequence[np.ndarray], radius: float) -> LogDetector:
    """Return the detector whose sigma, threshold and polarity give the best F1 on training images.

    Every sigma from a quarter of the match radius to 1.5 times it is tried with both polarities, and each
    of them with its own best threshold, so that the baseline is given its best chance.

    Parameters
    ----------
    images : sequence of (h, w) or (h, w, channels) arrays
    truths : sequence of (N, 2) float arrays
        Points (y, x), px, image by image.
    radius : float
        Match radius, px.

    Raises
    ------
    DataError
        If there is no image, or not one truth for each.
    """
    if not images or len(images) != len(truths):
        raise DataError(f"expected images and a truth for each, found {len(images)} and {len(truths)}")
    best: tuple[float, LogDetector] | None = None
    polarities: tuple[Polarity, ...] = ("bright", "dark")
    for polarity in polarities:
        for sigma in radius * np.geomspace(0.25, 1.5, 10):
            open_detector = LogDetector(float(sigma), 0.0, polarity)
            found = (open_detector.detect(image) for image in images)
            cases = [
                Case(str(number), None, truth, points, scores)
                for number, (truth, (points, scores)) in enumerate(zip(truths, found, strict=True))
            ]
            choice = best_threshold(cases, radius)
            if best is None or choice.f1 > best[0]:
                best = choice.f1, LogDetector(float(sigma), choice.threshold, polarity)
    assert best is not None
    return best[1]
