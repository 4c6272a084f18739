"""What a reader of a download is given, and what it gives: the labels of images that may lie elsewhere."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointsense.datasets.official.pairing import Images
from pointsense.errors import DataError

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Record:
    """The labels of an image.

    Attributes
    ----------
    key : str
        Where the download has the image: its path below the folder, with `/`, without its suffix.
    points : (K, 2) float64
        (y, x) in px; the origin is the centre of the first pixel.
    classes : tuple of K str
    group : str
        Patient, slide or case; "" for the image itself.
    split : str
        "train", "val" or "test" where the download divides its images, else "".
    um_per_px : float or None
        Pixel size where it is known.
    suffix : str
        That of the image where the labels name it.
    folder : str
        That of the labels, from which the key may start as well.
    radii : tuple of K float
        px, where regions or boxes are annotated: that of a disc of a region's area, half of a box's shorter side; nan
        for what is marked as a point. Empty where all are.
    """

    key: str
    points: Points
    classes: tuple[str, ...]
    group: str = ""
    split: str = ""
    um_per_px: float | None = None
    suffix: str = ""
    folder: str = ""
    radii: tuple[float, ...] = ()


@dataclass
class Source:
    """A download: its folder, its images, and what turns out to be wrong (`problems`) or odd (`notes`) with it."""

    root: Path
    images: Images
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Format:
    """A layout that can be read.

    Attributes
    ----------
    read : callable
        From a `Source` to its records; none where the folder is not of this layout.
    expected : str
        The files that make the layout.
    obtain : str
        Where the data can be had; "" for what anybody makes.
    radius_um, radius_px : float or None
        Match radius of its protocol, in the one or the other.
    """

    read: Callable[[Source], list[Record]]
    expected: str
    obtain: str = ""
    radius_um: float | None = None
    radius_px: float | None = None


def number_rows(path: Path, problems: list[str]) -> Iterator[list[float]]:
    """The numbers of each line of a CSV file without a header; blank lines, and blanks at a line's end, are left out.

    A line that holds anything else is left out and told in `problems`.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(enumerate(csv.reader(file), start=1))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.append(f"cannot read {path}: {error}")
        return
    for number, cells in lines:
        while cells and not cells[-1].strip():
            cells.pop()
        try:
            values = [float(cell) for cell in cells]
        except ValueError:
            values = [math.nan]
        if not np.isfinite(values).all():
            problems.append(f"{path}, line {number}: found '{','.join(cells)}', expected numbers alone")
        elif values:
            yield values


def pairs(path: Path, problems: list[str], *, order: str) -> Points:
    """Points (K, 2) yx from the first two numbers of each line, in the order "xy" or "yx"."""
    rows = list(number_rows(path, problems))
    if short := [row for row in rows if len(row) < 2]:
        problems.append(
            f"{path}: a line has the number {short[0][0]:g} alone, expected {order[0]},{order[1]}"
        )
    points = np.array([row[:2] for row in rows if len(row) >= 2]).reshape(-1, 2)
    return points if order == "yx" else points[:, ::-1]


def without_doubles(points: Points, classes: Sequence[str]) -> tuple[Points, tuple[str, ...]]:
    """Points (K, 2) of which no two of one class are the same, in their order."""
    first = {(y, x, name): k for k, (y, x, name) in reversed(list(enumerate(_rows(points, classes))))}
    kept = sorted(first.values())
    return points[kept], tuple(classes[k] for k in kept)


def _rows(points: Points, classes: Sequence[str]) -> list[tuple[float, float, str]]:
    return [(float(y), float(x), name) for (y, x), name in zip(points, classes, strict=True)]


def in_classes(parts: dict[str, Points]) -> tuple[Points, tuple[str, ...]]:
    """The points of several classes, one after the other, and the class of each."""
    points = np.concatenate([np.zeros((0, 2)), *parts.values()])
    return points, tuple(name for name, part in parts.items() for _ in part)


def split_of(name: str) -> str:
    """The split that a file, or a column, names by one of its words; "" if none."""
    words = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
    words |= {"test": "test", "testing": "test"}
    return next((words[word] for word in re.split("[^a-z]+", name.lower()) if word in words), "")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises
    ------
    DataError
        If it is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not JSON ({error}); download it again") from error
