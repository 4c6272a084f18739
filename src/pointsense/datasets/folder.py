"""The layout `images/` and `points.csv` (image, y, x, and, where there are classes, class)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from pointsense.datasets.dataset import Sample
from pointsense.datasets.listing import find_images, one_form
from pointsense.errors import DataError
from pointsense.images import IMAGE_SUFFIXES
from pointsense.tables import Row, Table, read_table

EXPECTED = "images/ and points.csv (image,y,x[,class])"


def is_layout(root: Path) -> bool:
    """Whether `root` looks meant to be of this layout."""
    return (root / "images").is_dir() or (root / "points.csv").is_file()


def read_samples(root: Path) -> tuple[list[Sample], list[str]]:
    """All images below `images/` with their points, and what is wrong with the lines of `points.csv`.

    An image without a line has no object. All samples are of the split "train".

    Raises
    ------
    DataError
        If a part of the layout is missing, or the table has no proper header.
    """
    images = root / "images"
    names = find_images(images) if images.is_dir() else []
    if not names:
        raise DataError(
            f"no image in {images}; expected files ending in {', '.join(IMAGE_SUFFIXES)}{_elsewhere(root, 'images')}"
        )
    if not (root / "points.csv").exists() and (near := _elsewhere(root, "points.csv")):
        raise DataError(f"{root / 'points.csv'} does not exist{near}")
    table = read_table(root / "points.csv", ("image", "y", "x"))

    there = {one_form(name): images / name for name in names}
    rows: dict[str, list[Row]] = {name: [] for name in there}
    unknown: dict[str, Row] = {}
    for row in table.rows:
        name = image_name(row)
        if name in rows:
            rows[name].append(row)
        else:
            unknown.setdefault(name, row)
    problems = [unknown_images(table, unknown, "images/", there)] if unknown else []
    samples = []
    for name, path in there.items():
        points, classes = read_points(rows[name], problems)
        samples.append(Sample(name, path, points, classes, group=name))
    return samples, problems


def _elsewhere(root: Path, name: str) -> str:
    """What may be meant in place of a file or folder `name` of `root` that is not as it should be."""
    alike = sorted(one.name for one in root.iterdir() if one.name != name and one.name.lower() == name)
    if alike:
        return f": there is '{alike[0]}', rename it to {name}"
    loose = [one for one in find_images(root) if "/" not in one] if name == "images" else []
    return f": {len(loose)} lie in {root} itself, move them to images/" if loose else ""


def image_name(row: Row) -> str:
    """The `image` cell with `/` between folders, and letters with marks in one form: systems write them in two."""
    return one_form(row.text("image").replace("\\", "/").removeprefix("./"))


def unknown_images(table: Table, unknown: dict[str, Row], folder: str, names: Iterable[str]) -> str:
    """One sentence about the lines whose image is not there, from the first line of each such image.

    Of the `names` that are there the one that may be meant is told.
    """
    meant = {_loosely(name): name for name in names}
    close = (difflib.get_close_matches(_loosely(name), meant, 1, cutoff=0.8) for name in unknown)
    near = next((meant[key] for keys in close for key in keys), None)
    first = ", ".join(f"'{name}' (line {row.line})" for name, row in list(unknown.items())[:3])
    count = "an image" if len(unknown) == 1 else f"{len(unknown)} images"
    return (
        f"{table.path} names {count} not in {folder}: {first}{', ...' if len(unknown) > 3 else ''}; "
        + (f"there is '{near}': " if near else "")
        + f"give the path below {folder} with its suffix, or delete the lines"
    )


def _loosely(name: str) -> str:
    """A name without what is often written otherwise: upper case, folders, the suffix."""
    return PurePosixPath(name.lower()).stem


def read_points(rows: list[Row], problems: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The (K, 2) yx points and K classes of `rows`; bad lines are left out and told in `problems`."""
    points, classes = [], []
    for row in rows:
        try:
            points.append((row.number("y"), row.number("x")))
            classes.append(row.text("class"))
        except DataError as error:
            problems.append(str(error))
    return np.array(points, dtype=np.float64).reshape(-1, 2), tuple(classes)
