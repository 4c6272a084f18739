"""A training as it was asked for, and carrying it out: from images and points to a run folder."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pointsense.datasets import Dataset, Sample, too_dense
from pointsense.errors import UsageError
from pointsense.images import InputContract
from pointsense.inference.detector import Detector
from pointsense.learning.checkpoint import LOOK
from pointsense.learning.course import LAST_CHECK, Course, OnProgress, Progress
from pointsense.learning.crops import fields_of, images_of
from pointsense.learning.material import prepare
from pointsense.learning.mining import known_alarms, look_alikes
from pointsense.learning.run_folder import FEATURES, clear_run, finish_run, open_run, read_metrics
from pointsense.learning.second_look import learn_to_look
from pointsense.learning.selection import Choice
from pointsense.learning.training import Training, make_fabric
from pointsense.model.classes import PointClass
from pointsense.model.config import Config
from pointsense.model.network import Network, PatchNetwork, ProjectionNetwork, build_network
from pointsense.model.second_look import SecondLook

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its notes on precision are not the user's

log = logging.getLogger(__name__)

UNSEEN = 0.05
"""Share of the images' area from which on it is said that nothing is learned from it."""

LOOK_SHARE = 0.35
"""Of the time limit, for the second look where there is one."""


@dataclass(frozen=True)
class Before:
    """A finished training whose choices another one keeps: `selection` is what its metrics say of them."""

    run: str
    contract: InputContract
    selection: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is learned from which images, and how.

    Where a training `before` has chosen, `select` is empty, and `classes` have its readings and thresholds.
    """

    dataset: Dataset
    config: Config
    classes: tuple[PointClass, ...]
    fit: Sequence[Sample]
    select: Sequence[Sample]
    seed: int
    before: Before | None = None

    @property
    def names(self) -> list[str]:
        """Of the classes."""
        return [kind.name for kind in self.classes]

    @property
    def request(self) -> dict[str, Any]:
        """All that the model follows from, in JSON: two trainings with the same request can go on with each other."""
        asked = {
            "settings": self.config.model_dump(),
            "seed": self.seed,
            "classes": [[kind.name, kind.radius] for kind in self.classes],
            "fit": [s.name for s in self.fit],
            "selection": [s.name for s in self.select],
            "points": digest_of([*self.fit, *self.select], self.names),
        }
        if self.before is None:
            return asked
        chosen = json.dumps([_asked_for(kind) for kind in self.classes])
        chosen += self.before.contract.model_dump_json(
            exclude=None if self.before.contract.stains else {"stains"}
        )
        return asked | {"choices": hashlib.sha256(chosen.encode()).hexdigest()[:16]}


def _asked_for(kind: PointClass) -> dict[str, Any]:
    """A class in JSON; without what came later where it is not used, so that older trainings can go on."""
    asked = asdict(kind)
    if not kind.reading.matched:
        del asked["reading"]["matched"]
    return asked


def carry_out(
    plan: Plan,
    out: Path,
    *,
    time_limit: float | None,
    device: str,
    resume: bool,
    overwrite: bool,
    report: OnProgress | None,
) -> dict[str, Any]:
    """Train, choose and write the run folder; return what ``metrics.json`` holds. See `pointsense.train`."""
    config, request, names, begun = plan.config, plan.request, plan.names, time.monotonic()
    if time_limit is not None and not time_limit > 0:
        raise UsageError(f"the time limit is {time_limit} minutes, expected a positive number")
    stored = open_run(out, request, resume=resume, overwrite=overwrite)
    if stored == "finished":
        return read_metrics(out)

    given = plan.before.contract if plan.before else None
    contract, fields, selection = prepare(plan.fit, plan.select, plan.classes, config, given)
    if config.look and (cut := [kind for kind in plan.classes if 2 * kind.radius > config.look]):
        log.warning(
            "the second look sees crops of %d px, less than the circle of the match radius, %g px: give --set look=PX, "
            "about four diameters of an object, a multiple of 16",
            config.look,
            cut[0].radius,
        )
    fabric, precision = make_fabric(config, device)
    torch.manual_seed(plan.seed)
    network = build_network(config, contract.channels, len(names))
    um_per_px = plan.dataset.um_per_px
    detector = Detector(network, config, contract, plan.classes, um_per_px, device=fabric.device)
    if isinstance(network, ProjectionNetwork):
        _ = detector.halo  # says at once if the backbone cannot be tiled
    else:
        for warning in too_dense(plan.fit, config.patch / config.scale, network.code.capacity):
            log.warning("%s", warning)
    if overwrite:  # now that the data and the settings are known to be right
        clear_run(out)
    training = Training(fabric, network, fields, config, plan.seed, classes=len(names), cache=out / FEATURES)
    if config.sampling == "grid" and (unseen := training.crops.unseen) > UNSEEN:
        log.warning(
            "nothing is learned from %.0f%% of the images, along their borders, where no whole patch of %d px is left: "
            "give --set patch=PX that divides their sides",
            100 * unseen,
            config.patch,
        )
    training.crops.alarms = look_alikes(fields, config)
    detector.network = training.averaged
    minutes = time_limit and time_limit * (1 - LOOK_SHARE if config.look else 1)
    course = Course(out, request, training, detector, selection, minutes, report, begun)
    if stored is not None:
        course.restore(stored)
    if course.progress < 1:
        (out / LOOK).unlink(missing_ok=True)  # of other alarms, and another first network
    out.mkdir(parents=True, exist_ok=True)
    course.run()
    if course.state.step < config.steps:
        log.warning("the time limit ended the training after %d of %d steps", course.state.step, config.steps)

    training.averaged.load_state_dict(course.best)
    if config.look:
        detector.look = _second_look(course, plan.fit, names, time_limit)
    detector.final = True  # readings and thresholds are those of what will predict, in its precision
    metrics = _metrics(course, plan, precision)
    finish_run(out, detector, metrics, course.state.rows, plan.dataset)
    return metrics


def _metrics(course: Course, plan: Plan, precision: str) -> dict[str, Any]:
    """What ``metrics.json`` holds; chooses readings and thresholds where no training before has."""
    before, detector = plan.before, course.detector
    learned = [part for part in (detector.network, detector.look) if part is not None]
    return {
        "selection": before.selection if before else _chosen(course),
        "before": before.run if before else None,
        "train_images": course.request["fit"],
        "steps": course.state.step,
        "seconds": round(course.seconds, 1),
        "code": code_size(detector.network, plan.config),
        "parameters": sum(p.numel() for part in learned for p in part.parameters()),
        "device": str(detector.device),
        "precision": precision,
        "seed": plan.seed,
        "radius": {kind.name: kind.radius for kind in plan.classes},
        "request": course.request,
    }


def _chosen(course: Course) -> dict[str, Any]:
    """Give the classes of the detector their readings and thresholds, and say how it does on the selection part."""
    assert course.selection is not None
    chosen, classes = course.selection.settle(course.detector), course.detector.classes
    each = {kind.name: _selection_metrics(one, kind) for one, kind in zip(chosen, classes, strict=True)}
    return {
        "f1": float(np.mean([one["f1"] for one in each.values()])),
        "classes": each,
        "best_step": course.state.best_step,
        "images": course.request["selection"],
    }


def _second_look(
    course: Course, samples: Sequence[Sample], names: Sequence[str], time_limit: float | None
) -> SecondLook | None:
    """A second look that tells the points of the samples from the false alarms that the first network raises there."""
    training, detector = course.training, course.detector
    assert isinstance(detector.network, ProjectionNetwork)
    config, contract = training.config, detector.contract
    alarms = known_alarms(detector.network, training.crops.fields, config, detector.device)
    fields = fields_of(samples, images_of(samples), contract, 1.0, names)
    # Whatever the alarms and the images took, it has half of its share: one that hardly learned would spoil all scores.
    limit = math.inf
    if time_limit is not None:
        left = 60 * time_limit - course.seconds - LAST_CHECK * course.state.check_seconds
        limit = max(left, 60 * time_limit * LOOK_SHARE / 2)

    def report(step: int, loss: float, left: float) -> None:
        if course.report and time.monotonic() - course.told > 1:
            course.told, stage = time.monotonic(), "second look"
            course.report(Progress(step, config.look_steps, loss, None, course.seconds, left, stage))

    look = learn_to_look(
        training.fabric,
        fields,
        alarms,
        config,
        training.seed,
        classes=len(names),
        time_limit=limit,
        checkpoint=course.out / LOOK,
        report=report,
    )
    if look is None:
        log.warning(
            "no false alarm on the training images to learn a second look from: the model goes without"
        )
    return look


def digest_of(samples: Sequence[Sample], names: Sequence[str]) -> str:
    """Changes with the points of the samples, and with what they are."""
    digest = hashlib.sha256()
    for sample in samples:
        for array in (sample.points, sample.labels(names), sample.look_alikes):
            digest.update(f"{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


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


def code_size(network: Network, config: Config) -> dict[str, float | str]:
    """How far the code compresses: numbers of a window (or patch) against its cells (or pixels)."""
    if isinstance(network, ProjectionNetwork):
        numbers, cells = network.code.numbers, config.window**2
        every, of = numbers / config.hop**2, "cells of a window"
    else:
        assert isinstance(network, PatchNetwork)
        numbers, cells = math.prod(network.code.shape), config.patch**2
        every, of = numbers / cells, "px of a patch"
    return {"numbers": numbers, "cells": cells, "of": of, "ratio": numbers / cells, "total_ratio": every}
