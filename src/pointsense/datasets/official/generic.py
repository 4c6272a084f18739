"""What annotation tools write: COCO, Pascal VOC, QuPath's GeoJSON, CVAT's XML, napari's points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from pointsense.datasets.dataset import SPLITS
from pointsense.datasets.folder import read_points
from pointsense.datasets.listing import find_tables
from pointsense.datasets.official.source import Record, Source, read_json, split_of
from pointsense.errors import DataError
from pointsense.points import CORNER, Detections
from pointsense.tables import read_table

Labelled = list[tuple[float, float, str, float]]
"""y, x, class, and the radius of the box or nan."""


def _record(source: Source, file: Path, name: Any, labelled: Labelled, split: str = "") -> Record:
    """Of the image that `file` names.

    Raises
    ------
    DataError
        If it names none.
    """
    image = Path(name.strip().replace("\\", "/")) if isinstance(name, str) else Path()
    if not image.name:
        raise DataError(f"{file} has {name!r} where the name of an image should be; export it again")
    folder = file.parent.relative_to(source.root).as_posix()
    return Record(
        image.with_suffix("").as_posix(),
        np.array([row[:2] for row in labelled]).reshape(-1, 2),
        tuple(row[2] for row in labelled),
        split=split,
        suffix=image.suffix,
        folder="" if folder == "." else folder,
        radii=tuple(row[3] for row in labelled),
    )


def read_coco(source: Source) -> list[Record]:
    """`*.json` with images, annotations, categories: the key points that are marked, else the middle of the box.

    Boxes count from the corner of the first pixel. Where train, val or test is a word of a file's name, or else of its
    folder's, that is the split. What is marked as a crowd is left out.
    """
    records, crowds = [], 0
    for path in find_tables(source.root, "*.json"):
        if source.root not in (path.parent, path.parent.parent):
            continue
        try:
            content = read_json(path)
        except DataError:
            if path.parent in (source.root, source.root / "annotations"):
                raise
            continue
        if not isinstance(content, dict) or not {"images", "annotations"} <= set(content):
            continue
        split = split_of(path.stem) or _split_by_folder(source, path)
        try:
            names = {one["id"]: str(one["name"] or "") for one in content.get("categories", [])}
            of_image: dict[Any, Labelled] = {one["id"]: [] for one in content["images"]}
            for one in content["annotations"]:
                if one.get("iscrowd"):
                    crowds += 1
                    continue
                if one["image_id"] not in of_image:
                    raise DataError(
                        f"{path}: annotation {one.get('id')} is of the image {one['image_id']}, which is not among its "
                        "images; delete it, or export all images"
                    )
                name = names.get(one.get("category_id"), "")
                of_image[one["image_id"]] += [(y, x, name, r) for y, x, r in _coco_points(path, one)]
            records += [
                _record(source, path, one["file_name"], of_image[one["id"]], split)
                for one in content["images"]
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} is not in COCO's format: {error!r}; export it again") from error
    if crowds:
        source.notes.append(f"{crowds} annotations are marked as crowds: left out")
    return records


def _coco_points(path: Path, annotation: dict[str, Any]) -> list[tuple[float, float, float]]:
    marked = np.reshape(annotation.get("keypoints") or [], (-1, 3))
    if len(marked := marked[marked[:, 2] > 0]):
        return [(_number(path, y), _number(path, x), np.nan) for x, y, _ in marked]
    x, y, width, height = (_number(path, number) for number in annotation["bbox"])
    return [(y + height / 2 - CORNER, x + width / 2 - CORNER, min(width, height) / 2)]


def read_voc(source: Source) -> list[Record]:
    """`*.xml`, also in `Annotations/`: the middle of `bndbox`, whose pixels count from 1.

    The split is that of `ImageSets/Main/train.txt` and so on, else of the folder.
    """
    listed = {
        line.strip(): split
        for split in SPLITS
        for path in find_tables(source.root, f"{split}.txt")
        if path.parent.parts[-2:] == ("ImageSets", "Main")
        for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    }
    records = []
    for path, root in _trees(source, "annotation"):
        labelled = []
        for one in root.iterfind("object"):
            x1, y1, x2, y2 = (
                _number(path, one.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            radius = (min(y2 - y1, x2 - x1) + 1) / 2
            labelled.append(((y1 + y2) / 2 - 1, (x1 + x2) / 2 - 1, one.findtext("name") or "", radius))
        split = listed.get(path.stem) or _split_by_folder(source, path)
        records.append(_record(source, path, root.findtext("filename") or path.stem, labelled, split))
    return records


def _split_by_folder(source: Source, path: Path) -> str:
    """The split that the nearest of the folders of a file names; "" if none does."""
    folders = path.relative_to(source.root).parts[:-1]
    return next(filter(None, map(split_of, reversed(folders))), "")


def read_cvat(source: Source) -> list[Record]:
    """`annotations.xml` of "CVAT for images": points, and the middle of boxes."""
    records, others = [], Counter[str]()
    for path, root in _trees(source, "annotations"):
        for image in root.iterfind("image"):
            labelled: Labelled = []
            for one in image:
                name = one.get("label") or ""
                if one.tag == "points":
                    places = [
                        place.partition(",")[::2] for place in (one.get("points") or "").split(";") if place
                    ]
                    labelled += [
                        (_number(path, y) - CORNER, _number(path, x) - CORNER, name, np.nan)
                        for x, y in places
                    ]
                elif one.tag == "box":
                    x1, y1, x2, y2 = (_number(path, one.get(side)) for side in ("xtl", "ytl", "xbr", "ybr"))
                    radius = min(y2 - y1, x2 - x1) / 2
                    labelled.append(((y1 + y2) / 2 - CORNER, (x1 + x2) / 2 - CORNER, name, radius))
                elif one.tag != "tag":
                    others[one.tag] += 1
            records.append(
                _record(source, path, image.get("name"), labelled, split_of(image.get("subset") or ""))
            )
    for tag, count in others.items():
        source.notes.append(
            f"{count} annotations are of the kind '{tag}', neither points nor boxes: left out"
        )
    return records


def _trees(source: Source, tag: str) -> Iterator[tuple[Path, ElementTree.Element]]:
    """The XML files below the folder whose outermost element is a `tag`."""
    for path in find_tables(source.root, "*.xml"):
        try:
            root = ElementTree.parse(path).getroot()
        except (OSError, ElementTree.ParseError) as error:
            raise DataError(f"{path} is not XML ({error}); export it again") from error
        if root.tag == tag:
            yield path, root


def _number(path: Path, given: Any) -> float:
    try:
        value = float(given)
    except (TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise DataError(f"{path} has '{given}' where a coordinate should be; export it again")
    return value


def read_qupath(source: Source) -> list[Record]:
    """`a.geojson` for the image `a`: points or outlines as QuPath exports them, from the corner of the first pixel."""
    records = []
    for path in find_tables(source.root, "*.geojson"):
        found = Detections.read_geojson(path)
        key = path.relative_to(source.root).with_suffix("").as_posix()
        records.append(Record(key, found.points, tuple(map(str, found.classes))))
    return records


def read_napari(source: Source) -> list[Record]:
    """`a.csv` for the image `a`: index, axis-0, axis-1, as napari saves points; other tables are left out."""
    records, others = [], []
    for path in find_tables(source.root, "*.csv"):
        try:
            table = read_table(path, ("y", "x"))
        except DataError:
            others.append(path.name)
            continue
        if {"shape-type", "vertex-index"} & set(table.columns):
            raise DataError(
                f"{path} is of a layer of shapes, whose corners are no objects; save a layer of points"
            )
        if "axis-2" in table.columns:
            raise DataError(
                f"{path} has three axes: its points lie in a stack; save those of one plane, with axis-0 and axis-1"
            )
        points, classes = read_points(table.rows, source.problems)
        key = path.relative_to(source.root).with_suffix("").as_posix()
        records.append(Record(key, points, classes))
    if records and others:
        source.notes.append(f"{len(others)} tables without axis-0 and axis-1 are left out, first {others[0]}")
    return records
