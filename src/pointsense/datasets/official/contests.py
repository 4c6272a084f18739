"""The mitosis contests as they are downloaded: ICPR 2012, MITOS-ATYPIA-14, AMIDA13, TUPAC16, MIDOG++."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from pointsense.datasets.dataset import LOOK_ALIKE
from pointsense.datasets.official.source import (
    Record,
    Source,
    in_classes,
    number_rows,
    pairs,
)
from pointsense.errors import DataError

MITOSIS = "mitosis"

SCANNERS = {"A": 0.2456, "H": 0.2273}
"""um a pixel of the Aperio and of the Hamamatsu scanner of both contests of 2012 and 2014."""

UM_X40 = 0.25
"""um a pixel of AMIDA13, TUPAC16 and, about, MIDOG++."""


def read_icpr2012(source: Source) -> list[Record]:
    """`A00_v2/A00_00.csv`: a mitosis a line, all of its pixels x, y, x, y, ...; their mean is its centre."""
    records = []
    for path in sorted(source.root.glob("[AH][0-9][0-9]_v*/[AH][0-9][0-9]_[0-9][0-9].csv")):
        centres = []
        for row in number_rows(path, source.problems):
            if len(row) % 2:
                source.problems.append(f"{path}: a line has {len(row)} numbers, expected pairs x,y,x,y,...")
                continue
            centres.append(np.reshape(row, (-1, 2)).mean(0)[::-1])
        points = np.array(centres).reshape(-1, 2)
        slide = path.stem[:3]
        records.append(
            Record(
                f"{path.parent.name}/{path.stem}",
                points,
                (MITOSIS,) * len(points),
                group=slide,
                um_per_px=SCANNERS[slide[0]],
            )
        )
    return records


def read_mitos14(source: Source) -> list[Record]:
    """`A03/mitosis/A03_00Aa_mitosis.csv` and `..._not_mitosis.csv`: rows x, y, confidence, of x40 frames."""
    records = []
    for path in sorted(source.root.glob("[AH][0-9][0-9]/mitosis/*_mitosis.csv")):
        if path.stem.endswith("_not_mitosis"):
            continue
        frame, slide = path.stem.removesuffix("_mitosis"), path.parts[-3]
        parts = {MITOSIS: pairs(path, source.problems, order="xy")}
        others = path.with_name(f"{frame}_not_mitosis.csv")
        if others.is_file():
            parts[LOOK_ALIKE] = pairs(others, source.problems, order="xy")
        points, classes = in_classes(parts)
        records.append(
            Record(
                f"{slide}/frames/x40/{frame}",
                points,
                classes,
                group=slide[1:],  # the same tissue was scanned twice: A03 and H03 belong together
                um_per_px=SCANNERS[slide[0]],
            )
        )
    return records


def read_amida13(source: Source) -> list[Record]:
    """`mitoses_ground_truth/01/02.csv`: rows y, x; without a file there is no mitosis. Cases 13 to 23 are the test."""
    return _read_cases(source, {MITOSIS: "mitoses_ground_truth"}, {"train": (1, 12), "test": (13, 23)})


def read_tupac16(source: Source) -> list[Record]:
    """As AMIDA13's, with the cases 1 to 73."""
    return _read_cases(source, {MITOSIS: "mitoses_ground_truth"}, {"": (1, 73)})


def read_tupac16_alternative(source: Source) -> list[Record]:
    """TUPAC16's images with the labels of Bertram et al. 2020, look-alikes in `nonmitoses_ground_truth`."""
    kinds = {MITOSIS: "mitoses_ground_truth", LOOK_ALIKE: "nonmitoses_ground_truth"}
    return _read_cases(source, kinds, {"": (1, 73)})


def _read_cases(source: Source, kinds: dict[str, str], cases: dict[str, tuple[int, int]]) -> list[Record]:
    """A record for each image of the cases: that a table is missing says that there is nothing."""
    folders = {}
    for kind, name in kinds.items():
        found = [
            path for path in (source.root / name, *sorted(source.root.glob(f"*/{name}"))) if path.is_dir()
        ]
        if not found:
            return []
        folders[kind] = found[0]
    split_of = {number: split for split, (first, last) in cases.items() for number in range(first, last + 1)}
    records: list[Record] = []
    seen: set[Path] = set()
    others = 0
    for name in source.images.names:
        case, field = ("", *Path(name).with_suffix("").parts)[-2:]
        if not case.isdigit() or int(case) not in split_of:
            others += 1
            continue
        tables = {kind: folder / case / f"{field}.csv" for kind, folder in folders.items()}
        seen.update(tables.values())
        points, classes = in_classes(
            {
                kind: pairs(path, source.problems, order="yx") if path.is_file() else np.zeros((0, 2))
                for kind, path in tables.items()
            }
        )
        key = Path(name).with_suffix("").as_posix()
        records.append(
            Record(key, points, classes, group=case, split=split_of[int(case)], um_per_px=UM_X40, needed=2)
        )
    if not records:
        raise DataError(
            f"no image of a labelled case below {source.images.root}; expected 01/01.tif and so on, in any folder: "
            "give that of the images with --images"
        )
    if others:
        source.notes.append(f"{others} images below {source.images.root} are of no labelled case: left out")
    written = sorted(path for folder in folders.values() for path in folder.glob("*/*.csv"))
    if alone := [path for path in written if path not in seen]:
        source.notes.append(
            f"{len(alone)} tables have no image below {source.images.root}, first {alone[0]}: left out"
        )
    return records


def read_midog(source: Source) -> list[Record]:
    """MIDOG++'s JSON, boxes by two corners; with `datasets_xvalidation.csv` the cases and the split that it lists."""
    found = sorted((*source.root.glob("MIDOG*.json"), *source.root.glob("databases/MIDOG*.json")))
    if not found:
        return []
    content = read_json(found[0])
    try:
        kinds = {one["id"]: MITOSIS if one["id"] == 1 else LOOK_ALIKE for one in content["categories"]}
        of_image: dict[Any, list[tuple[float, float, str]]] = {one["id"]: [] for one in content["images"]}
        for one in content["annotations"]:
            x1, y1, x2, y2 = one["bbox"]
            of_image[one["image_id"]].append(((y1 + y2) / 2, (x1 + x2) / 2, kinds[one["category_id"]]))
        sizes = {one["id"]: (one["file_name"], one["height"], one["width"]) for one in content["images"]}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{found[0]} is not MIDOG's JSON: {error!r}; download it again") from error
    splits = _midog_splits(source)
    records, moved, unlisted = [], 0, 0
    for number, (name, height, width) in sizes.items():
        key = Path(name).with_suffix("").as_posix()
        if splits and key.lstrip("0") not in splits:
            unlisted += 1
            continue
        rows = of_image[number]
        points = np.array([row[:2] for row in rows]).reshape(-1, 2)
        inside = np.clip(points, -0.5, np.array([height, width]) - 0.5)
        moved += int((inside != points).any(axis=1).sum())
        records.append(
            Record(
                key,
                inside,
                tuple(row[2] for row in rows),
                split=splits.get(key.lstrip("0"), ""),
                um_per_px=UM_X40,
            )
        )
    if moved:
        source.notes.append(f"{moved} boxes have their centre outside of the image: moved to its border")
    if unlisted:
        source.notes.append(
            f"{unlisted} images are not in datasets_xvalidation.csv, and not labelled: left out"
        )
    return records


def _midog_splits(source: Source) -> dict[str, str]:
    path = source.root / "datasets_xvalidation.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    if not rows or not {"Slide", "Dataset"} <= set(rows[0]):
        raise DataError(f"{path} lacks the columns Slide;Dataset; download it again")
    return {row["Slide"].lstrip("0"): row["Dataset"].lower() for row in rows}


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises
    ------
    DataError
        If it is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not JSON ({error}); download it again") from error
