"""The selection part: images of `train` on which stopping, decoder and threshold are chosen, and nothing else is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pointsense.datasets import Sample
from pointsense.errors import DataError
from pointsense.evaluation.report import Case
from pointsense.evaluation.threshold import TOLERANCE, ThresholdChoice, best_threshold
from pointsense.inference.detector import Detector
from pointsense.model.config import Config, override
from pointsense.model.network import ProjectionNetwork

log = logging.getLogger(__name__)

FEW_POINTS = 5.0
"""Share of the average precision in the merit, in standard errors of F1: a half at 25 points, .05 at 2,500."""

BLURS = (0.0, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Doubts about a position, in cells, among which the selection part chooses."""


DRAWS = 64
"""Random orders of the groups among which the most even division is taken."""


def draw_selection(
    samples: Sequence[Sample], fraction: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Samples to fit and samples to select on; no group is in both.

    Of several random divisions by group, the one is taken whose selection part holds most nearly the fraction of
    the images and of the points: with few groups, chance alone may leave it almost without points. Where all
    images are of one group the images themselves are drawn, and the log says so.

    Raises
    ------
    DataError
        If there are fewer than two images, or points are in too few groups to have them in both parts.
    """
    if len(samples) < 2:
        raise DataError(
            f"expected at least two training images, one to fit and one to select on, found {len(samples)}"
        )
    key = {s.name: s.group for s in samples}
    if len(set(key.values())) == 1:
        log.warning("all training images are of one group: the selection part is drawn by image and flatters")
        key = {s.name: s.name for s in samples}
    groups = sorted(set(key.values()))
    number = {group: k for k, group in enumerate(groups)}
    sizes = np.zeros((len(groups), 2))  # images and points
    for s in samples:
        sizes[number[key[s.name]]] += 1, len(s.points)
    filled = int(np.count_nonzero(sizes[:, 1]))
    if filled < 2:
        raise DataError(
            f"points are in {filled} of the {len(groups)} groups of training images; expected at least two, "
            "one to fit and one to select on: annotate more images"
        )
    generator = np.random.default_rng([seed, 7])
    best, chosen = np.inf, np.zeros(0, dtype=int)
    for _ in range(DRAWS):
        order = generator.permutation(len(groups))
        share = np.cumsum(sizes[order], axis=0) / sizes.sum(axis=0)
        uneven = np.abs(share - fraction).sum(axis=1)
        uneven[(share[:, 1] == 0) | (share[:, 1] == 1)] = np.inf  # points are needed on both sides
        if (lowest := uneven.min()) < best:
            best, chosen = lowest, order[: int(uneven.argmin()) + 1]
    selected = {groups[k] for k in chosen}
    fit = [s for s in samples if key[s.name] not in selected]
    return fit, [s for s in samples if key[s.name] in selected]


@dataclass(frozen=True)
class Choice:
    """What the selection part chose; `merit` is what choices are compared by."""

    blur: float
    threshold: ThresholdChoice
    merit: float

    def applied_to(self, config: Config) -> Config:
        """`config` with the chosen blur and threshold."""
        return override(config, {"blur": self.blur, "threshold": round(self.threshold.threshold, 4)})


class Selection:
    """The selection images, and the scores of a detector on them.

    Parameters
    ----------
    samples : sequence of Sample
    images : sequence of arrays, (H, W, C)
    radius : float
        Match radius in image px.
    """

    def __init__(self, samples: Sequence[Sample], images: Sequence[npt.NDArray[np.generic]], radius: float):
        self.samples, self.images, self.radius = list(samples), list(images), radius

    @property
    def standard_error(self) -> float:
        """Of a score on these images, at most: that of a proportion of so many points."""
        return 0.5 / max(1, sum(len(sample.points) for sample in self.samples)) ** 0.5

    def _choice(self, cases: Sequence[Case], blur: float) -> Choice:
        """F1 is the merit; the fewer the points, the more counts the average precision, which is less jagged."""
        tolerance = max(TOLERANCE, 0.2 * self.standard_error)  # about one error
        threshold = best_threshold(cases, self.radius, tolerance=tolerance)
        share = min(0.5, FEW_POINTS * self.standard_error)
        return Choice(blur, threshold, (1 - share) * threshold.f1 + share * threshold.average_precision)

    def choose(self, detector: Detector, blurs: Sequence[float] | None = None) -> Choice:
        """The blur of the best merit, with its threshold of best F1; the network is run once for all of them."""
        if not isinstance(detector.network, ProjectionNetwork):
            cases = []
            for sample, image in zip(self.samples, self.images, strict=True):
                found = detector.predict(image, threshold=0.0, name=sample.name)
                cases.append(Case(sample.name, sample.group, sample.points, found.points, found.scores))
            return self._choice(cases, detector.config.blur)
        maps = [detector.maps(detector.prepare(image)) for image in self.images]
        best: Choice | None = None
        for blur in BLURS if blurs is None else blurs:
            config = override(detector.config, {"blur": blur})
            choice = self._choice(self._cases(detector, maps, config), blur)
            if best is None or choice.merit > best.merit:
                best = choice
        assert best is not None
        return best

    def _cases(self, detector: Detector, maps: list, config: Config) -> list[Case]:
        cases = []
        for sample, image, one in zip(self.samples, self.images, maps, strict=True):
            found = detector.detections(
                detector.decode_maps(one, config=config), image.shape[:2], threshold=0.0
            )
            cases.append(Case(sample.name, sample.group, sample.points, found.points, found.scores))
        return cases
