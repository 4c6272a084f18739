"""GeoJSON as QuPath exports it: points, and outlines of objects, which count by their centres."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pointsense.errors import DataError

OUTLINES = ("Polygon", "MultiPolygon")
OBJECTS = ("cell", "detection")

FLAT = 1e-6
"""Outlines whose area is less than this share of their extent's square are lines: the mean of their points counts."""

Row = tuple[tuple[float, float], float, str, int, float]
"""(y, x) from the corner of the first pixel, score, class, votes and spread of a point."""


def feature_rows(path: Path, features: list[dict[str, Any]]) -> list[Row]:
    """The points of all features of a file, whose path is for messages.

    Raises
    ------
    DataError
        If a feature has no single position, or an outline may be a region's, as of an annotation around another; for
        what is not GeoJSON, whatever its parts raise.
    """
    _check_outlines(path, features)
    return [row for feature in features for row in _rows_of(path, feature)]


def _kind_of(feature: dict[str, Any]) -> str:
    """What QuPath calls an object: annotation, detection, cell, tile, ..."""
    properties = feature.get("properties") or {}
    legacy = str(feature.get("id", "")).lower().removeprefix("path").removesuffix("object")  # QuPath 0.2
    kind = properties.get("objectType") or properties.get("object_type")
    return kind or (legacy if legacy in (*OBJECTS, "tile", "tmacore", "root") else "annotation")


def _check_outlines(path: Path, features: list[dict[str, Any]]) -> None:
    """Fail where an outline need not be an object's: a region holds objects, and its centre is none."""
    outlines = {_kind_of(feature) for feature in features if feature["geometry"]["type"] in OUTLINES}
    others = {
        f"points ({_kind_of(feature)})" for feature in features if feature["geometry"]["type"] not in OUTLINES
    }
    regions = outlines.difference(OBJECTS)
    if regions - {"annotation"} or (regions and len(outlines | others) > 1):
        raise DataError(
            f"{path} holds outlines that may be regions ({', '.join(sorted(regions))}), beside "
            f"{', '.join(sorted(outlines - regions | others)) or 'nothing else'}; export the objects only"
        )
    if regions and _one_around_another([feature["geometry"] for feature in features]):
        raise DataError(
            f"{path} holds an outline with another one inside: it may be a region; export the objects only, each once"
        )


def _one_around_another(outlines: list[dict[str, Any]]) -> bool:
    """Whether all of an outline lies inside of another one, of another extent, and not in a hole of it."""
    from scipy.spatial import cKDTree
    from skimage.measure import points_in_poly

    rings = [[np.array(ring, float)[:, :2] for ring in part] for one in outlines for part in _polygons(one)]
    low, high = (np.array([end(part[0], axis=0) for part in rings]) for end in (np.min, np.max))
    tree = cKDTree((low + high) / 2)
    near = tree.query_ball_point((low + high) / 2, np.linalg.norm(high - low, axis=1) / 2)
    for k, others in enumerate(near):
        for j in others:
            beyond = (low[j] < low[k]).any() or (high[j] > high[k]).any()
            if beyond or ((low[j] == low[k]).all() and (high[j] == high[k]).all()):
                continue
            (outer, *holes), inner = rings[k], rings[j][0]
            if points_in_poly(inner, outer).all() and not any(
                points_in_poly(inner, hole).any() for hole in holes
            ):
                return True
    return False


def _polygons(geometry: dict[str, Any]) -> list[list[list[list[float]]]]:
    return geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]


def _rows_of(path: Path, feature: dict[str, Any]) -> list[Row]:
    geometry = feature["geometry"]
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind not in ("Point", "MultiPoint", *OUTLINES):
        raise DataError(
            f"{path} holds a {kind}, expected points or outlines ({', '.join(OUTLINES)}); export the objects only"
        )
    if kind in OUTLINES:
        kind, coordinates = "Point", _centre(_polygons(geometry))
    properties = feature.get("properties") or {}
    name = _class_name(properties.get("classification") or "")
    found = properties.get("measurements") or {}
    if isinstance(found, list):  # QuPath before 0.4: a list of {"name": ..., "value": ...}
        found = {item["name"]: item["value"] for item in found}
    found = {key: value for key, value in found.items() if value is not None}
    evidence = float(found.get("score", 1)), name, int(found.get("votes", 1)), float(found.get("spread", 0))
    return [
        ((float(y), float(x)), *evidence) for x, y, *_ in ([coordinates] if kind == "Point" else coordinates)
    ]


def _class_name(classification: dict[str, Any] | str) -> str:
    """The name of a class; QuPath gives those of a derived one (Tumor: Positive) as a list."""
    if isinstance(classification, str):
        return classification
    return classification.get("name") or ": ".join(classification.get("names") or ())


def _centre(polygons: list[list[list[list[float]]]]) -> list[float]:
    """(x, y) of the centre of gravity of polygons, each a list of rings, whose holes are left out of account."""
    vertices = np.concatenate([np.array(outline, float)[:, :2] for outline, *_ in polygons])
    origin, extent = vertices[0], np.ptp(vertices, axis=0).max()
    moments = np.zeros(3)
    for outline, *_ in polygons:
        ring = np.array(outline, float)[:, :2] - origin
        following = np.roll(ring, -1, axis=0)
        cross = ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]
        moments += np.sign(cross.sum()) * np.append(cross @ (ring + following) / 6, cross.sum() / 2)
    if moments[2] > FLAT * extent**2:
        return (origin + moments[:2] / moments[2]).tolist()
    return vertices.mean(0).tolist()
