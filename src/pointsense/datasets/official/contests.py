"""The mitosis contests as they are downloaded: ICPR 2012, MITOS-ATYPIA-14, AMIDA13, TUPAC16, MIDOG++."""

from __future__ import annotations

import csv
import math
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
    read_json,
    split_of,
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
        centres, radii = [], []
        for row in number_rows(path, source.problems):
            if len(row) % 2:
                source.problems.append(f"{path}: a line has {len(row)} numbers, expected pairs x,y,x,y,...")
                continue
            centres.append(np.reshape(row, (-1, 2)).mean(0)[::-1])
            radii.append(math.sqrt(len(row) / 2 / math.pi))
        points = np.array(centres).reshape(-1, 2)
        slide = path.stem[:3]
        records.append(
            Record(
                f"{path.parent.name}/{path.stem}",
                points,
                (MITOSIS,) * len(points),
                group=slide[1:],  # the same tissue was scanned twice: A00 and H00 belong together
                um_per_px=SCANNERS[slide[0]],
                radii=tuple(radii),
            )
        )
    return records


def read_mitos14(source: Source) -> list[Record]:
    """`A03/mitosis/A03_00Aa_mitosis.csv` and `..._not_mitosis.csv`: rows x, y, confidence, of x40 frames."""
    tables: dict[tuple[str, str], dict[str, Path]] = {}
    for path in sorted(source.root.glob("[AH][0-9][0-9]/mitosis/*_mitosis.csv")):
        frame = path.stem.removesuffix("_mitosis")
        kind = LOOK_ALIKE if frame.endswith("_not") else MITOSIS
        tables.setdefault((path.parts[-3], frame.removesuffix("_not")), {})[kind] = path
    records = []
    for (slide, frame), of_frame in sorted(tables.items()):
        parts = {
            kind: pairs(of_frame[kind], source.problems, order="xy")
            for kind in (MITOSIS, LOOK_ALIKE)
            if kind in of_frame
        }
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
    folder = _folder_with(source.root, list(kinds.values()))
    if folder is None:
        return []
    tables = {
        kind: {_numbers(path): path for path in sorted((folder / name).glob("*/*.csv"))}
        for kind, name in kinds.items()
    }
    split_of_case = {
        number: split for split, (first, last) in cases.items() for number in range(first, last + 1)
    }
    images: dict[tuple[int, int], str] = {}
    others = 0
    for name in source.images.names:
        numbers = _numbers(Path(name))
        if numbers is None or numbers[0] not in split_of_case:
            others += 1
        elif numbers in images:
            raise DataError(
                f"{source.images.root} has two images of one case and field: {images[numbers]}, {name}; give the "
                "folder of the labelled ones with --images"
            )
        else:
            images[numbers] = name
    if not images:
        raise DataError(
            f"no image of a labelled case below {source.images.root}; expected 01/01.tif and so on, in any folder: "
            "give that of the images with --images"
        )
    if others:
        source.notes.append(f"{others} images below {source.images.root} are of no labelled case: left out")
    alone = [
        path for of_kind in tables.values() for numbers, path in of_kind.items() if numbers not in images
    ]
    if len(alone) == sum(map(len, tables.values())) > 0:
        source.problems.append(
            f"no table belongs to any of {len(images)} images, first {alone[0]}: give the labelled images with --images"
        )
    elif alone:
        source.notes.append(
            f"{len(alone)} tables have no image below {source.images.root}, first {alone[0]}: left out"
        )
    records = []
    for (case, number), name in images.items():
        points, classes = in_classes(
            {
                kind: pairs(of_kind[case, number], source.problems, order="yx")
                if (case, number) in of_kind
                else np.zeros((0, 2))
                for kind, of_kind in tables.items()
            }
        )
        key, suffix = Path(name).with_suffix("").as_posix(), Path(name).suffix
        split = split_of_case[case]
        records.append(Record(key, points, classes, f"{case:02d}", split, UM_X40, suffix))
    return records


def _folder_with(root: Path, names: list[str]) -> Path | None:
    """The folder, `root` or one in it, that has all of these folders.

    Raises
    ------
    DataError
        If several in `root` have.
    """
    if all((root / name).is_dir() for name in names):
        return root
    found = [folder for folder in sorted(root.iterdir()) if all((folder / name).is_dir() for name in names)]
    if len(found) > 1:
        raise DataError(f"several folders hold labels: {found[0]}, {found[1]}; give the one to read")
    return found[0] if found else None


def _numbers(path: Path) -> tuple[int, int] | None:
    """Case and field of `01/02.csv`, or None."""
    case, number = path.parent.name, path.stem
    return (int(case), int(number)) if case.isdigit() and number.isdigit() else None


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
        key, rows = Path(name).with_suffix("").as_posix(), of_image[number]
        if key.lstrip("0") not in splits if splits else not rows:
            unlisted += 1
            continue
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
        why = (
            "are not in datasets_xvalidation.csv" if splits else "have no annotation, and may not be labelled"
        )
        source.notes.append(f"{unlisted} images {why}: left out")
    return records


def _midog_splits(source: Source) -> dict[str, str]:
    name = "datasets_xvalidation.csv"
    path = next((one for one in (source.root / name, source.root.parent / name) if one.is_file()), None)
    if path is None:
        return {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    if not rows or not {"Slide", "Dataset"} <= set(rows[0]):
        raise DataError(f"{path} lacks the columns Slide;Dataset; download it again")
    if strange := [row["Dataset"] for row in rows if not split_of(row["Dataset"])]:
        raise DataError(f"{path}: Dataset is '{strange[0]}', expected train, validation or test")
    return {row["Slide"].lstrip("0"): split_of(row["Dataset"]) for row in rows}
