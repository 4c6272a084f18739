"""What a prediction of many files leaves beside its results: how many points each image has, and how it was done."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pointsense.inference.folder import COUNTS, Job, Outcome
from pointsense.writing import write_json, write_table

if TYPE_CHECKING:
    from pointsense.inference.detector import Detector

RECORD = "predict.json"


class Record:
    """Counts by image and class, and under which model, version and settings they came about.

    Parameters
    ----------
    out : path
        Folder of the results; `write` puts `predict.counts.csv` and `predict.json` into it.
    detector : Detector
    model : path
        As the user named it.
    settings : dict
        The version, and what the points were found with: thresholds, diameter and so on.
    """

    def __init__(self, out: Path | str, detector: Detector, model: Path | str, settings: dict[str, Any]):
        self.out, self.detector = Path(out), detector
        self.earlier = _files_in(read_record(self.out))
        self.names = [kind.name for kind in detector.classes]
        self.about = {"model": str(model), **settings}
        self.rows: list[dict[str, Any]] = []

    def begin(self, jobs: Iterable[Job]) -> list[str]:
        """Delete what an earlier run wrote of the same images, and of images that are no longer in their folder.

        So that none of it is taken for what is found now, also where this run is stopped.

        Returns
        -------
        list of str
            The images that are no longer there.
        """
        again, gone = {str(job.image.absolute()) for job in jobs}, []
        for path, files in self.earlier.items():
            image = Path(path)
            if lost := image.parent.is_dir() and not image.exists():
                gone.append(path)
            if lost or path in again:
                self._delete(files)
        return gone

    def add(self, outcome: Outcome) -> None:
        """Remember what became of an image, not its points."""
        found = outcome.detections
        counts = None if found is None else {name: int((found.classes == name).sum()) for name in self.names}
        self.rows.append(
            {
                "image": str(outcome.job.image),
                "path": str(outcome.job.image.absolute()),
                "files": [file.relative_to(self.out).as_posix() for file in outcome.written],
                "points": counts,
                "diameter": outcome.diameter,
                "problem": outcome.problem,
            }
        )

    def _delete(self, files: Iterable[str]) -> None:
        for path in (self.out / name for name in files):
            if self.out.resolve() in path.resolve().parents:
                with suppress(OSError):
                    path.unlink()

    def write(self) -> None:
        """Write both files, all or nothing.

        Raises
        ------
        DataError
            If they cannot be written.
        """
        titles, rows = self.names if len(self.names) > 1 else ["points"], []
        for row in self.rows:
            counts = ["" if row["points"] is None else row["points"][name] for name in self.names]
            diameter = "" if row["diameter"] is None else f"{row['diameter']:g}"
            rows.append([row["image"], *counts, diameter, row["problem"]])
        write_table(self.out / f"{COUNTS}.csv", ["image", *titles, "diameter", "problem"], rows)
        write_json(
            self.out / RECORD,
            {
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                **self.about,
                "device": str(self.detector.device),
                "precision": self.detector.precision,
                "views": self.detector.config.views,
                "view_zoom": self.detector.zoom,
                "look_views": self.detector.look_views,
                "images": self.rows,
            },
        )


def read_record(folder: Path | str) -> dict[str, Any]:
    """What a prediction recorded in the folder of its results; nothing where it has no record."""
    try:
        value = json.loads((Path(folder) / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _files_in(record: dict[str, Any]) -> dict[str, list[str]]:
    """The files that a prediction says it wrote, by the path of their image; none where it says nothing."""
    try:
        return {str(row["path"]): list(map(str, row["files"])) for row in record["images"]}
    except (KeyError, TypeError):
        return {}


def images_in(record: dict[str, Any]) -> dict[str, str]:
    """The image that each file of a prediction was made of."""
    return {file: image for image, files in _files_in(record).items() for file in files}


def thresholds_in(record: dict[str, Any]) -> dict[str, float]:
    """The least scores by class that a prediction kept; none where it says nothing."""
    found = record.get("thresholds")
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: float(value) for name, value in pairs if isinstance(value, int | float)}


def classes_in(record: dict[str, Any]) -> list[str]:
    """The classes that a prediction could find; none where it says nothing."""
    try:
        names = {name for image in record["images"] for name in image["points"] or {}}
    except (KeyError, TypeError):
        return []
    return sorted(names - {""})
