"""What annotation tools write: COCO, Pascal VOC, QuPath's GeoJSON, CVAT's XML, napari's points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from pointsense.datasets.folder import read_points
from pointsense.datasets.official.contests import read_json
from pointsense.datasets.official.source import Record, Source
from pointsense.errors import DataError
from pointsense.points import Detections
from pointsense.tables import read_table

CORNER = 0.5
"""From our origin, the centre of the first pixel, to its corner, from which COCO's boxes and CVAT count."""

Labelled = list[tuple[float, float, str]]


def _record(key: str, labelled: Labelled, split: str = "") -> Record:
    points = np.array([row[:2] for row in labelled]).reshape(-1, 2)
    return Record(key, points, tuple(row[2] for row in labelled), split=split)


def _key(name: str) -> str:
    return Path(name.replace("\\", "/")).with_suffix("").as_posix()


def read_coco(source: Source) -> list[Record]:
    """`*.json` with images, annotations, categories: the key points that are marked, else the middle of the box.

    A file whose name has train, val or test in it gives the split.
    """
    records = []
    for path in sorted((*source.root.glob("*.json"), *source.root.glob("annotations/*.json"))):
        content = read_json(path)
        if not isinstance(content, dict) or not {"images", "annotations"} <= set(content):
            continue
        split = next((name for name in ("train", "val", "test") if name in path.stem.lower()), "")
        try:
            names = {one["id"]: one["name"] for one in content.get("categories", [])}
            of_image: dict[Any, Labelled] = {one["id"]: [] for one in content["images"]}
            for one in content["annotations"]:
                name = names.get(one.get("category_id"), "")
                of_image[one["image_id"]] += [(y, x, name) for y, x in _coco_points(one)]
            records += [
                _record(_key(one["file_name"]), of_image[one["id"]], split) for one in content["images"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is not in COCO's format: {error!r}; export it again") from error
    return records


def _coco_points(annotation: dict[str, Any]) -> list[tuple[float, float]]:
    marked = np.reshape(annotation.get("keypoints") or [], (-1, 3))
    if len(marked := marked[marked[:, 2] > 0]):
        return [(float(y), float(x)) for x, y, _ in marked]
    x, y, width, height = map(float, annotation["bbox"])
    return [(y + height / 2 - CORNER, x + width / 2 - CORNER)]


def read_voc(source: Source) -> list[Record]:
    """`*.xml`, also in `Annotations/`: the middle of `bndbox`, whose pixels count from 1."""
    records = []
    for path, root in _trees(source, "annotation"):
        labelled = []
        for one in root.iterfind("object"):
            x1, y1, x2, y2 = (
                _number(path, one.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            labelled.append(((y1 + y2) / 2 - 1, (x1 + x2) / 2 - 1, one.findtext("name") or ""))
        records.append(_record(_key(root.findtext("filename") or path.name), labelled))
    return records


def read_cvat(source: Source) -> list[Record]:
    """`annotations.xml` of "CVAT for images": points, and the middle of boxes."""
    records = []
    for path, root in _trees(source, "annotations"):
        for image in root.iterfind("image"):
            labelled = []
            for one in image:
                name = one.get("label") or ""
                if one.tag == "points":
                    places = [place.split(",") for place in (one.get("points") or "").split(";") if place]
                elif one.tag == "box":
                    corners = [_number(path, one.get(side)) for side in ("xtl", "ytl", "xbr", "ybr")]
                    places = [[str((corners[k] + corners[k + 2]) / 2) for k in (0, 1)]]
                else:
                    continue
                labelled += [
                    (_number(path, y) - CORNER, _number(path, x) - CORNER, name) for x, y, *_ in places
                ]
            split = (image.get("subset") or "").lower()
            split = split if split in ("train", "val", "test") else ""
            records.append(_record(_key(image.get("name") or ""), labelled, split))
    return records


def _trees(source: Source, tag: str) -> Iterator[tuple[Path, ElementTree.Element]]:
    """The XML files below the folder whose outermost element is a `tag`."""
    for path in sorted(source.root.rglob("*.xml")):
        try:
            root = ElementTree.parse(path).getroot()
        except (OSError, ElementTree.ParseError) as error:
            raise DataError(f"{path} is not XML ({error}); export it again") from error
        if root.tag == tag:
            yield path, root


def _number(path: Path, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise DataError(f"{path} has '{text}' where a coordinate should be; export it again")
    return value


def read_qupath(source: Source) -> list[Record]:
    """`a.geojson` for the image `a`: points as QuPath exports them, from the corner of the first pixel."""
    records = []
    for path in sorted(source.root.rglob("*.geojson")):
        found = Detections.read_geojson(path)
        key = path.relative_to(source.root).with_suffix("").as_posix()
        records.append(Record(key, found.points, tuple(map(str, found.classes))))
    return records


def read_napari(source: Source) -> list[Record]:
    """`a.csv` for the image `a`: index, axis-0, axis-1, as napari saves a layer of points."""
    records = []
    for path in sorted(source.root.rglob("*.csv")):
        table = read_table(path, ("y", "x"))
        if "axis-2" in table.columns:
            raise DataError(
                f"{path} has three axes: its points lie in a stack; save those of one plane, with axis-0 and axis-1"
            )
        points, classes = read_points(table.rows, source.problems)
        key = path.relative_to(source.root).with_suffix("").as_posix()
        records.append(Record(key, points, classes))
    return records
