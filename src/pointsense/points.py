"""Detections: points with their scores and evidence, and the files they are kept in."""

from __future__ import annotations

import csv
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ImageColor

from pointsense.colours import of_classes
from pointsense.errors import DataError
from pointsense.geojson import feature_rows
from pointsense.tables import Row, read_table
from pointsense.writing import replacing, write_text

COLUMNS = ("y", "x", "score", "class", "votes", "spread")
CORNER = 0.5
"""From our origin, the centre of the first pixel, to QuPath's, the top-left corner of the first pixel."""


@dataclass(frozen=True, eq=False)
class Detections:
    """K detected points with their evidence.

    Attributes
    ----------
    points : (K, 2) float64
        (y, x) in pixels; the origin is the centre of the first pixel.
    scores : (K,) float64
        Confidence; higher is surer.
    classes : (K,) str
        Class names; empty strings where the data had none.
    votes : (K,) int64
        How many observation axes saw the point.
    spread : (K,) float64
        Root mean square, in pixels, of how far the axes would move the point; 0 where none says.

    Raises
    ------
    ValueError
        If shapes differ, or a number is not finite.
    """

    points: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    classes: npt.NDArray[np.str_]
    votes: npt.NDArray[np.int64]
    spread: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float64)
        if points.size == 0:
            points = points.reshape(0, 2)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"points must have the shape (K, 2) with rows (y, x), not {points.shape}")
        columns = {
            "points": points,
            "scores": np.asarray(self.scores, dtype=np.float64),
            "classes": np.asarray(self.classes, dtype=np.str_),
            "votes": np.asarray(self.votes, dtype=np.int64),
            "spread": np.asarray(self.spread, dtype=np.float64),
        }
        for name, values in columns.items():
            if name != "points" and values.shape != (len(points),):
                raise ValueError(
                    f"{name} must have the shape ({len(points)},) like points, not {values.shape}"
                )
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ValueError(f"{name} holds NaN or infinite numbers")
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def of(
        cls,
        points: npt.ArrayLike,
        scores: npt.ArrayLike | None = None,
        classes: npt.ArrayLike | str = "",
        votes: npt.ArrayLike | None = None,
        spread: npt.ArrayLike | None = None,
    ) -> Detections:
        """Detections at `points`, (K, 2) yx; what is not given is score 1, class "", 1 vote, spread 0.

        `scores`, `votes` and `spread` are (K,); `classes` are (K,), or one name for all.

        Raises
        ------
        ValueError
            If shapes differ, or a number is not finite.

        >>> len(Detections.of([(1.5, 2.0), (7.0, 3.0)]))
        2
        """
        array = np.asarray(points, dtype=np.float64)
        count = len(array)
        names = np.full(count, classes) if isinstance(classes, str) else np.asarray(classes, dtype=np.str_)
        return cls(
            points=array,
            scores=np.ones(count) if scores is None else np.asarray(scores, dtype=np.float64),
            classes=names,
            votes=np.ones(count, np.int64) if votes is None else np.asarray(votes, dtype=np.int64),
            spread=np.zeros(count) if spread is None else np.asarray(spread, dtype=np.float64),
        )

    @classmethod
    def empty(cls) -> Detections:
        """No detections."""
        return cls.of(np.zeros((0, 2)))

    def select(self, mask: npt.NDArray[Any]) -> Detections:
        """The detections that `mask` keeps, or, with indices, in the order that it gives."""
        return Detections(
            self.points[mask], self.scores[mask], self.classes[mask], self.votes[mask], self.spread[mask]
        )

    def above(self, threshold: float | Mapping[str, float]) -> Detections:
        """The detections whose score is at least `threshold`, or that of their class.

        Of a mapping "" stands for the classes that it does not name; without it, all of these are kept.
        """
        if isinstance(threshold, Mapping):
            others = threshold.get("", -np.inf)
            return self.select(self.scores >= [threshold.get(str(name), others) for name in self.classes])
        return self.select(self.scores >= threshold)

    def write_csv(self, path: Path | str, um_per_px: float | None = None) -> None:
        """Write columns y, x, score, class, votes, spread, and y_um, x_um where the pixel size is known.

        Positions are rounded to a thousandth of a pixel, scores to six significant digits; the header is
        written also when there is no detection.

        Raises
        ------
        DataError
            If the file cannot be written.
        """
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS if um_per_px is None else (*COLUMNS, "y_um", "x_um"))
            for (y, x), score, name, votes, spread in self._rows():
                cells = [_decimal(y), _decimal(x), f"{score:.6g}", name, votes, _decimal(spread)]
                if um_per_px is not None:
                    cells += [_decimal(y * um_per_px), _decimal(x * um_per_px)]
                table.writerow(cells)

    @classmethod
    def read_csv(cls, path: Path | str) -> Detections:
        """Read what `write_csv` wrote, or any CSV with a header that names y and x.

        Columns that are not there are filled as in `Detections.of`; further columns are ignored.

        Raises
        ------
        DataError
            If the file has no header, lacks y or x, or holds something else than finite numbers.
        """
        rows = read_table(path, ("y", "x")).rows
        return cls.of(
            points=np.array([(row.number("y"), row.number("x")) for row in rows]).reshape(-1, 2),
            scores=[row.number("score", 1.0) for row in rows],
            classes=np.array([row.text("class") for row in rows], dtype=np.str_),
            votes=[_whole(row, "votes", 1) for row in rows],
            spread=[row.number("spread", 0.0) for row in rows],
        )

    def write_geojson(self, path: Path | str, known: Sequence[str] = ()) -> None:
        """Write a FeatureCollection that QuPath imports as detections with measurements.

        Each class has a colour, without which QuPath takes no class; `known` names all that there may be in a set of
        files, so that theirs are the same in each.

        GeoJSON is (x, y), and QuPath counts from the top-left corner of the first pixel, so 0.5 is added
        to both coordinates: our (0, 0), the centre of the first pixel, becomes (0.5, 0.5). The ids follow
        from the content: the same detections give the same file.

        Raises
        ------
        DataError
            If the file cannot be written.
        """
        colour = of_classes(self.classes.tolist(), known)
        features = [self._feature(index, *row, colour[row[2]]) for index, row in enumerate(self._rows())]
        collection = {"type": "FeatureCollection", "features": features}
        write_text(path, json.dumps(collection, indent=1, ensure_ascii=False) + "\n")

    @staticmethod
    def _feature(
        index: int,
        point: tuple[float, float],
        score: float,
        name: str,
        votes: int,
        spread: float,
        colour: str,
    ) -> dict[str, Any]:
        y, x = (round(value + CORNER, 3) for value in point)
        measurements = {"score": float(f"{score:.6g}"), "votes": votes, "spread": round(spread, 3)}
        properties: dict[str, Any] = {"objectType": "detection", "measurements": measurements}
        if name:
            properties["classification"] = {"name": name, "color": list(ImageColor.getrgb(colour))}
        content = json.dumps([index, x, y, properties])
        return {
            "type": "Feature",
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"pointsense {content}")),
            "geometry": {"type": "Point", "coordinates": [x, y]},
            "properties": properties,
        }

    @classmethod
    def read_geojson(cls, path: Path | str) -> Detections:
        """Read points, those of `write_geojson` or of QuPath's own tool, and outlines of objects by their centres.

        Raises
        ------
        DataError
            If the file is not GeoJSON, or holds lines, which have no single position, or outlines that may be regions:
            of tiles and the like, or of annotations beside anything else or around one another.
        """
        path = Path(path)
        try:
            value = json.loads(path.read_text(encoding="utf-8-sig"))
            if isinstance(value, dict):
                value = [value] if value.get("type") == "Feature" else value["features"]
            rows = feature_rows(path, value)
            if not rows:
                return cls.empty()
            points, scores, classes, votes, spread = zip(*rows, strict=True)
            return cls.of(np.array(points) - CORNER, scores, np.array(classes), votes, spread)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise DataError(
                f"{path} is not GeoJSON with points or outlines ({error!r}); export it again from the viewer"
            ) from error

    def _rows(self) -> Iterable[tuple[tuple[float, float], float, str, int, float]]:
        columns = (self.points, self.scores, self.classes, self.votes, self.spread)
        return zip(*(column.tolist() for column in columns), strict=True)


def _decimal(value: float) -> str:
    """At most three decimals, without trailing zeros and without a minus zero."""
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _whole(row: Row, column: str, default: int) -> int:
    value = row.number(column, default)
    if value != int(value) or abs(value) > 2**53:
        raise DataError(
            f"{row.path}, line {row.line}: {column} is '{row.text(column)}', expected a whole number"
        )
    return int(value)
