"""What is scored, a detector or the points that were found before, and scoring it class by class."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pointsense.datasets import Dataset, Sample
from pointsense.errors import UsageError
from pointsense.evaluation.comparison import PairedDifference, paired_bootstrap
from pointsense.evaluation.predictions import (
    FoundByImage,
    above,
    cases_of,
    class_names_of,
    class_to_count,
    found_by_model,
    found_in_folder,
    have_scores,
    samples_of,
    table_of,
    warn_if_without_class,
)
from pointsense.evaluation.report import Part, evaluate
from pointsense.inference.record import classes_in, images_in, read_record, thresholds_in

if TYPE_CHECKING:
    from pointsense.inference.detector import Detector

log = logging.getLogger(__name__)


class Source(Protocol):
    """Where detections come from.

    Attributes
    ----------
    known : list of str
        The classes that it tells apart.
    thresholds : mapping
        Least scores by class, "" for all others; empty where all detections count.
    radii : mapping
        Match radii in px of the images that it brings along, by class.
    """

    known: list[str]
    thresholds: Mapping[str, float]
    radii: dict[str, float]

    def candidates(self, samples: Sequence[Sample]) -> FoundByImage:
        """All that it finds on the samples' images, below the thresholds, too."""
        ...

    def counting(self, name: str, dataset: Dataset) -> str:
        """The class that its detections must have to count for the data's class `name`; "" for any."""
        ...


class ModelSource:
    """A detector, whose one class stands for whatever the data's is called.

    Parameters
    ----------
    detector : Detector
    thresholds : mapping
        In place of the detector's own, see `Detector.thresholds`.
    diameter : float or "auto", optional
        See `Detector.predict`; of images at sizes found one by one no radius of the model's is known.
    tile : int
    """

    def __init__(
        self,
        detector: Detector,
        thresholds: Mapping[str, float],
        *,
        diameter: float | Literal["auto"] | None = None,
        tile: int = 1024,
    ):
        self.detector, self.diameter, self.tile = detector, diameter, tile
        self.known = [kind.name for kind in detector.classes]
        self.thresholds: Mapping[str, float] = detector.thresholds(thresholds)
        self.radii: dict[str, float] = {}
        if diameter != "auto":
            zoom = detector.zoom_of(diameter)
            self.radii = {kind.name: kind.radius / zoom for kind in detector.classes}

    def candidates(self, samples: Sequence[Sample]) -> FoundByImage:
        return found_by_model(
            samples, self.detector, threshold={"": 0.0}, diameter=self.diameter, tile=self.tile
        )

    def counting(self, name: str, dataset: Dataset) -> str:
        return "" if len(self.known) == 1 else class_to_count(name, self.known, dataset)


class FolderSource:
    """A folder of CSVs, as `predict` writes them.

    Parameters
    ----------
    folder : path
    samples : sequence of Sample
        Whose tables are read.
    thresholds : mapping
    dataset : Dataset
        Of the samples.

    Raises
    ------
    DataError
        See `found_in_folder`.
    UsageError
        If a threshold is given for a class that is not there, or for detections without scores; or if the tables are of
        other images of the data set, which have the same names.
    """

    def __init__(
        self, folder: Path, samples: Sequence[Sample], thresholds: Mapping[str, float], dataset: Dataset
    ):
        record = read_record(folder)
        _refuse_namesakes(samples, folder, images_in(record), dataset)
        self.found, self.thresholds = found_in_folder(samples, folder), thresholds
        occurring, recorded = class_names_of(self.found), classes_in(record)
        # The tables may have been changed since.
        self.known = recorded if {*occurring} <= {*recorded} else occurring
        self.radii: dict[str, float] = {}
        if thresholds and not have_scores(self.found):
            raise UsageError(
                f"--threshold is for detections with scores: all of {folder} have the score 1, as without a column "
                "'score'"
            )
        if strange := sorted({*thresholds} - {"", *self.known, *dataset.class_names}):
            classes = ", ".join(self.known) or "not told apart"
            raise UsageError(
                f"--threshold names the class '{strange[0]}', but the classes here are: {classes}"
            )
        for name, kept in thresholds_in(record).items():
            if (asked := thresholds.get(name, thresholds.get("", kept))) < kept:
                log.warning(
                    "%s holds what scores at least %.4g%s, the threshold is %.4g: nothing lower was kept; predict "
                    "again with --threshold %s%.4g",
                    folder, kept, f" of {name}" * bool(name), asked, f"{name}=" * bool(name), asked,
                )  # fmt: skip

    def candidates(self, samples: Sequence[Sample]) -> FoundByImage:
        return {sample.name: self.found[sample.name] for sample in samples}

    def counting(self, name: str, dataset: Dataset) -> str:
        return class_to_count(name, self.known, dataset)


def _refuse_namesakes(
    samples: Sequence[Sample], folder: Path, image_of: Mapping[str, str], dataset: Dataset
) -> None:
    """Fail where tables were, by their record, predicted from images of another split that have the same names."""
    others = {str(one.path.absolute()): one for one in dataset.samples}
    for sample in samples:
        table = table_of(sample, folder)
        made_of = others.get(image_of.get(table.relative_to(folder).as_posix(), "")) if table else None
        if made_of is not None and made_of.path != sample.path:
            raise UsageError(
                f"{table} was predicted from {made_of.path}, not from {sample.path}: give --split {made_of.split}, or "
                "predict these images"
            )


def scored(
    dataset: Dataset, split: str, source: Source, radii: Mapping[str, float], protocol: str
) -> list[Part]:
    """A report for each class of `radii` (px; "" for all points) on a split of a data set."""
    candidates = source.candidates(samples_of(dataset, split))
    if not any(source.known):
        warn_if_without_class(candidates, [*radii], dataset, "those that are scored")
    found, least = above(candidates, source.thresholds), source.thresholds
    parts = []
    for name, radius in radii.items():
        samples = samples_of(dataset.only(name) if name else dataset, split)
        counting = source.counting(name, dataset)
        report = evaluate(cases_of(samples, found, counting), radius, protocol=protocol)
        own = least.get(name, least.get("", min(least.values(), default=None)))
        if counting or len({*least.values()}) == 1:  # else classes that count as one kind have several
            report = replace(report, threshold=own)
        parts.append(Part(name, report, cases_of(samples, candidates, counting), own))
    return parts


def compared(dataset: Dataset, split: str, part: Part, other: FoundByImage) -> PairedDifference:
    """How much more a class that was scored has than other detections on the same images."""
    samples = samples_of(dataset.only(part.name) if part.name else dataset, split)
    theirs = cases_of(samples, other, class_to_count(part.name, class_names_of(other), dataset))
    return paired_bootstrap(evaluate(theirs, part.report.radius, protocol=part.report.protocol), part.report)
