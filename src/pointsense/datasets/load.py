"""Loading a data set of either layout, with its split, its groups and its scale."""

from __future__ import annotations

import difflib
import json
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pointsense.datasets import folder, spotiflow
from pointsense.datasets.dataset import LOOK_ALIKE, SPLITS, Dataset, DatasetReading, Sample, first_few
from pointsense.datasets.folder import image_name, unknown_images
from pointsense.datasets.official import named, read_official
from pointsense.datasets.official.source import split_of
from pointsense.errors import DataError, UsageError
from pointsense.tables import Row, Table, read_table

log = logging.getLogger(__name__)

SCALE = ("um_per_px", "radius_px", "smallest_radius_px")
"""What dataset.json may hold."""

BESIDE = ("split.csv", "groups.csv", "dataset.json")
"""Files that may lie beside the images."""


def load_dataset(
    path: Path | str, *, split_file: Path | str | None = None, val_fold: int | str | None = None
) -> Dataset:
    """Load `images/` + `points.csv`, or Spotiflow's `train/`, `val/`; images are not opened.

    Beside them may lie `split.csv` (image, split), `groups.csv` (image, group) and `dataset.json`
    ({"um_per_px": 0.25, "radius_px": 6 or {"class": 6}}). Without a split all images of the first layout
    are "train". An image that the split does not list belongs to no split, which is logged. Points of the class
    `LOOK_ALIKE` are no objects: they become `Sample.look_alikes`.

    Parameters
    ----------
    path : folder of the data set, or NAME:DIR for a download of `official.FORMATS`
    split_file : CSV file, optional
        (image, split), or (image, fold) together with `val_fold`; used in place of `split.csv`.
    val_fold : int or str, optional
        The fold that becomes "val"; the others become "train".

    Raises
    ------
    DataError
        If the folder, a table or a line of one is not what it should be; the first problem, and their number.
    UsageError
        If `split_file` and `val_fold` do not fit together.
    """
    reading = read_dataset(path, split_file=split_file, val_fold=val_fold)
    dataset = reading.sound(": see pointsense check")
    for note in reading.notes:
        log.warning("%s", note)
    return dataset


def read_dataset(
    path: Path | str, *, split_file: Path | str | None = None, val_fold: int | str | None = None
) -> DatasetReading:
    """`load_dataset`, but collecting problems instead of stopping at the first.

    Raises
    ------
    DataError, UsageError
        Only where nothing of the data set can be read, or the arguments are wrong.
    """
    if given := named(path):
        reading = read_official(*given)
        if split_file is not None or val_fold is not None:
            _read_split(reading, Path(split_file or given[1] / "split.csv"), val_fold)
        return _set_look_alikes_apart(reading)
    root = Path(path)
    samples, problems = _layout(root)(root)
    reading = DatasetReading(
        Dataset(root, tuple(sorted(samples, key=lambda sample: sample.name)), {}), problems
    )
    by_folders = spotiflow.is_layout(root)
    for name in sorted(entry.name for entry in root.iterdir() if entry.name not in BESIDE):
        near = difflib.get_close_matches(name, BESIDE, 1, cutoff=0.8)
        if by_folders and (root / name).is_dir() and name not in SPLITS:
            near = [split] if (split := split_of(name)) else []
        if near and not (root / near[0]).exists():
            reading.notes.append(f"{root / name} is not read: did you mean {near[0]}?")
    if split_file is not None or val_fold is not None or (root / "split.csv").exists():
        _read_split(reading, root / "split.csv" if split_file is None else Path(split_file), val_fold)
    if (root / "groups.csv").exists():
        _read_groups(reading, root / "groups.csv")
    if (root / "dataset.json").exists():
        _read_scale(reading, root / "dataset.json")
    return _set_look_alikes_apart(reading)


def _layout(root: Path) -> Callable[[Path], tuple[list[Sample], list[str]]]:
    for layout in (folder, spotiflow):
        if layout.is_layout(root):
            return layout.read_samples
    expected = f"expected a folder with {folder.EXPECTED}, or {spotiflow.EXPECTED}"
    if not root.is_dir():
        raise DataError(f"{root} {'is a file' if root.exists() else 'does not exist'}; {expected}")
    found = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())
    listed = ", ".join(found[:6]) + (", ..." if len(found) > 6 else "") if found else "nothing"
    raise DataError(f"{root} is no data set: {expected}, found {listed}")


def _read_split(reading: DatasetReading, path: Path, val_fold: int | str | None) -> None:
    try:
        table = read_table(path, ("image",))
        splits = _splits(reading, table, val_fold)
    except DataError as error:
        reading.problems.append(str(error))
        return
    unlisted = [sample.name for sample in reading.dataset.samples if sample.name not in splits]
    if unlisted:
        reading.notes.append(
            f"{path} does not list {_some(unlisted)}: neither trained nor evaluated on; add the missing lines"
        )
    _replace_samples(reading, lambda sample: replace(sample, split=splits.get(sample.name, "")))


def _splits(reading: DatasetReading, table: Table, val_fold: int | str | None) -> dict[str, str]:
    """The split of each image that the table lists."""
    path = table.path
    if val_fold is not None and "fold" not in table.columns:
        raise UsageError(f"--val-fold {val_fold} needs a column fold in {path}; give such a --split-file")
    if val_fold is None and "split" not in table.columns:
        if "fold" in table.columns:
            raise UsageError(f"{path} divides by fold; choose one of {_folds(table)} with --val-fold")
        raise DataError(f"{path} lacks the column split (or fold); found '{','.join(table.columns)}'")
    if val_fold is not None and str(val_fold) not in _folds(table).split(", "):
        raise UsageError(f"no fold {val_fold} in {path}; choose one of {_folds(table)} with --val-fold")

    def split_of(row: Row) -> str:
        if val_fold is not None:
            fold = row.text("fold")
            return "val" if fold == str(val_fold) else "train" if fold else ""
        return split if (split := row.text("split").lower()) in SPLITS else ""

    if val_fold is None:
        reading.problems += _strange_splits(table)
    return _by_image(reading, table, split_of)


def _strange_splits(table: Table) -> list[str]:
    """One sentence about each word that is no part of a split."""
    words: dict[str, list[int]] = {}
    for row in table.rows:
        if (word := row.text("split")).lower() not in SPLITS:
            words.setdefault(word, []).append(row.line)
    problems = []
    for word, lines in words.items():
        near = difflib.get_close_matches(word.lower(), SPLITS, 1)
        problems.append(
            f"{table.path}, line {lines[0]}: split is '{word}', expected train, val or test"
            + (f"; did you mean {near[0]}?" if near else "")
            + f" ({len(lines)} lines)" * (len(lines) > 1)
        )
    return problems


def _folds(table: Table) -> str:
    return ", ".join(sorted({row.text("fold") for row in table.rows} - {""}))


def _read_groups(reading: DatasetReading, path: Path) -> None:
    try:
        groups = _by_image(reading, read_table(path, ("image", "group")), lambda row: row.text("group"))
    except DataError as error:
        reading.problems.append(str(error))
        return
    if unlisted := [sample.name for sample in reading.dataset.samples if not groups.get(sample.name)]:
        reading.notes.append(
            f"{path} gives no group for {_some(unlisted)}: each counts as its own; add the lines"
        )
    _replace_samples(reading, lambda sample: replace(sample, group=groups.get(sample.name) or sample.name))


def _by_image(reading: DatasetReading, table: Table, value: Callable[[Row], str]) -> dict[str, str]:
    """`value` of the row of each image; contradictions are problems, images that are not there a note."""
    names = {sample.name for sample in reading.dataset.samples}
    below = "images/" if (reading.dataset.root / "images").is_dir() else "the data set"
    values: dict[str, str] = {}
    unknown: dict[str, Row] = {}
    for row in table.rows:
        name = image_name(row)
        if name not in names:
            unknown.setdefault(name, row)
            continue
        found = value(row)
        if values.setdefault(name, found) != found:
            reading.problems.append(
                f"{table.path}, line {row.line}: {name} is '{found}' here, '{values[name]}' above; keep one"
            )
    if unknown and not values and names:
        reading.problems.append(unknown_images(table, unknown, below, names))
    elif unknown:
        reading.notes.append(unknown_images(table, unknown, below, names))
    return values


def _set_look_alikes_apart(reading: DatasetReading) -> DatasetReading:
    _note_doubles(reading)
    _replace_samples(reading, Sample.with_look_alikes_apart)
    radii = {name: px for name, px in reading.dataset.radius_px.items() if name != LOOK_ALIKE}
    reading.dataset = replace(reading.dataset, radius_px=radii)
    return reading


def _note_doubles(reading: DatasetReading) -> None:
    twice = {
        sample.name: len(sample.points) - len(np.unique(sample.points, axis=0))
        for sample in reading.dataset.samples
    }
    if total := sum(twice.values()):
        listed = _some([name for name, count in twice.items() if count])
        reading.notes.append(
            f"{total} point{'s repeat others' if total > 1 else ' repeats another'} of the same image and position "
            f"({listed}): each counts by itself, so that one of two is always missed; delete the copies"
        )


def _replace_samples(reading: DatasetReading, change: Callable[[Sample], Sample]) -> None:
    samples = tuple(change(sample) for sample in reading.dataset.samples)
    reading.dataset = replace(reading.dataset, samples=samples)


def _read_scale(reading: DatasetReading, path: Path) -> None:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(value, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        reading.problems.append(
            f'{path} is not a JSON object ({error}); expected {{"radius_px": 6}} or the like'
        )
        return
    for key in sorted(set(value) - set(SCALE)):
        near = difflib.get_close_matches(key, SCALE, 1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
        reading.notes.append(f"{path}: '{key}' is unknown and ignored: {hint}known are {', '.join(SCALE)}")
    um_per_px, radius = value.get("um_per_px"), value.get("radius_px")
    radii: dict[str, Any]
    if um_per_px is not None and not _is_length(um_per_px):
        reading.problems.append(f"{path}: um_per_px is {um_per_px!r}, expected a positive number or null")
        um_per_px = None
    smallest = value.get("smallest_radius_px")
    if smallest is not None and not _is_length(smallest):
        reading.problems.append(
            f"{path}: smallest_radius_px is {smallest!r}, expected a positive number of pixels or null"
        )
        smallest = None
    if radius is None:
        radii = {}
    elif isinstance(radius, dict):
        radii = radius
    else:
        names = {name for sample in reading.dataset.samples for name in sample.classes} or {""}
        radii = dict.fromkeys(sorted(names), radius)
    if not all(map(_is_length, radii.values())):
        reading.problems.append(
            f"{path}: radius_px is {radius!r}, expected a positive number of pixels, or one for each class"
        )
        radii = {}
    reading.dataset = replace(
        reading.dataset,
        um_per_px=None if um_per_px is None else float(um_per_px),
        radius_px={name: float(length) for name, length in radii.items()},
        smallest_radius_px=None if smallest is None else float(smallest),
    )


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _some(names: list[str]) -> str:
    """The first three names, and how many there are."""
    return first_few(names) + (f" ({len(names)} images)" if len(names) > 3 else "")
