"""The decoders that do with less than the model's own, each at its best on the selection part of `train`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pointsense.datasets import Dataset, Sample
from pointsense.evaluation import Case, Report, best_threshold, evaluate
from pointsense.images import read_image
from pointsense.model.classes import Reading

if TYPE_CHECKING:
    from pointsense.inference.decode import Decoder
    from pointsense.inference.detector import Detector

PROTOCOL = "one-to-one"


def brief(report: Report) -> dict[str, Any]:
    """The numbers of a report without its images."""
    return {
        key: value
        for key, value in report.to_dict().items()
        if key not in ("images", "protocol", "radius_px")
    }


class Read:
    """Images with what the network makes of them, computed once for all decoders."""

    def __init__(self, detector: Detector, samples: Sequence[Sample]):
        self.detector, self.samples = detector, samples
        images = [read_image(sample.path) for sample in samples]
        self.shapes = [image.shape[:2] for image in images]
        self.maps = [detector.maps(detector.prepare(image)) for image in images]

    def cases(self, decoder: Decoder, blur: float, threshold: float) -> list[Case]:
        """The samples with their detections, to be scored."""
        cases = []
        for sample, shape, maps in zip(self.samples, self.shapes, self.maps, strict=True):
            found = self.detector.decode_maps(maps, 0, decoder, Reading(blur))
            detections = self.detector.detections([found], shape, threshold)
            cases.append(Case(sample.name, sample.group, sample.points, detections.points, detections.scores))
        return cases


def choose(read: Read, decoder: Decoder, radius: float) -> tuple[float, float]:
    """The blur and the threshold of best F1 for a decoder, as `train` chooses the full one's."""
    from pointsense.learning.selection import BLURS

    choices = {
        blur: best_threshold(read.cases(decoder, blur, 0.0), radius, protocol=PROTOCOL) for blur in BLURS
    }
    blur = max(choices, key=lambda blur: choices[blur].f1)
    return blur, choices[blur].threshold


def compare_decoders(
    detector: Detector, dataset: Dataset, selection: Sequence[str], radius: float
) -> dict[str, dict[str, Any]]:
    """Scores on `val` of the decoders that do with less than the model's own.

    Each has a blur and a threshold of its own, from the same selection part of `train` and by the same rule as
    the model's. A heat map has maxima only, and the paper's heads have one decoder.
    """
    if detector.config.head != "projection" or detector.config.target != "code":
        return {}
    chosen_on = Read(detector, [sample for sample in dataset.train if sample.name in set(selection)])
    val = Read(detector, dataset.val)
    scores = {}
    for decoder in ("codes", "maxima"):
        blur, threshold = choose(chosen_on, decoder, radius)
        report = evaluate(val.cases(decoder, blur, threshold), radius, threshold=threshold, protocol=PROTOCOL)
        scores[decoder] = brief(report) | {"blur": blur}
    return scores
