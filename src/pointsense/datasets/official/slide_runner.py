"""SlideRunner's data bases, which hold the labels of whole slides."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from pointsense.datasets.official.source import Points
from pointsense.errors import DataError

QUERY = """
    SELECT slide.filename, class.name, AVG(place.coordinateY), AVG(place.coordinateX)
    FROM Slides AS slide
    LEFT JOIN Annotations AS one ON one.slide = slide.uid AND one.deleted = 0
    LEFT JOIN Annotations_coordinates AS place ON place.annoId = one.uid
    LEFT JOIN Classes AS class ON class.uid = one.agreedClass
    GROUP BY slide.uid, one.uid
"""
"""Each slide with each of its annotations, whose place is the mean of its coordinates; a slide without any once."""


def read_slide_runner(path: Path | str) -> dict[str, dict[str, Points]]:
    """Points (K, 2) yx by slide and by the class that was agreed on.

    Raises
    ------
    DataError
        If the file is not such a data base.
    """
    path = Path(path)
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as base:
            rows = base.execute(QUERY).fetchall()
    except sqlite3.Error as error:
        raise DataError(f"{path} is not a data base of SlideRunner ({error}); download it again") from error
    slides: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for slide, kind, y, x in rows:
        of_slide = slides.setdefault(slide, {})
        if kind is not None:
            of_slide.setdefault(kind, []).append((y, x))
    return {
        slide: {kind: np.array(points, dtype=np.float64) for kind, points in kinds.items()}
        for slide, kinds in slides.items()
    }
