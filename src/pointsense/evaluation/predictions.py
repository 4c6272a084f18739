"""From a data set and a detector, or a folder of its results, to the cases that `evaluate` scores."""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pointsense.datasets import Dataset, Sample, check_points_inside
from pointsense.datasets.dataset import SPLITS, first_few
from pointsense.errors import DataError, UsageError
from pointsense.evaluation.cases import Case
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


def classes_of(dataset: Dataset, of_model: Sequence[str], given: Sequence[str]) -> list[str]:
    """The classes to score one by one: those `given`, else the model's own that the data set knows, else "" (all).

    A model of one class that is scored against another is logged, for names differ between laboratories; so is what is
    not scored because only one side knows it.

    Raises
    ------
    UsageError
        If a model of several classes does not find one that is given.
    """
    if given:
        for name in given:
            dataset.only(name)  # fails where no point is of that class
            if len(of_model) == 1 and of_model[0] not in ("", name):
                log.warning("the model finds '%s', it is scored against '%s'", of_model[0], name)
            if len(of_model) > 1 and name not in of_model:
                raise UsageError(f"the model finds no '{name}'; its classes are {', '.join(of_model)}")
        return list(given)
    known = dataset.class_names
    common = [name for name in of_model if name in known]
    if max(len(known), len(of_model)) > 1 and not common and any(of_model):
        log.warning(
            "the detections are of the class %s, the points %s: all count as one kind",
            ", ".join(filter(None, of_model)),
            f"of {', '.join(known)}" if known else "without a class",
        )
    elif common and (alone := sorted(set(known).symmetric_difference(of_model))):
        log.warning("not scored, as only the model or only the data know them: %s", ", ".join(alone))
    return common if max(len(known), len(of_model)) > 1 and common else [""]


FoundByImage = dict[str, Detections | None]
"""Detections by the name of their image; None where there are none to be had."""


def found_by_model(
    samples: Iterable[Sample],
    detector: Detector,
    *,
    threshold: Mapping[str, float] | None = None,
    diameter: float | Literal["auto"] | None = None,
    tile: int = 1024,
) -> FoundByImage:
    """A detector's points on the samples' images, see `Detector.predict`; every image must be readable, or the score
    would flatter.

    Raises
    ------
    DataError
        For an image that cannot be read or used by the model, or a point outside its image.
    """
    found: FoundByImage = {}
    for sample in samples:
        image = read_image(sample.path)
        check_points_inside(sample, image.shape)
        detector.contract.warn_if_grey(image, str(sample.path))
        found[sample.name] = detector.predict(
            image, threshold=threshold, diameter=diameter, tile=tile, name=str(sample.path)
        )
    return found


def above(found: FoundByImage, threshold: Mapping[str, float]) -> FoundByImage:
    """The detections that reach the threshold of their class, see `Detections.above`; all where there is none."""
    if not threshold:
        return found
    return {name: one if one is None else one.above(threshold) for name, one in found.items()}


def found_in_folder(samples: Sequence[Sample], folder: Path | str) -> FoundByImage:
    """The points of one CSV an image, as `pointsense predict` writes them.

    The CSV of `images/sub/a.png` is `sub/a.csv`, or `images/sub/a.csv` where the whole set was predicted at
    once. An image without one counts as all missed, which is logged.

    Raises
    ------
    DataError
        If the folder holds no CSV for any of the samples, one that two of them share, or one that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; expected the one that pointsense predict wrote its CSVs to"
        )
    found: FoundByImage = {}
    owners: dict[Path, str] = {}
    for sample in samples:
        path = table_of(sample, folder)
        if path is not None and (other := owners.setdefault(path, sample.name)) != sample.name:
            raise DataError(
                f"{path} could be of {other} and of {sample.name}: rename one of the images, and predict them again"
            )
        found[sample.name] = None if path is None else Detections.read_csv(path)
    missing = [name for name, detections in found.items() if detections is None]
    if len(missing) == len(samples):
        expected = Path(missing[0]).with_suffix("").as_posix() + ".csv"
        raise DataError(
            f"{folder} has no prediction for any of {len(samples)} images; expected {expected} and so on, as "
            "pointsense predict names them"
        )
    if missing:
        log.warning(
            "%s has no prediction for %d of %d images (%s): all their points count as missed",
            folder, len(missing), len(samples), first_few(missing),
        )  # fmt: skip
    return found


def have_scores(found: FoundByImage) -> bool:
    """Whether detections, if there are any, have scores that differ from the 1 of those without."""
    scores = [one.scores for one in found.values() if one is not None and len(one)]
    return not scores or any((part != 1).any() for part in scores)


def class_names_of(found: FoundByImage) -> list[str]:
    """The classes that occur among detections, sorted; without the empty one."""
    names = {str(name) for one in found.values() if one is not None for name in set(one.classes)}
    return sorted(names - {""})


def warn_if_without_class(found: FoundByImage, names: Sequence[str], dataset: Dataset, what: str) -> None:
    """Log where detections without a class are scored against `names`, each of which is one class of several."""
    without = sum(int(np.sum(one.classes == "")) for one in found.values() if one is not None)
    if without and any(names) and len(dataset.class_names) > 1:
        log.warning(
            "%d points of %s have no class: each counts against %s by itself, and as a false alarm where it lies on "
            "another of the classes (%s); to score all as one kind take points without classes",
            without, what, " and ".join(names), ", ".join(dataset.class_names),
        )  # fmt: skip


def class_to_count(name: str, known: Sequence[str], dataset: Dataset) -> str:
    """The class that detections of the classes `known` must have to count for the data's class `name`; "" for any.

    Laboratories call the same thing by other names: all count where there is a single class that is none of the data's.
    A class of the data is never taken for another, even where there is no other.
    """
    return "" if len(known) == 1 and known[0] not in dataset.class_names else name


def cases_of(samples: Iterable[Sample], found: FoundByImage, class_name: str = "") -> list[Case]:
    """The samples with what was found on them, to be scored.

    Of a `class_name`, detections of other classes are left out; those without a class count.
    """
    cases = []
    for sample in samples:
        detections = found[sample.name]
        if detections is not None and class_name:
            detections = detections.select((detections.classes == class_name) | (detections.classes == ""))
        points, scores = (None, None) if detections is None else (detections.points, detections.scores)
        cases.append(Case(sample.name, sample.group, sample.points, points, scores))
    return cases


def table_of(sample: Sample, folder: Path) -> Path | None:
    """The CSV of a sample in a folder of predictions; None where there is none."""
    name = Path(sample.name)
    inner = [Path(*name.parts[1:])] if name.parts[0] in SPLITS else []  # of Spotiflow's layout
    for one in (name, *inner, Path("images") / name):
        for form in ("NFC", "NFD"):  # as the image's own name may be written
            path = folder / unicodedata.normalize(form, one.with_name(one.stem + ".csv").as_posix())
            if path.is_file():
                return path
    return None
