"""The selection part: images of `train` on which stopping, reading and threshold are chosen, and nothing else is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import numpy.typing as npt

from pointsense.datasets import Sample
from pointsense.datasets.radius import nearest_distances
from pointsense.evaluation.cases import Case
from pointsense.inference.decode import Decoder, Found
from pointsense.inference.detector import Detector, TileMap
from pointsense.learning.merit import Judgement, judged, settled, standard_error, tolerance_of
from pointsense.model.classes import PointClass, Reading
from pointsense.model.network import ProjectionNetwork
from pointsense.points import Detections

log = logging.getLogger(__name__)

USUAL = Reading(blur=0.5, rounding=0.65)
"""Of points that may lie close together; see `usual_readings`."""

CLOSE, APART = 0.05, 4.0
"""Share of points whose neighbours may be nearer than so many widths of an atom."""

MOST_CHANCE = 0.05
"""Of the merit, however few the points are: where a single one is more, no reading that finds it is passed over."""

BLURS = (0.0, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Doubts about a position, in cells, among which the selection part chooses."""

ROUNDINGS = (0.65, 0.8)
"""Beside one half; see `Reading`."""


def usual_readings(points: Sequence[npt.NDArray[np.float64]], cells_per_px: float) -> list[Reading]:
    """One or two readings, of which the better is kept unless another is clearly better still.

    Of fifteen readings the best on few images is often so by chance. Atoms are half a cell wide where neighbours may
    touch. Where they lie apart, wider ones may gather the mass that the network's doubt has spread over a large object,
    of which narrow ones take but a part: those of a quarter of the distance to the nearest neighbour that all but a
    twentieth of the points exceed. Where that allows the widest, two cells, they are a matched filter's.

    Parameters
    ----------
    points : sequence of (N, 2) arrays
        Of each image, px.
    cells_per_px : float
        Cells of the mass map an image px.
    """
    nearest = [nearest_distances(one) if len(one) > 1 else np.full(len(one), np.inf) for one in points]
    distances = np.concatenate([np.zeros(0), *nearest])
    if not len(distances):
        return [USUAL]
    width = np.quantile(distances, CLOSE, method="lower") * cells_per_px / APART
    wide = max((blur for blur in BLURS if USUAL.blur <= blur <= width), default=USUAL.blur)
    if wide == USUAL.blur:
        return [USUAL]
    return [USUAL, Reading(wide, matched=True) if wide == BLURS[-1] else replace(USUAL, blur=wide)]


@dataclass(frozen=True)
class Choice(Judgement):
    """What the selection part chose for a class: a reading, with the threshold and the merit that it has there.

    `cases` are the images with their candidates.
    """

    reading: Reading
    cases: Sequence[Case] = ()

    def applied_to(self, kind: PointClass) -> PointClass:
        """The class with the chosen reading and threshold."""
        return replace(kind, reading=self.reading, threshold=round(self.threshold.threshold, 4))


class Selection:
    """The selection images, and the scores of a detector on them.

    Parameters
    ----------
    samples : sequence of Sample
    images : sequence of arrays, (H, W, C)
    classes : sequence of PointClass
        The match radius of each class counts.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        images: Sequence[npt.NDArray[np.generic]],
        classes: Sequence[PointClass],
    ):
        self.samples, self.images, self.classes = list(samples), list(images), list(classes)
        names = [kind.name for kind in classes]
        labels = [sample.labels(names) for sample in samples]
        self.truth = [
            [sample.points[label == k] for sample, label in zip(samples, labels, strict=True)]
            for k in range(len(names))
        ]

    def points(self, k: int) -> int:
        """Number of points of class k on these images."""
        return sum(map(len, self.truth[k]))

    def standard_error(self, k: int) -> float:
        """Of a score of class k on these images, at most."""
        return standard_error(self.points(k))

    @property
    def mean_error(self) -> float:
        """The standard error of the mean over the classes."""
        errors = [self.standard_error(k) for k in range(len(self.classes))]
        return float(np.linalg.norm(errors)) / len(errors)

    def _choice(self, k: int, found: Sequence[Detections], reading: Reading) -> Choice:
        cases = [
            Case(sample.name, sample.group, truth, one.points, one.scores)
            for sample, truth, one in zip(self.samples, self.truth[k], found, strict=True)
        ]
        judgement = judged(cases, self.classes[k].radius)
        return Choice(judgement.threshold, judgement.merit, reading, cases)

    def choose(
        self, detector: Detector, blurs: Sequence[float] = BLURS, decoder: Decoder = "full"
    ) -> list[Choice]:
        """For each class the usual reading or one that is clearly better, with its threshold; the network is run once.

        Without blurs to try it is the usual one. Of several the best one, two below it and one above are tried with
        other roundings, too: where more is rounded up, less is to be blurred. Where there is a second look, the
        threshold is that of its scores.
        """
        if not isinstance(detector.network, ProjectionNetwork):
            found = [
                detector.predict(image, threshold=0.0, name=sample.name)
                for sample, image in zip(self.samples, self.images, strict=True)
            ]
            return [self._choice(0, found, Reading())]
        maps = [
            detector.maps(detector.prepare(image, sample.name))
            for sample, image in zip(self.samples, self.images, strict=True)
        ]
        rounds = detector.config.target == "code" and decoder != "maxima"
        best = []
        for k in range(len(self.classes)):
            read = cache(partial(self._read, detector, maps, k, decoder=decoder))
            chance = min(MOST_CHANCE, tolerance_of(self.points(k)))
            own = usual_readings(self.truth[k], detector.config.scale / detector.config.stride)
            known = [read(reading if rounds else Reading(reading.blur)) for reading in own]
            usual = max(known, key=lambda choice: choice.merit)
            choices = [read(Reading(blur)) for blur in blurs]
            if choices and rounds:
                place = max(range(len(blurs)), key=lambda j: choices[j].merit)
                near = blurs[max(0, place - 2) : place + 2]
                choices += [read(Reading(blur, rounding)) for blur in near for rounding in ROUNDINGS]
            tried = max([usual, *choices], key=lambda choice: choice.merit)
            best.append(tried if tried.merit - usual.merit > chance else usual)
        if detector.look is None:
            return best
        return [self._after_look(detector, maps, k, one.reading, decoder) for k, one in enumerate(best)]

    def chosen(self, detector: Detector, decoder: Decoder = "full") -> list[Choice]:
        """`choose`, with the thresholds to keep."""
        return [
            replace(choice, threshold=settled(choice.cases, kind.radius))
            for choice, kind in zip(self.choose(detector, decoder=decoder), self.classes, strict=True)
        ]

    def settle(self, detector: Detector) -> list[Choice]:
        """Choose, and give each class of the detector its reading and threshold."""
        chosen = self.chosen(detector)
        detector.classes = tuple(
            one.applied_to(kind) for one, kind in zip(chosen, detector.classes, strict=True)
        )
        return chosen

    def _after_look(
        self, detector: Detector, maps: Sequence[list[TileMap]], k: int, reading: Reading, decoder: Decoder
    ) -> Choice:
        """The choice of class k for a reading whose candidates are looked at again."""
        found = self._found(detector, maps, k, reading, decoder)
        looked = [
            detector.looked_at(detector.as_input(image, sample.name), candidates, 0.0)
            for sample, image, candidates in zip(self.samples, self.images, found, strict=True)
        ]
        return self._choice(k, looked, reading)

    def _read(
        self, detector: Detector, maps: Sequence[list[TileMap]], k: int, reading: Reading, decoder: Decoder
    ) -> Choice:
        """The choice of class k for a reading of the maps of all images."""
        return self._choice(k, self._found(detector, maps, k, reading, decoder), reading)

    def _found(
        self, detector: Detector, maps: Sequence[list[TileMap]], k: int, reading: Reading, decoder: Decoder
    ) -> list[Detections]:
        """Class k alone, decoded from the maps of all images."""
        found = []
        for one, image in zip(maps, self.images, strict=True):
            parts = [Found.concatenate([]) for _ in self.classes]
            parts[k] = detector.decode_maps(one, k, decoder, reading)
            found.append(detector.detections(parts, image.shape[:2], threshold=0.0))
        return found
