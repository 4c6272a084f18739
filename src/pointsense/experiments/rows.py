"""Rows of ours in a table of the paper: trained, or taken from where they were, and scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pointsense.datasets import Dataset
from pointsense.evaluation import Case, Report, evaluate
from pointsense.evaluation.challenges import Challenge
from pointsense.evaluation.predictions import cases_of, found_by_model
from pointsense.experiments.boxes import detect_boxes
from pointsense.experiments.published import Table
from pointsense.inference.detector import Detector
from pointsense.inference.device import pick_device
from pointsense.learning.course import Progress
from pointsense.learning.fit import train
from pointsense.model.config import Config, override
from pointsense.model.presets import preset

BOXES = "Faster R-CNN"
OURS = {
    "CNNCS": "cnncs",
    "ECNNCS-1": "ecnncs-1",
    "ECNNCS-2": "ecnncs-2",
    BOXES: "mitoses",
    "pointsense": "mitoses",
}
"""Rows that are trained, and their presets: boxes are learned on the crops, for the steps and from the backbone of the
package's own row, the last."""

MITOSIS_UM = 8.0
"""Side of the boxes: the diameter of a mitotic figure."""


@dataclass(frozen=True)
class Row:
    """A row of ours: the scores, also within the paper's rho where that is known, and how it was trained."""

    method: str
    report: Report
    within_rho: Report | None
    settings: dict[str, Any]
    facts: dict[str, Any]
    selection_f1: float


@dataclass(frozen=True)
class Setup:
    """What all rows of a table have in common; `minutes` are those of each."""

    dataset: Dataset
    out: Path
    challenge: Challenge
    radius: float
    rho: float | None
    minutes: float
    seed: int
    device: str
    report: Callable[[Progress], None] | None

    @property
    def where(self) -> str:
        """The device by name, and how much of a CPU it is."""
        device = pick_device(self.device)
        if device.type == "cuda":
            return torch.cuda.get_device_name(device)
        return (
            "the CPU, 1 thread"
            if torch.get_num_threads() == 1
            else f"the CPU, {torch.get_num_threads()} threads"
        )

    def row(self, method: str, config: Config) -> Row:
        """Train, or take what is there, and score."""
        run = self.out / method.lower().replace(" ", "-")
        cases, facts, selection_f1 = (self._boxes if method == BOXES else self._own)(run, config)
        rule = self.challenge.protocol
        return Row(
            method,
            evaluate(cases, self.radius, protocol=rule),
            evaluate(cases, self.rho) if self.rho else None,
            config.model_dump() | {"weights": Path(config.weights).name},
            facts,
            selection_f1,
        )

    def _own(self, run: Path, config: Config) -> tuple[list[Case], dict[str, Any], float]:
        metrics = train(
            self.dataset,
            run,
            config,
            radius=self.radius,
            time_limit=self.minutes,
            seed=self.seed,
            device=self.device,
            resume=True,
            report=self.report,
        )
        val = self.dataset.val
        cases = cases_of(val, found_by_model(val, Detector.load(run, device=self.device)))
        facts = {key: metrics[key] for key in ("steps", "seconds", "parameters", "device", "precision")}
        return cases, facts, metrics["selection"]["f1"]

    def _boxes(self, run: Path, config: Config) -> tuple[list[Case], dict[str, Any], float]:
        cases, facts = detect_boxes(
            self.dataset,
            run,
            config,
            radius=self.radius,
            box=MITOSIS_UM * self.radius / self.challenge.radius_um,
            protocol=self.challenge.protocol,
            minutes=self.minutes,
            seed=self.seed,
            device=self.device,
            report=self.report,
        )
        return cases, facts, facts["selection_f1"]


def systems(table: Table, encoder: dict[str, Any]) -> dict[str, Config]:
    """The configurations of the rows that are trained: the paper's with its settings for the table.

    `encoder` are settings in place of the presets' own.
    """
    configs = {}
    for method, name in OURS.items():
        own = preset(name)
        of_paper = table.settings if own.head == "global" else {}
        if not own.alpha:  # without the L1 term
            of_paper = {key: value for key, value in of_paper.items() if key != "alpha"}
        configs[method] = override(own, of_paper | encoder)
    return configs
