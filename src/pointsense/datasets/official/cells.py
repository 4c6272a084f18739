"""Sets of cells as they are downloaded: CRCHistoPhenotypes and VGG's synthetic cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import loadmat

from pointsense.datasets.official.source import Points, Record, Source
from pointsense.errors import DataError
from pointsense.images import read_image

UM_CRCHISTO = 0.55
UNLABELLED = "unlabelled"


def read_crchisto(source: Source) -> list[Record]:
    """`Detection/img1/img1_detection.mat`: `detection`, rows x, y from 1; the classes lie in `Classification/`."""
    records, moved = [], 0
    unknown = UNLABELLED if (source.root / "Classification").is_dir() else ""
    for path in sorted(source.root.glob("Detection/*/*_detection.mat")):
        stem = path.parent.name
        points = _matlab_points(path)
        kinds: dict[tuple[float, ...], str] = {}
        for table in sorted(source.root.glob(f"Classification/{stem}/{stem}_*.mat")):
            kind = table.stem.removeprefix(f"{stem}_")
            kinds |= {tuple(place): kind for place in _matlab_points(table).tolist()}
        classes = tuple(kinds.get(tuple(place), unknown) for place in points.tolist())
        record = Record(f"Detection/{stem}/{stem}", points, classes, um_per_px=UM_CRCHISTO)
        if names := source.images.at(record) or source.images.ending(record):
            with Image.open(source.images.root / names[0]) as image:
                inside = np.clip(points, 0, np.array(image.size[::-1]) - 1.0)
            moved += int((inside != points).any(axis=1).sum())
            record = replace(record, points=inside)
        records.append(record)
    if moved:
        source.notes.append(f"{moved} points lie outside of their image: moved to its border")
    return records


def _matlab_points(path: Path) -> Points:
    """Points (K, 2) yx, from 0, of a .mat file of x, y from 1."""
    try:
        content: dict[str, Any] = loadmat(path)
        rows = np.asarray(content["detection"], dtype=np.float64).reshape(-1, 2)
    except Exception as error:  # the reader raises whatever the bytes lead it to
        raise DataError(
            f"{path} holds no variable 'detection' of x,y rows ({error!r}); copy it again"
        ) from error
    return rows[:, ::-1] - 1.0


def read_vgg(source: Source) -> list[Record]:
    """`001cell.png` with `001dots.png`, red dots: half a pixel is added, for the dots are floored centres."""
    records = []
    for path in sorted(source.root.glob("*dots.png")):
        marked = read_image(path)[:, :, 0] > 0
        beside = (marked[1:] & marked[:-1]).sum() + (marked[:, 1:] & marked[:, :-1]).sum()
        if 2 * beside > marked.sum():
            raise DataError(
                f"{path} has {marked.sum()} pixels with red, most of them side by side: expected one for each cell, on "
                "black; shrink each dot to one pixel"
            )
        points = np.argwhere(marked).astype(np.float64) + 0.5
        records.append(Record(path.stem.removesuffix("dots") + "cell", points, ("",) * len(points)))
    if records:
        source.notes.append("half a pixel was added to the dots' y and x: they are centres rounded down")
    return records
