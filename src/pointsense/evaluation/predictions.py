"""From a data set and a detector, or a folder of its results, to the cases that `evaluate` scores."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pointsense.datasets import Dataset, Sample, check_points_inside
from pointsense.errors import DataError
from pointsense.evaluation.report import Case
from pointsense.images import read_image
from pointsense.points import Detections

if TYPE_CHECKING:
    from pointsense.inference.detector import Detector

log = logging.getLogger(__name__)


def samples_of(dataset: Dataset, split: str) -> list[Sample]:
    """The samples of a split.

    Raises
    ------
    DataError
        If it has none; the message says which splits have.
    """
    if samples := dataset.split(split):
        return samples
    counts = Counter(sample.split for sample in dataset.samples if sample.split)
    found = (
        ", ".join(f"{name} ({count} image{'s' * (count > 1)})" for name, count in sorted(counts.items()))
        or "none"
    )
    raise DataError(
        f"no image of {dataset.root} is in the split '{split}'; its splits are: {found}: choose with --split, or "
        "divide the images in split.csv (image,split)"
    )


def class_of(dataset: Dataset, of_model: str, given: str) -> str:
    """The class to score: `given`, else the model's own where the data set has it among others, else "" (all).

    A model of one class that is scored against another is logged; names differ between laboratories.
    """
    if given:
        if of_model and of_model != given:
            log.warning("the model finds '%s', it is scored against '%s'", of_model, given)
        return given
    return of_model if of_model in dataset.class_names and len(dataset.class_names) > 1 else ""


def cases_of_model(
    samples: Iterable[Sample], detector: Detector, *, threshold: float | None = None, tile: int = 1024
) -> list[Case]:
    """A detector's points on the samples' images; every image must be readable, or the score would flatter.

    Raises
    ------
    DataError
        For an image that cannot be read or used by the model, or a point outside its image.
    """
    cases = []
    for sample in samples:
        image = read_image(sample.path)
        check_points_inside(sample, image.shape)
        detections = detector.predict(image, threshold=threshold, tile=tile, name=str(sample.path))
        cases.append(_case(sample, detections))
    return cases


def cases_of_folder(
    samples: Sequence[Sample],
    root: Path | str,
    folder: Path | str,
    *,
    class_name: str = "",
    threshold: float | None = None,
) -> list[Case]:
    """The points of one CSV an image, as `pointsense predict` writes them, for the samples of the set `root`.

    The CSV of `images/sub/a.png` is `sub/a.csv`, or `images/sub/a.csv` where the whole set was predicted at
    once. An image without one counts as all missed, which is logged. Of a `class_name`, rows of other classes
    are left out; those without a class count.

    Raises
    ------
    DataError
        If the folder holds no CSV for any of the samples, or one of them cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; expected the one that pointsense predict wrote its CSVs to"
        )
    cases, missing = [], []
    for sample in samples:
        path = _table_of(sample, Path(root), folder)
        if path is None:
            missing.append(sample.name)
            cases.append(Case(sample.name, sample.group, sample.points, None))
            continue
        detections = Detections.read_csv(path)
        if class_name:
            detections = detections.select((detections.classes == class_name) | (detections.classes == ""))
        cases.append(_case(sample, detections if threshold is None else detections.above(threshold)))
    if len(missing) == len(samples):
        expected = Path(missing[0]).with_suffix("").as_posix() + ".csv"
        raise DataError(
            f"{folder} has no prediction for any of {len(samples)} images; expected {expected} and so on, as "
            "pointsense predict names them"
        )
    if missing:
        log.warning(
            "%s has no prediction for %d of %d images (%s%s): all their points count as missed",
            folder, len(missing), len(samples), ", ".join(missing[:3]), ", ..." if missing[3:] else "",
        )  # fmt: skip
    return cases


def _table_of(sample: Sample, root: Path, folder: Path) -> Path | None:
    whole = sample.path.relative_to(root).with_suffix("")
    inner = Path(*whole.parts[1:])  # below images/, train/ or val/
    for name in (inner, whole):
        path = folder / name.with_name(name.name + ".csv")
        if path.is_file():
            return path
    return None


def _case(sample: Sample, detections: Detections) -> Case:
    return Case(sample.name, sample.group, sample.points, detections.points, detections.scores)
