"""Training: from a data set to a run folder."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pointsense.datasets import Dataset, Sample, check_points_inside
from pointsense.errors import DataError, UsageError
from pointsense.images import InputContract, read_image
from pointsense.inference.detector import Detector
from pointsense.inference.scaling import factors, rescaled, to_working
from pointsense.learning.course import Course, Progress, Report
from pointsense.learning.crops import Field
from pointsense.learning.mining import known_alarms, look_alikes
from pointsense.learning.run_folder import (
    FEATURES,
    clear_run,
    finish_run,
    open_run,
    read_metrics,
)
from pointsense.learning.second_look import learn_to_look
from pointsense.learning.selection import Choice, Selection, draw_selection
from pointsense.learning.training import Training, make_fabric, starts_given
from pointsense.model.classes import PointClass
from pointsense.model.config import Config
from pointsense.model.network import Network, PatchNetwork, ProjectionNetwork, build_network
from pointsense.model.presets import fitted_to
from pointsense.model.second_look import SecondLook

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its notes on precision are not the user's

log = logging.getLogger(__name__)

FRACTION = 0.2
"""Of the training images, to choose on."""

LOOK_SHARE = 0.35
"""Of the time limit, for the second look where there is one."""


def train(
    dataset: Dataset,
    out: Path | str,
    config: Config,
    *,
    radius: float | Mapping[str, float],
    class_name: str = "",
    selection_fraction: float = FRACTION,
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
        auto, cpu, cuda, cuda:N or mps.
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
    if config.backbone == "unet" and (config.weights or config.pretrained):
        raise UsageError(
            f"{'weights' if config.weights else 'pretrained'} is for timm's backbones, the backbone 'unet' starts from "
            "random weights: choose another with --set backbone=NAME or a preset, or leave it out (pretrained=false)"
        )
    if config.backbone_learning_rate and not starts_given(config):
        log.warning(
            "backbone_learning_rate is for given weights: this backbone starts from random ones, and learns at "
            "learning_rate (%g)",
            config.learning_rate,
        )
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
        "points": _digest([*fit_samples, *selection_samples], names),
    }
    stored = open_run(out, request, resume=resume, overwrite=overwrite)
    if stored == "finished":
        return read_metrics(out)

    images, selection_images = ([_read(s) for s in part] for part in (fit_samples, selection_samples))
    contract = InputContract.from_images(images, [s.points for s in fit_samples])
    for sample, image in zip(selection_samples, selection_images, strict=True):
        contract.check(image, sample.name)
    selection = Selection(selection_samples, selection_images, classes)
    fields = _fields(fit_samples, images, contract, config.scale, names)
    del images
    fabric, precision = make_fabric(config, device)
    torch.manual_seed(seed)
    network = build_network(config, contract.channels, len(classes))
    detector = Detector(network, config, contract, classes, dataset.um_per_px, device=fabric.device)
    if isinstance(network, ProjectionNetwork):
        _ = detector.halo  # says at once if the backbone cannot be tiled
    if overwrite:  # now that the data and the settings are known to be right
        clear_run(out)
    training = Training(fabric, network, fields, config, seed, classes=len(classes), cache=out / FEATURES)
    training.crops.alarms = look_alikes(fields, config)
    detector.network = training.averaged
    minutes = time_limit and time_limit * (1 - LOOK_SHARE if config.look else 1)
    course = Course(out, request, training, detector, selection, minutes, report)
    if stored is not None:
        course.restore(stored)
    out.mkdir(parents=True, exist_ok=True)
    course.run()
    if course.state.step < config.steps:
        log.warning("the time limit ended the training after %d of %d steps", course.state.step, config.steps)

    training.averaged.load_state_dict(course.best)
    if config.look:
        detector.look = _second_look(course, fit_samples, names, time_limit)
    detector.final = True  # readings and thresholds are those of what will predict, in its precision
    chosen = selection.settle(detector)
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
        "parameters": sum(
            p.numel() for part in (network, detector.look) if part is not None for p in part.parameters()
        ),
        "device": str(fabric.device),
        "precision": precision,
        "seed": seed,
        "radius": radii,
        "request": request,
    }
    finish_run(out, detector, metrics, course.state.rows, dataset)
    return metrics


def _second_look(
    course: Course, samples: Sequence[Sample], names: Sequence[str], time_limit: float | None
) -> SecondLook | None:
    """A second look that tells the points of the samples from the false alarms that the first network raises there."""
    training, detector = course.training, course.detector
    assert isinstance(detector.network, ProjectionNetwork)
    config, contract = training.config, detector.contract
    alarms = known_alarms(detector.network, training.crops.fields, config, detector.device)
    fields = _fields(samples, [_read(sample) for sample in samples], contract, 1.0, names)
    limit = math.inf if time_limit is None else max(60 * time_limit - course.seconds, 1.0)

    def report(step: int, loss: float, left: float) -> None:
        if course.report:
            stage = "second look"
            course.report(Progress(step, config.look_steps, loss, None, course.seconds, left, stage))

    look = learn_to_look(
        training.fabric,
        fields,
        alarms,
        config,
        training.seed,
        classes=len(names),
        time_limit=limit,
        report=report,
    )
    if look is None:
        log.warning(
            "no false alarm on the training images to learn a second look from: the model goes without"
        )
    return look


def _digest(samples: Sequence[Sample], names: Sequence[str]) -> str:
    """Changes with the points of the samples, and with what they are."""
    digest = hashlib.sha256()
    for sample in samples:
        for array in (sample.points, sample.labels(names), sample.look_alikes):
            digest.update(f"{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


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
            to_working(sample.look_alikes, factors(image.shape, scale)),
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
