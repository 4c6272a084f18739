"""Training: from a data set to a run folder, and from a finished run to one that learns from all of its images."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pointsense.datasets import Dataset, Sample
from pointsense.datasets.division import draw_selection
from pointsense.errors import DataError, UsageError
from pointsense.inference.detector import Detector
from pointsense.learning.course import OnProgress
from pointsense.learning.plan import Before, Plan, carry_out, digest_of
from pointsense.learning.run_folder import METRICS, read_metrics
from pointsense.learning.training import starts_given
from pointsense.model.classes import PointClass
from pointsense.model.config import Config, override
from pointsense.model.presets import fitted_to

log = logging.getLogger(__name__)

FRACTION = 0.2
"""Of the training images, to choose on."""


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
    report: OnProgress | None = None,
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
        Share of the training images to choose stopping, reading and threshold on; see `draw_selection`.
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
    samples = dataset.to_learn_from()[: max_train_images or None]
    radii = dict(radius) if isinstance(radius, Mapping) else {class_name: radius}
    if wrong := [value for value in radii.values() if not 0 < value < math.inf]:
        raise UsageError(f"the radius is {wrong[0]}, expected a positive number of pixels")
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
    plan = Plan(dataset, config, classes, fit_samples, selection_samples, seed)
    return carry_out(
        plan, out, time_limit=time_limit, device=device, resume=resume, overwrite=overwrite, report=report
    )


def refit(
    run: Path | str,
    dataset: Dataset,
    out: Path | str,
    *,
    weights: Path | str = "",
    time_limit: float | None = None,
    seed: int | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    report: OnProgress | None = None,
) -> dict[str, Any]:
    """Train once more as a finished run was, now on all of its images, those that it was chosen on included.

    Readings and thresholds are those of the run, and so are the scores of the metrics: no training image is left to
    choose on again, nor to score. All steps are made, and the last weights are kept.

    Parameters
    ----------
    run : path
        Folder of a finished training.
    dataset : Dataset
        With the images of the run, and the same points on them; others are not opened.
    out : path
        Another run folder.
    weights : path, optional
        Where the backbone's pretrained weights are now, if not where the run found them.
    time_limit, device, resume, overwrite, report
        As in `train`.
    seed : int, optional
        The run's own if not given.

    Returns
    -------
    dict
        What ``metrics.json`` holds.

    Raises
    ------
    DataError
        If the data set lacks images of the run, or has other points on them.
    UsageError
        If `run` is no finished training, or `out` holds a run and neither `resume` nor `overwrite` is given.
    """
    run, out = Path(run), Path(out)
    if not (run / METRICS).is_file():
        raise UsageError(f"{run} holds no finished training ({METRICS} is not there); train it first")
    if out.resolve() == run.resolve():
        raise UsageError(f"--out is the training itself, {run}: give another folder, the first one is needed")
    detector, metrics = Detector.load(run, device="cpu"), read_metrics(run)
    if metrics.get("before"):
        raise UsageError(
            f"{run} has learned from all images and chose on none: give the training before it, {metrics['before']}"
        )
    config = override(detector.config, {"weights": str(weights)} if weights else {})
    if detector.look is None:
        config = override(config, {"look": 0})
    kept = metrics["selection"]["best_step"]
    if kept < config.steps:
        log.warning("%s kept its weights of step %d; this training makes all %d", run, kept, config.steps)
    before = Before(str(run), detector.contract, metrics["selection"])
    seed = metrics["seed"] if seed is None else seed
    samples = _samples_of(run, metrics["request"], dataset, [kind.name for kind in detector.classes])
    plan = Plan(dataset, config, detector.classes, samples, [], seed, before)
    return carry_out(
        plan, out, time_limit=time_limit, device=device, resume=resume, overwrite=overwrite, report=report
    )


def _samples_of(
    run: Path, request: dict[str, Any], dataset: Dataset, names: Sequence[str]
) -> Sequence[Sample]:
    """The samples of a data set that a run was asked to fit or to select on.

    A run of one class took its points alone or all there are: whichever it was.
    """
    wanted = [*request["fit"], *request["selection"]]
    forms = [dataset]
    if len(names) == 1 and names[0] in dataset.class_names:
        forms.append(dataset.only(names[0]))
    for form in forms:
        found = {sample.name: sample for sample in form.samples}
        if missing := [name for name in wanted if name not in found]:
            raise DataError(
                f"{dataset.root} lacks {len(missing)} of {len(wanted)} images of {run}, the first {missing[0]}; "
                "give the data that it was trained on"
            )
        if digest_of([found[name] for name in wanted], names) == request["points"]:
            if new := {sample.name for sample in form.train} - set(wanted):
                log.warning(
                    "%d train images of %s are not among those of %s, the first %s: nothing is learned from them; "
                    "train a model on all of them first",
                    len(new), dataset.root, run, min(new),
                )  # fmt: skip
            return [found[name] for name in sorted(wanted)]
    raise DataError(
        f"the points of {dataset.root} are not those that {run} learned from; train on them instead"
    )
