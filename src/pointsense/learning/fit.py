"""Training: from a data set to a run folder."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric

from pointsense.datasets import Dataset, Sample, check_points_inside
from pointsense.errors import DataError
from pointsense.images import InputContract, read_image
from pointsense.inference.detector import Detector, factors, pick_device, rescaled, to_working
from pointsense.learning.checkpoint import write_checkpoint
from pointsense.learning.crops import Alarm, Field
from pointsense.learning.mining import false_alarms
from pointsense.learning.run_folder import (
    FEATURES,
    Checkpoint,
    Row,
    finish_run,
    open_run,
    read_metrics,
    write_history,
)
from pointsense.learning.selection import Choice, Selection, draw_selection
from pointsense.learning.training import Training, pick_precision
from pointsense.model.classes import PointClass
from pointsense.model.config import Config
from pointsense.model.network import Network, PatchNetwork, ProjectionNetwork, build_network
from pointsense.model.presets import fitted_to

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its notes on precision are not the user's

log = logging.getLogger(__name__)

CHECK_BLUR = 0.5
"""Cells: the blur with which the checks during training decode; the last one tries all readings."""

ROW_STEPS = 20
"""Steps averaged in a row of history.csv."""

CHECKPOINT_SECONDS = 20.0

LAST_CHECK = 3.0
"""How much longer than a check during training the last one takes, which tries every reading."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands."""

    step: int
    steps: int
    loss: float
    selection_f1: float | None
    seconds: float
    seconds_left: float


Report = Callable[[Progress], None]


def train(
    dataset: Dataset,
    out: Path | str,
    config: Config,
    *,
    radius: float | Mapping[str, float],
    class_name: str = "",
    selection_fraction: float = 0.2,
    max_train_images: int | None = None,
    time_limit: float | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Train a detector on the `train` samples of a data set and write a run folder.

    Parameters
    ----------
    dataset : Dataset
        Its `val` samples are never opened.
    out : path
        The run folder.
    config : Config
    radius : float, or mapping of class name to float
        Match radius in image px; working resolution, cells and bandwidth follow from it, or from the median of
        those of several classes. With a mapping of several the model tells its classes apart, and points of others
        are left out, which is logged; of a single class all points are.
    class_name : str
        What the points are, where there is one radius.
    selection_fraction : float
        Share of the training images to choose stopping, decoder and threshold on; see `draw_selection`.
    max_train_images : int, optional
        Use the first so many by name.
    time_limit : float, optional
        Minutes. The learning rate's schedule follows the clock where it runs ahead of the steps.
    seed : int
        On the CPU, the same seed gives the same model.
    device : str
        auto, cpu, cuda or mps.
    resume : bool
        Go on from the folder's checkpoint, if there is one.
    overwrite : bool
        Start again where the folder holds a run.
    report : callable, optional
        Given a `Progress` about once a second and at each check.

    Returns
    -------
    dict
        What ``metrics.json`` holds.

    Raises
    ------
    DataError
        If images or points are not what they should be.
    UsageError
        If the folder holds a run and neither `resume` nor `overwrite` is given, or settings are wrong.
    """
    out = Path(out)
    samples = dataset.train
    if not samples:
        raise DataError(f"{dataset.root} has no training image; expected rows with the split 'train'")
    samples = samples[: max_train_images or len(samples)]
    radii = dict(radius) if isinstance(radius, Mapping) else {class_name: radius}
    classes = tuple(PointClass(name, value) for name, value in radii.items())
    config = fitted_to(config, float(np.median(list(radii.values()))))
    names = list(radii)
    if strange := sum(int(np.sum(s.labels(names) < 0)) for s in samples):
        log.warning("%d points are of none of the classes %s: they are left out", strange, ", ".join(names))
    fit_samples, selection_samples = draw_selection(samples, selection_fraction, seed, dataset.val, names)
    request = {
        "settings": config.model_dump(),
        "seed": seed,
        "classes": [[name, value] for name, value in radii.items()],
        "fit": [s.name for s in fit_samples],
        "selection": [s.name for s in selection_samples],
    }
    stored = open_run(out, request, resume=resume, overwrite=overwrite)
    if stored == "finished":
        return read_metrics(out)

    images, selection_images = ([_read(s) for s in part] for part in (fit_samples, selection_samples))
    contract = InputContract.from_images(images)
    for sample, image in zip(selection_samples, selection_images, strict=True):
        contract.check(image, sample.name)
    selection = Selection(selection_samples, selection_images, classes)
    fields = _fields(fit_samples, images, contract, config.scale, names)
    del images
    precision = pick_precision(config, device)
    fabric = Fabric(accelerator=pick_device(device).type, devices=1, precision=precision)
    torch.manual_seed(seed)
    network = build_network(config, contract.channels, len(classes))
    training = Training(fabric, network, fields, config, seed, classes=len(classes), cache=out / FEATURES)
    detector = Detector(training.averaged, config, contract, classes, dataset.um_per_px, device=fabric.device)
    if isinstance(network, ProjectionNetwork):
        _ = detector.halo  # says at once if the backbone cannot be tiled
    course = _Course(out, request, training, detector, selection, time_limit, report)
    if stored is not None:
        course.restore(stored)
    out.mkdir(parents=True, exist_ok=True)
    course.run()

    training.averaged.load_state_dict(course.best)
    chosen = selection.choose(detector)
    detector.classes = tuple(one.applied_to(kind) for one, kind in zip(chosen, classes, strict=True))
    each = {
        kind.name: _selection_metrics(one, kind) for one, kind in zip(chosen, detector.classes, strict=True)
    }
    metrics = {
        "selection": {
            "f1": float(np.mean([one["f1"] for one in each.values()])),
            "classes": each,
            "best_step": course.state.best_step,
            "images": request["selection"],
        },
        "train_images": request["fit"],
        "steps": course.state.step,
        "seconds": round(course.seconds, 1),
        "code": code_size(network, config),
        "parameters": sum(p.numel() for p in network.parameters()),
        "device": str(fabric.device),
        "precision": precision,
        "seed": seed,
        "radius": radii,
    }
    finish_run(out, detector, metrics, course.state.rows, dataset)
    return metrics


@dataclass
class _State:
    """What a checkpoint keeps beside the tensors."""

    step: int = 0
    seconds: float = 0.0
    checks_done: int = 0
    best_merit: float = -1.0
    best_step: int = 0
    rows: list[Row] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)


class _Course:
    """A training on its way: steps, checks on the selection part, checkpoints and reports."""

    def __init__(
        self,
        out: Path,
        request: dict[str, Any],
        training: Training,
        detector: Detector,
        selection: Selection,
        time_limit: float | None,
        report: Report | None,
    ):
        self.out, self.request, self.training = out, request, training
        self.detector, self.selection, self.report = detector, selection, report
        self.limit = math.inf if time_limit is None else 60 * time_limit
        self.state = _State()
        self.best = {name: value.clone() for name, value in training.tensors("averaged").items()}
        self.window: list[dict[str, float]] = []
        self.check_seconds = 0.0
        self.started = self.saved = self.told = time.monotonic()

    def restore(self, stored: Checkpoint) -> None:
        """Go on from a checkpoint."""
        parts, values = stored
        self.state = _State(**values["state"])
        self.state.alarms = [Alarm(*alarm) for alarm in self.state.alarms]
        self.training.crops.alarms = self.state.alarms
        self.best = parts.pop("best")
        self.training.restore(parts)
        self.started = time.monotonic() - self.state.seconds

    @property
    def seconds(self) -> float:
        """Of training so far, earlier parts included."""
        return time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """Share of the training that is done, by steps or by the clock, which leaves time for the last check."""
        for_steps = max(self.limit - LAST_CHECK * self.check_seconds, 1e-9)
        return max(self.state.step / self.training.config.steps, self.seconds / for_steps)

    def run(self) -> None:
        """Step after step to the end; the last check is done, and `best` holds the weights to keep."""
        checks = self.training.config.checks
        while (progress := self.progress) < 1:
            if progress * checks >= self.state.checks_done + 1:
                self.state.checks_done = int(progress * checks)
                self._check()
                self._mine()
                self._save()
            self._step(progress)
            if not self.window and time.monotonic() - self.saved > CHECKPOINT_SECONDS:
                self._save()
            if self.report and self.window and time.monotonic() - self.told > 1:
                self.report(self._told())
        self._check()

    def _step(self, progress: float) -> None:
        terms = self.training.step(self.state.step, progress)
        self.state.step += 1
        if not math.isfinite(terms["loss"]):
            raise DataError(
                f"the loss became {terms['loss']} at step {self.state.step}; lower learning_rate with --set"
            )
        self.window.append(terms)
        if len(self.window) == ROW_STEPS:
            self._close_row()

    def _check(self) -> None:
        """Score the averaged weights; keep them if they are the best so far."""
        begun = time.monotonic()
        choices = self.selection.choose(self.detector, [CHECK_BLUR])
        merit = float(np.mean([choice.merit for choice in choices]))
        # The latest of those that are as good as the best to a standard error: on few points chance looks good.
        if merit >= self.state.best_merit - self.selection.mean_error:
            self.state.best_merit = max(merit, self.state.best_merit)
            self.state.best_step = self.state.step
            averaged = self.training.tensors("averaged")
            self.best = {name: value.clone() for name, value in averaged.items()}
        self._close_row(float(np.mean([choice.threshold.f1 for choice in choices])))
        write_history(self.out, self.state.rows)
        self.check_seconds = time.monotonic() - begun
        self.told = 0.0

    def _mine(self) -> None:
        """Find out where the averaged network raises false alarms on the images that are fitted."""
        network = self.training.averaged
        if self.training.config.hard and isinstance(network, ProjectionNetwork):
            fields, config = self.training.crops.fields, self.training.config
            self.state.alarms = false_alarms(network, fields, config, self.detector.device)
            self.training.crops.alarms = self.state.alarms

    def _close_row(self, f1: float | None = None) -> None:
        names = ("loss", "l2", "l1", "count")
        means = {
            name: float(np.mean([w[name] for w in self.window])) if self.window else None for name in names
        }
        self.state.rows.append(
            {"step": self.state.step, **means, "selection_f1": f1, "seconds": round(self.seconds, 1)}
        )
        self.window = []

    def _save(self) -> None:
        self.state.seconds = self.seconds
        parts = {name: self.training.tensors(name) for name in ("network", "averaged", "optimizer")}
        write_checkpoint(
            self.out, parts | {"best": self.best}, {"request": self.request, "state": asdict(self.state)}
        )
        self.saved = time.monotonic()

    def _told(self) -> Progress:
        self.told = time.monotonic()
        left = min(self.seconds * (1 / max(self.progress, 1e-3) - 1), self.limit)
        f1s = [row["selection_f1"] for row in self.state.rows if row["selection_f1"] is not None]
        steps, loss = self.training.config.steps, self.window[-1]["loss"]
        return Progress(self.state.step, steps, loss, f1s[-1] if f1s else None, self.seconds, left)


def _read(sample: Sample) -> npt.NDArray[Any]:
    image = read_image(sample.path)
    check_points_inside(sample, image.shape)
    return image


def _fields(
    samples: Sequence[Sample],
    images: Sequence[npt.NDArray[Any]],
    contract: InputContract,
    scale: float,
    names: Sequence[str],
) -> list[Field]:
    return [
        Field(
            sample.name,
            rescaled(torch.from_numpy(contract.apply(image, sample.name)), scale).half(),
            to_working(sample.points, factors(image.shape, scale)),
            sample.labels(names),
        )
        for sample, image in zip(samples, images, strict=True)
    ]


def _selection_metrics(chosen: Choice, kind: PointClass) -> dict[str, Any]:
    choice = chosen.threshold
    return {
        "f1": choice.f1,
        "average_precision": choice.average_precision,
        "precision": choice.precision,
        "recall": choice.recall,
        "threshold": kind.threshold,
        "reading": asdict(kind.reading),
        "curve": [asdict(point) for point in choice.curve],
    }


def code_size(network: Network, config: Config) -> dict[str, float]:
    """How far the code compresses: numbers of a window (or patch) against its cells (or pixels)."""
    if isinstance(network, ProjectionNetwork):
        numbers, cells = network.code.numbers, config.window**2
        every = numbers / config.hop**2
    else:
        assert isinstance(network, PatchNetwork)
        numbers, cells = math.prod(network.code.shape), config.patch**2
        every = numbers / cells
    return {"numbers": numbers, "cells": cells, "ratio": numbers / cells, "total_ratio": every}
