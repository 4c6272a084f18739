"""A row of Faster R-CNN: trained once; what it found is kept, so that a table can be made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pointsense.datasets import Dataset
from pointsense.datasets.division import draw_selection
from pointsense.errors import UsageError
from pointsense.evaluation import Case
from pointsense.learning.course import OnProgress
from pointsense.learning.fit import FRACTION
from pointsense.model.config import Config
from pointsense.model.presets import fitted_to
from pointsense.peers import faster_rcnn
from pointsense.peers.problem import Problem, all_candidates, as_cases, judge
from pointsense.writing import write_json

FOUND = "found.json"


def detect_boxes(
    dataset: Dataset,
    out: Path,
    config: Config,
    *,
    radius: float,
    box: float,
    protocol: str,
    minutes: float,
    seed: int,
    device: str,
    report: OnProgress | None,
) -> tuple[list[Case], dict[str, Any]]:
    """The `val` samples with the centres of what is detected there, and how that was learned.

    Parameters
    ----------
    dataset : Dataset
        Its `train` samples are divided as `train` divides them: most to fit, the rest to choose on.
    out : path
        Folder of the detections, and of weights; where the detections are there, nothing is trained. A training that
        was stopped begins again.
    config : Config
        Crops, steps, rates and backbone.
    radius, box : float
        Match radius and side of the boxes, image px.
    protocol : str
        What the threshold is chosen by.
    minutes, seed, device, report
        See `Problem`.

    Raises
    ------
    UsageError
        If the folder holds detections of another request.
    """
    config = fitted_to(config, radius)
    fit, select = draw_selection(dataset.train, FRACTION, seed, dataset.val)
    request = {
        "settings": config.model_dump(),
        "seed": seed,
        "radius": radius,
        "box": box,
        "protocol": protocol,
        "fit": [sample.name for sample in fit],
        "scored": [sample.name for sample in dataset.val],
    }
    path = out / FOUND
    if path.is_file():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["request"] != request:
            raise UsageError(
                f"{out} holds a training with other settings, seed or images; give another --out"
            )
    else:
        out.mkdir(parents=True, exist_ok=True)
        problem = Problem(fit, select, radius, config, out, seed, minutes, box, device, report)
        trained = faster_rcnn.fit(problem)
        judged = judge(all_candidates(trained.finder, problem, dataset.val), select, radius, protocol)
        stored = {
            "request": request,
            "facts": trained.facts | {"threshold": judged.threshold, "selection_f1": judged.selection_f1},
            "found": {
                sample.name: np.column_stack(found).tolist()
                for sample, found in zip(dataset.val, judged.found, strict=True)
            },
        }
        write_json(path, stored)
    tables = [np.array(stored["found"][sample.name]).reshape(-1, 3) for sample in dataset.val]
    return as_cases(dataset.val, [(table[:, :2], table[:, 2]) for table in tables]), stored["facts"]
