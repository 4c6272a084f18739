"""What a prediction of many files leaves beside its results: how many points each image has, and how it was done."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pointsense.inference.folder import COUNTS, FORMATS, OVERLAY, Outcome
from pointsense.writing import write_json, write_table

if TYPE_CHECKING:
    from pointsense.inference.detector import Detector

RECORD = "predict.json"


def clear_results(out: Path | str) -> None:
    """Delete what an earlier prediction wrote to a folder, as its record says: of images that are no longer there, too.

    Without a record nothing is deleted.
    """
    out = Path(out)
    try:
        images = json.loads((out / RECORD).read_text(encoding="utf-8"))["images"]
        stems = [out / row["results"] for row in images]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for stem in stems:
        if out.resolve() in stem.resolve().parents:
            for suffix in (*(f".{name}" for name in FORMATS), OVERLAY):
                stem.with_name(stem.name + suffix).unlink(missing_ok=True)


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
        self.names = [kind.name for kind in detector.classes]
        self.about = {"model": str(model), **settings}
        self.rows: list[dict[str, Any]] = []

    def add(self, outcome: Outcome) -> None:
        """Remember what became of an image, not its points."""
        found = outcome.detections
        counts = None if found is None else {name: int((found.classes == name).sum()) for name in self.names}
        self.rows.append(
            {
                "image": str(outcome.job.image),
                "results": outcome.job.stem.relative_to(self.out).as_posix(),
                "points": counts,
                "diameter": outcome.diameter,
                "problem": outcome.problem,
            }
        )

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
                "images": self.rows,
            },
        )
