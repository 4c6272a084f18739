"""The doctor for data: everything that would spoil a training, found before it, one line each."""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pointsense.datasets.crowding import crowding
from pointsense.datasets.dataset import LOOK_ALIKE, Dataset, Sample, check_points_inside, first_few
from pointsense.datasets.division import check_both_parts
from pointsense.datasets.load import read_dataset
from pointsense.datasets.looked import Looked, look
from pointsense.datasets.radius import estimate_radius
from pointsense.datasets.swapped import are_swapped, seem_swapped
from pointsense.errors import DataError
from pointsense.images.pixel_size import are_alike

SHOWN = 10
"""Problems of one kind that are listed before the rest is only counted."""


@dataclass(frozen=True)
class Finding:
    """One line of the report: an "error" (the data cannot be used) or a "warning" (look at it)."""

    level: Literal["error", "warning"]
    message: str


def check(
    path: Path | str,
    *,
    split_file: Path | str | None = None,
    val_fold: int | str | None = None,
    radius: float | None = None,
    window: float | None = None,
    capacity: int | None = None,
) -> list[Finding]:
    """Look at a data set and list what is wrong (errors) or odd (warnings) with it; it never stops early.

    Parameters
    ----------
    path, split_file, val_fold
        As for `load_dataset`.
    radius : float, optional
        Match radius in pixels; else that of `dataset.json`, else an estimate from the spacing.
    window, capacity : float and int, optional
        Side in pixels of a model's window and the number of points that its code can hold; by default 8 radii
        and 64, one point per radius squared.

    Raises
    ------
    UsageError
        If `split_file` and `val_fold` do not fit together.
    """
    try:
        reading = read_dataset(path, split_file=split_file, val_fold=val_fold)
    except DataError as error:
        return [Finding("error", str(error))]
    dataset = reading.dataset
    outside, looked = [], []
    for sample in dataset.samples:
        try:
            looked.append(look(sample))
            check_points_inside(sample, looked[-1].shape)
        except DataError as error:
            outside.append(str(error))
    swapped = list(are_swapped(looked))
    errors = [*swapped, *reading.problems, *outside]
    if errors[SHOWN:]:
        errors[SHOWN:] = [
            f"and {len(errors) - SHOWN} more errors like these; correct the first and check again"
        ]

    sound = not reading.problems  # which may be why images or points are missing
    if sound and not any(sample.split for sample in dataset.samples):
        errors.append("no image is in any part: list them in split.csv, or delete it")
    elif sound and dataset.train:
        try:
            check_both_parts(dataset.train, dataset.val)
        except DataError as error:
            errors.append(str(error))

    mixed = list(_mixed(looked))
    errors += [finding.message for finding in mixed if finding.level == "error"]
    warnings = [
        *reading.notes,
        *([] if swapped else seem_swapped(looked)),
        *(finding.message for finding in mixed if finding.level == "warning"),
        *_pixel_sizes(dataset, looked),
        *_classes(dataset),
        *_twins(dataset),
        *_straddling_groups(dataset),
        *_radii(dataset, radius),
        *crowding(dataset, radius, window, capacity),
    ]
    return [Finding("error", message) for message in errors] + [
        Finding("warning", message) for message in warnings
    ]


def summary(
    path: Path | str, *, split_file: Path | str | None = None, val_fold: int | str | None = None
) -> str:
    """How many images and points a data set has, in a line; "" if it cannot be read."""
    try:
        dataset = read_dataset(path, split_file=split_file, val_fold=val_fold).dataset
    except DataError:
        return ""
    parts = {part: sum(s.split == part for s in dataset.samples) for part in ("train", "val", "test", "")}
    kinds = Counter(name for sample in dataset.samples for name in sample.classes)
    empty = sum(not len(sample.points) for sample in dataset.samples)
    split = ", ".join(
        f"{n} {part or 'in no part'}" for part, n in parts.items() if n or part in ("train", "val")
    )
    listed = ", ".join(f"{name or 'no class'} {count}" for name, count in sorted(kinds.items()))
    of = f" ({listed})" if any(kinds) else ""
    return f"images: {split}, {empty} without a point; points: {kinds.total()}{of}"


def _mixed(looked: Sequence[Looked]) -> Iterator[Finding]:
    """More than one kind of image: an error where training would refuse them."""
    learned = [image for image in looked if image.sample.split == "train"]
    channels, trained = (Counter(image.shape[2] for image in part) for part in (looked, learned))
    if len(channels) > 1:
        refused = len(trained) > 1 and set(trained) != {1, 3}
        remedy = "grey will be repeated to RGB" if set(channels) == {1, 3} else "some will be refused"
        remedy = "training will refuse them" if refused else remedy
        yield Finding(
            "error" if refused else "warning",
            f"mixed channel counts: {_counted(channels)}; {remedy}: convert them to one count, or train apart",
        )
    dtypes, types = (Counter(image.dtype for image in part) for part in (looked, learned))
    if len(dtypes) > 1:
        refused = len(types) > 1 and "float32" in types
        remedy = "floats must lie in [0, 1]" if "float32" in dtypes else "8 bits will be stretched to 16"
        remedy = "training will refuse them" if refused else remedy
        yield Finding(
            "error" if refused else "warning",
            f"mixed number types: {_counted(dtypes)}; {remedy}: convert them to one type",
        )


def _pixel_sizes(dataset: Dataset, looked: Sequence[Looked]) -> Iterator[str]:
    """Magnifications that differ from each other, or from that of dataset.json, by what the images' files state."""
    sizes = Counter(float(f"{image.um_per_px:.3g}") for image in looked if image.um_per_px)
    if sizes and not are_alike(max(sizes), min(sizes)):
        yield (
            f"the files state pixels of several sizes: {_counted(sizes)} (um); objects look unlike large: rescale the "
            "images, and their points, to one size"
        )
    elif sizes and dataset.um_per_px and not are_alike(max(sizes), dataset.um_per_px):
        yield (
            f"dataset.json states pixels of {dataset.um_per_px:g} um, the images' files {max(sizes):g} um: correct one "
            "of them"
        )


def _classes(dataset: Dataset) -> Iterator[str]:
    """Class names that may be slips of the pen."""
    counts = Counter(name for sample in dataset.samples for name in sample.classes)
    if counts[""] and len(counts) > 1:
        yield (
            f"{counts['']} of {counts.total()} points have no class: where classes are told apart they are none of "
            "them; name all, or none"
        )
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in sorted(counts):
        spellings[name.lower()].append(name)
    for names in spellings.values():
        if len(names) > 1:
            yield f"{' and '.join(names)} are classes of their own: write them alike if they are the same"
    if near := difflib.get_close_matches(LOOK_ALIKE, spellings, 1, cutoff=0.8):
        yield (
            f"{spellings[near[0]][0]} is a class of objects to find: write {LOOK_ALIKE} if it is what only looks like "
            "one"
        )


def _twins(dataset: Dataset) -> Iterator[str]:
    """The same file in more than one part of the split, or twice in one."""
    copies: dict[bytes, list[Sample]] = defaultdict(list)
    for sample in dataset.samples:
        if sample.split:
            with suppress(OSError):
                copies[hashlib.sha256(sample.path.read_bytes()).digest()].append(sample)
    for across, where, why in (
        (True, "in more than one part of the split", "scores will flatter"),
        (False, "twice in one part of the split", "they count twice, with points that may differ"),
    ):
        twins = [same for same in copies.values() if len(same) > 1 and across == (len(_parts(same)) > 1)]
        if twins:
            one = twins[0][0]
            other = next(twin for twin in twins[0][1:] if across == (twin.split != one.split))
            yield (
                f"{len(twins)} image{'s are' if len(twins) > 1 else ' is'} the same file {where} (first {one.name} and "
                f"{other.name}): {why}; leave the copies out"
            )


def _parts(samples: Sequence[Sample]) -> set[str]:
    return {sample.split for sample in samples}


def _straddling_groups(dataset: Dataset) -> Iterator[str]:
    splits: dict[str, set[str]] = defaultdict(set)
    for sample in dataset.samples:
        if sample.split:
            splits[sample.group].add(sample.split)
    if straddling := sorted(group for group, found in splits.items() if len(found) > 1):
        names = sorted(set.union(*(splits[group] for group in straddling)))
        yield (
            f"{len(straddling)} of {len(splits)} groups are in more than one of {', '.join(names)} "
            f"({first_few(straddling)}): scores will flatter; split by group"
        )


def _radii(dataset: Dataset, radius: float | None) -> Iterator[str]:
    """What stands in the way of a match radius for all points, or for each class."""
    known, occurring = set(dataset.radius_px), set(dataset.class_names)
    if strange := sorted(known - occurring - {""}):
        yield (
            f"dataset.json gives a match radius for {first_few(strange)}, and no point is of that class: "
            f"{f'the classes are {first_few(sorted(occurring))}' if occurring else 'the points have no class'}"
        )
    if radius is not None or "" in known:
        return
    annotated = any(len(sample.points) for sample in dataset.train)
    if annotated and not known & occurring and estimate_radius(dataset) is None:
        yield (
            "the match radius is not known, and points are too few or too far apart to estimate it: train needs "
            "--radius PX, about an object's radius"
        )
    if lacking := sorted(occurring - known) if known & occurring else []:
        yield (
            f"dataset.json gives no match radius for {first_few(lacking)}: --each-class needs it, or --radius CLASS=PX"
        )


def _counted(counts: Counter[Any]) -> str:
    return ", ".join(f"{value} in {number}" for value, number in counts.most_common()) + " images"
