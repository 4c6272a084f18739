"""Laplacian of Gaussian with the size, the polarity and the threshold of best merit: what needs no learning."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pointsense.datasets import Sample
from pointsense.evaluation.log_baseline import LogDetector, Polarity
from pointsense.learning.crops import read_checked
from pointsense.peers.frame import Frame, FramedFinder
from pointsense.peers.problem import Found, Problem, Trained, merit_of

SIZES = 12
POLARITIES: tuple[Polarity, ...] = ("bright", "dark")
PIXELS = 8e6
"""Working px of images, at most, that the settings are chosen on."""


class LogFinder(FramedFinder):
    """Maxima of the Laplacian of Gaussian in working px; the response is the score."""

    def __init__(self, frame: Frame, detector: LogDetector):
        super().__init__(frame)
        self.detector = detector

    def find(self, image: Tensor) -> Found:
        return self.detector.detect(image.permute(1, 2, 0).numpy())


def sigmas(radius: float, box: float) -> npt.NDArray[np.float64]:
    """Widths of the Gaussian to try, for a match radius and an object's diameter, all in px.

    A disc of diameter d answers most at d / (2 sqrt 2); `box` is tried from half to twice its size, so that an
    object much larger than its match radius is met too, and never less than what
    `pointsense.evaluation.log_baseline.fit_log` tries: a quarter of the radius to 1.5 times it.
    """
    disc = box / (2 * np.sqrt(2))
    return np.geomspace(min(disc / 2, radius / 4), max(2 * disc, 1.5 * radius), SIZES)


def fit(problem: Problem) -> Trained:
    """Choose width and polarity on the images of `fit` and `select`, as many as a few minutes allow.

    References
    ----------
    Lindeberg 1998, Feature detection with automatic scale selection, IJCV 30 (2).
    """
    started = time.monotonic()
    frame = Frame.of(problem, read_checked(problem.fit))
    samples = some_of([*problem.fit, *problem.select], frame, problem.seed)
    images = read_checked(samples)
    best: tuple[float, LogFinder] | None = None
    for polarity, sigma in product(
        POLARITIES, sigmas(problem.radius * frame.scale, problem.working_box).tolist()
    ):
        finder = LogFinder(frame, LogDetector(sigma, 0.0, polarity))
        merit = merit_of(samples, map(finder.candidates, images), problem.radius)
        if best is None or merit > best[0]:
            best = merit, finder
    assert best is not None
    merit, finder = best
    return Trained(
        finder,
        {
            "steps": 0,
            "seconds": round(time.monotonic() - started, 1),
            "parameters": 3,
            "sigma_px": finder.detector.sigma / frame.scale,
            "polarity": finder.detector.polarity,
            "images": len(samples),
            "training_merit": merit,
        },
    )


def some_of(samples: Sequence[Sample], frame: Frame, seed: int) -> list[Sample]:
    """Samples in a random order, until their images have `PIXELS` working px; at least one with points."""
    order = np.random.default_rng([seed, 11]).permutation(len(samples))
    shuffled = sorted((samples[k] for k in order), key=lambda sample: len(sample.points) == 0)
    kept, pixels = [], 0.0
    for sample in shuffled:
        height, width = read_checked([sample])[0].shape[:2]
        pixels += height * width * frame.scale**2
        if kept and pixels > PIXELS:
            break
        kept.append(sample)
    return kept
