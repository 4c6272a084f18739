"""What is learned and scored: one task for each real image set, class and fold."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pointsense.datasets import Dataset, load_dataset
from pointsense.datasets.synthetic import RADIUS_PX
from pointsense.errors import UsageError
from pointsense.model.config import Config, override
from pointsense.model.presets import preset
from provenance import ROOT


@dataclasses.dataclass(frozen=True)
class Task:
    """Images to train on, images to score on, and how detections are matched.

    `objects` says what is found. `radius` and `other_radii` are match radii in image pixels; the model is trained for
    the first, and its detections are scored at all of them. `box` is an object's diameter. `settings` change the
    preset, and hold for every method that knows them; in them {data} is the folder of the sets. `split_file` and
    `val_fold` are those of `load_dataset`, within the set.
    """

    folder: str
    objects: str
    radius: float
    box: float
    class_name: str = ""
    split_file: str | None = None
    val_fold: int | None = None
    max_train_images: int | None = None
    preset: str = "pointsense"
    minutes: float = 20.0
    other_radii: tuple[float, ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""

    def load(self, data: Path) -> Dataset:
        """The set with the split and the class of this task."""
        folder = data / self.folder
        split_file = None if self.split_file is None else folder / self.split_file
        dataset = load_dataset(folder, split_file=split_file, val_fold=self.val_fold)
        return dataset.only(self.class_name) if self.class_name else dataset

    @property
    def split(self) -> str:
        """Where the `val` images come from, in words."""
        return self.split_file or "split.csv"


WEIGHTS: dict[str, Any] = {
    "weights": "{data}/weights/mobilenetv2_100.safetensors",
    "weights_origin": "tensorflow",
}
"""Of the encoder of all that starts from a pretrained one."""

MICROMETRES_8 = 32.6  # px at 0.2456 um/px: the other radius that the contest's page names
ICPR = Task(
    "icpr2012",
    "mitoses, H&E at 40x",
    20,
    box=26,
    split_file="folds.csv",
    other_radii=(MICROMETRES_8,),
    preset="mitoses",
    settings=WEIGHTS,
    note="every slide in both halves, as in the contest",
)

TASKS = {
    "vgg_cells": Task(
        "vgg_cells",
        "cells, fluorescence",
        5,
        box=10,
        max_train_images=32,
        other_radii=(3.0,),
        note="simulated",
    ),
    "bccd-WBC": Task("bccd", "white blood cells", 45, box=190, class_name="WBC"),
    "bccd-RBC": Task("bccd", "red blood cells", 25, box=100, class_name="RBC", note="incomplete labels"),
    "dsb2018": Task(
        "dsb2018",
        "nuclei, fluorescence and stained",
        6,
        box=18,
        preset="nuclei",
        minutes=25,
        settings=WEIGHTS,
        note="crops of one field may be in both halves",
    ),
    "crchisto": Task(
        "crchisto",
        "nuclei of colon cancer, H&E",
        6,
        box=14,
        note="patients unknown: may be in both halves",
    ),
    **{f"icpr2012-fold{fold}": dataclasses.replace(ICPR, val_fold=fold) for fold in range(4)},
    "icpr2012-A04": dataclasses.replace(
        ICPR,
        objects="mitoses, one slide held out",
        split_file=None,
        note="a slide never seen, but by who chose the settings",
    ),
    "mitos14_half": Task(
        "mitos14_half",
        "mitoses, H&E at 20x",
        17,
        box=20,
        preset="mitoses",
        # At the size that objects have in icpr2012, which the wide match radius would halve again.
        settings=WEIGHTS | {"scale": 1.0, "look": 64},
        note="two slides never seen; no image without a mitosis",
    ),
}

FAMILIES = {
    "icpr2012": tuple(f"icpr2012-fold{fold}" for fold in range(4)),
} | {name: (name,) for name in TASKS if not name.startswith("icpr2012-fold")}
"""Tasks whose scores are averaged: the folds of one set."""

SMOKE = Task(
    "synthetic",
    "cells, simulated",
    RADIUS_PX,
    box=2 * RADIUS_PX,
    settings={"steps": 6, "batch": 2, "patch": 64, "width": 8, "checks": 1},
)


def trained_models_parser(description: str | None, out: str) -> argparse.ArgumentParser:
    """The command line of what reads models that real_data.py trained, and writes the file `out` of the results."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", metavar="SET", help=", ".join(TASKS))
    parser.add_argument("--data", type=Path, help="folder of the sets [POINTSENSE_DATA]")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the trained models")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / out)
    parser.add_argument("--smoke", action="store_true")
    return parser


def data_folder(given: Path | None) -> Path:
    """The folder of the sets: as given, else by the environment.

    Raises
    ------
    UsageError
        If neither tells it.
    """
    if found := given or os.environ.get("POINTSENSE_DATA"):
        return Path(found)
    raise UsageError("the image sets are not known; give --data FOLDER or set POINTSENSE_DATA")


def configured(start: str, settings: dict[str, Any], data: Path) -> Config:
    """The preset `start` with settings on top; {data} in their values is the folder of the sets."""
    return override(
        preset(start),
        {
            key: value.replace("{data}", str(data)) if isinstance(value, str) else value
            for key, value in settings.items()
        },
    )


def views_of(config: Config) -> dict[str, Any]:
    """The settings by which a trained model sees an image: they may be others than it was trained with."""
    return {name: getattr(config, name) for name in ("views", "view_zoom", "look_views")}


def select_tasks(names: Sequence[str]) -> dict[str, Task]:
    """The tasks that are named, or whose folder is; all for no name.

    Raises
    ------
    UsageError
        If a name is neither; the message lists those that are.
    """
    for name in names:
        if not any(name in (key, task.folder) for key, task in TASKS.items()):
            raise UsageError(f"unknown set '{name}'; the sets are {', '.join(TASKS)}")
    return {key: task for key, task in TASKS.items() if not names or {key, task.folder} & set(names)}
