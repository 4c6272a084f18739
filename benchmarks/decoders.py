"""The decoders that do with less than the model's own, each at its best on the selection part of `train`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pointsense.datasets import Dataset
from pointsense.evaluation import Case, Report, evaluate
from pointsense.images import read_image

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


def compare_decoders(
    detector: Detector, dataset: Dataset, selection: Sequence[str], radius: float
) -> dict[str, dict[str, Any]]:
    """Scores on `val` of the decoders that do with less than the model's own.

    Each has a reading and a threshold of its own, from the same selection part of `train` and by the same rule as
    the model's. A heat map has maxima only, and the paper's heads have one decoder.
    """
    from pointsense.learning.selection import Selection

    if not detector.has_codes:
        return {}
    chosen_on = [sample for sample in dataset.train if sample.name in set(selection)]
    part = Selection(chosen_on, [read_image(sample.path) for sample in chosen_on], detector.classes)
    images = [read_image(sample.path) for sample in dataset.val]
    maps = [detector.maps(detector.prepare(image)) for image in images]
    scores = {}
    decoders: tuple[Decoder, ...] = ("codes", "maxima")
    for decoder in decoders:
        chosen = part.chosen(detector, decoder)[0]
        cases = []
        for sample, image, one in zip(dataset.val, images, maps, strict=True):
            found = detector.decode_maps(one, 0, decoder, chosen.reading)
            candidates = detector.detections([found], image.shape[:2], 0.0)
            kept = detector.looked_at(detector.as_input(image), candidates, 0.0).above(
                chosen.threshold.threshold
            )
            cases.append(Case(sample.name, sample.group, sample.points, kept.points, kept.scores))
        report = evaluate(cases, radius, threshold=chosen.threshold.threshold, protocol=PROTOCOL)
        scores[decoder] = brief(report) | {"reading": asdict(chosen.reading)}
    return scores
