"""Spotiflow's layout: `train/a.tif` with `train/a.csv` (y, x or axis-0, axis-1), and the same in `val/`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pointsense.datasets.dataset import SPLITS, Sample
from pointsense.datasets.folder import read_points
from pointsense.datasets.listing import find_images, find_tables
from pointsense.errors import DataError
from pointsense.images import IMAGE_SUFFIXES
from pointsense.tables import read_table

EXPECTED = "train/ (and val/) with a.tif and a.csv (y,x) side by side"


def is_layout(root: Path) -> bool:
    """Whether `root` looks meant to be of this layout."""
    return (root / "train").is_dir()


def read_samples(root: Path) -> tuple[list[Sample], list[str]]:
    """All images of `train/`, `val/` and `test/` with their points, and what is wrong with the tables.

    Every image needs its table, so that a forgotten one is not taken for an empty image; a table with the
    header alone says that the image is empty.

    Raises
    ------
    DataError
        If `train/` holds no image.
    """
    samples: list[Sample] = []
    problems: list[str] = []
    for split in SPLITS:
        folder = root / split
        names = find_images(folder) if folder.is_dir() else []
        if split == "train" and not names:
            raise DataError(f"no image in {folder}; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
        sharing = Counter(Path(name).with_suffix("") for name in names)
        for relative in names:
            path = folder / relative
            name = f"{split}/{relative}"
            if sharing[Path(relative).with_suffix("")] > 1:
                problems.append(
                    f"{path} shares {path.stem}.csv with another image: give each a name of its own"
                )
                continue
            if not path.with_suffix(".csv").exists():
                problems.append(
                    f"{path} has no {path.stem}.csv beside it; write one, of the header 'y,x' alone if the "
                    "image is empty"
                )
                continue
            try:
                rows = read_table(path.with_suffix(".csv"), ("y", "x")).rows
            except DataError as error:
                problems.append(str(error))
                continue
            points, classes = read_points(rows, problems)
            samples.append(Sample(name, path, points, classes, group=name, split=split))
        with_image = {(folder / name).with_suffix(".csv") for name in names}
        problems += [
            f"{table} has no image beside it; add the image or delete the table"
            for table in find_tables(folder, "*.csv")
            if table not in with_image
        ]
    return samples, problems
