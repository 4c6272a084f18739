"""Training: from a data set to a run folder."""

from __future__ import annotations

import copy
import csv
import io
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pointsense.datasets import Dataset, Sample, check_points_inside
from pointsense.errors import DataError, UsageError
from pointsense.images import InputContract, read_image
from pointsense.inference.detector import Detector, factors, pick_device, rescaled, to_working
from pointsense.learning.card import model_card
from pointsense.learning.checkpoint import (
    NAME,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizer,
    write_checkpoint,
)
from pointsense.learning.crops import Crops, Field
from pointsense.learning.frozen import FrozenFeatures
from pointsense.learning.losses import loss
from pointsense.learning.selection import Selection, draw_selection
from pointsense.model.config import Config, override
from pointsense.model.network import Network, PatchNetwork, ProjectionNetwork, build_network
from pointsense.model.presets import fitted_to
from pointsense.reporting.curves import draw_history
from pointsense.writing import replacing, write_json, write_text

log = logging.getLogger(__name__)
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its notes on precision are not the user's

CHECK_BLUR = 0.5
"""Cells: the blur with which the checks during training decode; the last one tries all."""

ROW_STEPS = 20
"""Steps averaged in a row of history.csv."""

CHECKPOINT_SECONDS = 20.0

TIME_FOR_CHOOSING = 0.06
"""Share of a time limit left for the choice of decoder and threshold after the last step."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands."""

    step: int
    steps: int
    loss: float
    selection_f1: float | None
    seconds: float
    seconds_left: float


@dataclass
class _State:
    """What a checkpoint keeps beside the tensors."""

    step: int = 0
    seconds: float = 0.0
    checks_done: int = 0
    best_f1: float = -1.0
    best_step: int = 0
    rows: list[dict[str, float | None]] = field(default_factory=list)


def train(
    dataset: Dataset,
    out: Path | str,
    config: Config,
    *,
    radius: float,
    class_name: str = "",
    selection_fraction: float = 0.2,
    max_train_images: int | None = None,
    time_limit: float | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    report: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Train a detector on the `train` samples of a data set and write a run folder.

    Parameters
    ----------
    dataset : Dataset
        Its `val` samples are never opened.
    out : path
        The run folder.
    config : Config
    radius : float
        Match radius in image px; working resolution, cells and bandwidth follow from it.
    class_name : str
        What the points are.
    selection_fraction : float
        Share of the training images to choose stopping, decoder and threshold on.
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
    config = fitted_to(config, radius)
    fit_samples, selection_samples = draw_selection(samples, selection_fraction, seed)
    request = {
        "settings": config.model_dump(),
        "seed": seed,
        "class_name": class_name,
        "fit": [s.name for s in fit_samples],
        "selection": [s.name for s in selection_samples],
    }
    stored = _opened(out, request, resume=resume, overwrite=overwrite)
    if stored == "finished":
        return _finished(out)

    images = [_read(s) for s in fit_samples]
    selection = Selection(selection_samples, [_read(s) for s in selection_samples], radius)
    contract = InputContract.from_images(images)
    for sample, image in zip(selection_samples, selection.images, strict=True):
        contract.check(image, sample.name)
    fields = [
        Field(
            sample.name,
            rescaled(torch.from_numpy(contract.apply(image, sample.name)), config.scale).half(),
            to_working(sample.points, factors(image.shape, config.scale)),
        )
        for sample, image in zip(fit_samples, images, strict=True)
    ]
    del images
    fabric = Fabric(accelerator=pick_device(device).type, devices=1, precision=_precision(config, device))
    torch.manual_seed(seed)
    network = build_network(config, contract.channels)
    training = _Training(fabric, network, fields, config, seed)
    averaged = Detector(
        training.averaged, config, contract, class_name, dataset.um_per_px, device=fabric.device
    )
    if isinstance(network, ProjectionNetwork):
        _ = averaged.halo  # says at once if the backbone cannot be tiled
    state, best = _State(), training.tensors("averaged")
    if isinstance(stored, tuple):
        parts, values = stored
        state = _State(**values["state"])
        best = parts.pop("best")
        training.restore(parts)
    out.mkdir(parents=True, exist_ok=True)

    def save() -> None:
        parts = {
            **{name: training.tensors(name) for name in ("network", "averaged", "optimizer")},
            "best": best,
        }
        write_checkpoint(out, parts, {"request": request, "state": asdict(state)})

    limit = math.inf if time_limit is None else 60 * time_limit * (1 - TIME_FOR_CHOOSING)
    started = time.monotonic() - state.seconds
    saved = reported = time.monotonic()
    window: list[dict[str, float]] = []
    done = False
    while not done:
        state.seconds = time.monotonic() - started
        progress = max(state.step / config.steps, state.seconds / limit)
        done = progress >= 1
        if done or progress * config.checks >= state.checks_done + 1:
            state.checks_done = int(progress * config.checks)
            f1 = selection.choose(averaged, [CHECK_BLUR]).threshold.f1
            if f1 >= state.best_f1:
                state.best_f1, state.best_step = f1, state.step
                best = {name: value.clone() for name, value in training.tensors("averaged").items()}
            state.rows.append(_row(state, window, f1))
            window = []
            _write_history(out, state.rows)
            if not done:
                save()
            saved = time.monotonic()
            reported = 0.0
        if not done:
            window.append(training.step(state.step, progress))
            state.step += 1
            if not math.isfinite(window[-1]["loss"]):
                raise DataError(
                    f"the loss became {window[-1]['loss']} at step {state.step}; lower learning_rate with --set"
                )
            if len(window) == ROW_STEPS:
                state.rows.append(_row(state, window, None))
                window = []
        now = time.monotonic()
        if report and window and now - reported > 1:
            left = min((now - started) * (1 / max(progress, 1e-3) - 1), limit)
            f1s = [row["selection_f1"] for row in state.rows if row["selection_f1"] is not None]
            report(
                Progress(
                    state.step,
                    config.steps,
                    window[-1]["loss"],
                    f1s[-1] if f1s else None,
                    now - started,
                    left,
                )
            )
            reported = now
        if not done and not window and now - saved > CHECKPOINT_SECONDS:
            state.seconds = now - started
            save()
            saved = now

    training.averaged.load_state_dict(best)
    chosen = selection.choose(averaged)
    averaged.config = override(
        config, {"blur": chosen.blur, "threshold": round(chosen.threshold.threshold, 4)}
    )
    curve = chosen.threshold.curve  # empty where nothing was found at all
    at = min(curve, key=lambda p: abs(p.threshold - chosen.threshold.threshold)) if curve else None
    metrics: dict[str, Any] = {
        "selection": {
            "f1": chosen.threshold.f1,
            "average_precision": chosen.threshold.average_precision,
            "precision": at.precision if at else None,
            "recall": at.recall if at else 0.0,
            "threshold": averaged.config.threshold,
            "blur": chosen.blur,
            "best_step": state.best_step,
            "images": request["selection"],
            "curve": [asdict(p) for p in chosen.threshold.curve],
        },
        "train_images": request["fit"],
        "steps": state.step,
        "seconds": round(time.monotonic() - started, 1),
        "code": code_size(network, config),
        "parameters": sum(p.numel() for p in network.parameters()),
        "device": str(fabric.device),
        "precision": fabric._precision.precision,
        "seed": seed,
        "radius": radius,
        "class_name": class_name,
    }
    _finish(out, averaged, metrics, state.rows, dataset)
    return metrics


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


class _Training:
    """The network that learns, its averaged copy, and one step."""

    def __init__(self, fabric: Fabric, network: Network, fields: list[Field], config: Config, seed: int):
        self.config, self.seed, self.fabric = config, seed, fabric
        self.crops = Crops(fields, config, seed)
        if config.sampling == "grid" and not self.crops.grid:
            raise UsageError(
                f"no training image holds a patch of {config.patch} px: set patch, or sampling=random"
            )
        given = bool(config.weights or config.pretrained)
        self.steady = network.backbone if given or config.freeze else None
        if config.freeze:
            network.backbone.requires_grad_(False)
        slow = config.backbone_learning_rate or (3e-4 if given else config.learning_rate)
        backbone = {id(p) for p in network.backbone.parameters()}
        groups: list[dict[str, Any]] = [
            {"params": [], "peak": config.learning_rate},
            {"params": [], "peak": slow},
        ]
        for p in network.parameters():
            if p.requires_grad:
                groups[id(p) in backbone]["params"].append(p)
        groups = [group for group in groups if group["params"]]
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.averaged = copy.deepcopy(network).to(fabric.device)
        self.network, self.optimizer = fabric.setup(network.to(memory_format=torch.channels_last), optimizer)
        self.features: FrozenFeatures | None = None
        if config.freeze and isinstance(network, PatchNetwork) and FrozenFeatures.possible(config):
            self.features = FrozenFeatures(network, self.crops, fabric)

    @property
    def bare(self) -> Network:
        network = self.network.module
        assert isinstance(network, PatchNetwork | ProjectionNetwork)
        return network

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Named tensors of the network, of its averaged copy, or of the optimizer."""
        if name == "optimizer":
            return optimizer_tensors(self.optimizer)
        return (self.bare if name == "network" else self.averaged).state_dict()

    def restore(self, parts: dict[str, dict[str, Tensor]]) -> None:
        """The inverse of `tensors`, for all three."""
        self.bare.load_state_dict(parts["network"])
        self.averaged.load_state_dict(parts["averaged"])
        restore_optimizer(self.optimizer, parts.get("optimizer", {}))

    def step(self, step: int, progress: float) -> dict[str, float]:
        """One descent; the terms of its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * _schedule(step, progress)
        torch.manual_seed(self.seed * 1_000_003 + step)
        self.network.train()
        if self.steady is not None:
            for module in self.steady.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()  # statistics of the given weights; a small batch would spoil them
        if self.features is not None and isinstance(self.bare, PatchNetwork):
            features, points = self.features.batch(step)
            with self.fabric.autocast():
                output = self.bare.decide(features)
        else:
            batch = self.crops.batch(step)
            images = batch.images.to(self.fabric.device, memory_format=torch.channels_last)
            output, points = self.network(images), batch.points
        terms = loss(self.bare, output, points, self.config)
        self.optimizer.zero_grad()
        self.fabric.backward(terms.total)
        self.optimizer.step()
        self._average(step)
        return {
            "loss": terms.total.item(),
            "l2": terms.l2.item(),
            "l1": terms.l1.item(),
            "count": terms.count.item(),
        }

    @torch.no_grad()
    def _average(self, step: int) -> None:
        memory = min(self.config.ema, (step + 1) / (step + 10)) if self.config.ema else 0.0
        for mean, value in zip(self.averaged.parameters(), self.bare.parameters(), strict=True):
            mean.lerp_(value, 1 - memory)
        for statistic, latest in zip(self.averaged.buffers(), self.bare.buffers(), strict=True):
            statistic.copy_(latest)


def _schedule(step: int, progress: float) -> float:
    """Share of the peak learning rate: a short warm-up, then a cosine."""
    return min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _precision(config: Config, device: str) -> Any:
    if config.precision != "auto":
        return config.precision
    kind = pick_device(device).type
    if kind == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    if kind == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "bf16-mixed"
    return "32-true"


def _read(sample: Sample) -> Any:
    image = read_image(sample.path)
    check_points_inside(sample, image.shape)
    return image


def _opened(out: Path, request: dict[str, Any], *, resume: bool, overwrite: bool) -> Any:
    """A checkpoint to go on from, "finished", or None for a fresh start."""
    if out.is_file():
        raise UsageError(f"{out} is a file; --out expects a folder")
    if not out.is_dir() or not any(out.iterdir()) or overwrite:
        for name in (NAME, "metrics.json") if overwrite else ():
            (out / name).unlink(missing_ok=True)
        return None
    if not resume:
        raise UsageError(f"{out} is not empty; use --resume to go on with its training, or --overwrite")
    if (out / "metrics.json").exists():
        return "finished"
    stored = read_checkpoint(out)
    if stored is None:
        log.info("%s holds no checkpoint: the training starts at its first step", out)
        return None
    if stored[1]["request"] != request:
        differing = [key for key in request if stored[1]["request"].get(key) != request[key]]
        raise UsageError(
            f"the training in {out} was started with other {' and '.join(differing)}; "
            "give the same options to --resume, or --overwrite"
        )
    return stored


def _finished(out: Path) -> dict[str, Any]:
    log.info("the training in %s is finished already", out)
    return json.loads((out / "metrics.json").read_text(encoding="utf-8"))


def _row(state: _State, window: list[dict[str, float]], f1: float | None) -> dict[str, float | None]:
    names = ("loss", "l2", "l1", "count")
    means = {name: sum(w[name] for w in window) / len(window) if window else None for name in names}
    return {"step": state.step, **means, "selection_f1": f1, "seconds": round(state.seconds, 1)}


def _write_history(out: Path, rows: list[dict[str, float | None]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: "" if v is None else f"{v:.6g}" for k, v in row.items()})
    write_text(out / "history.csv", text.getvalue())


def _finish(
    out: Path,
    detector: Detector,
    metrics: dict[str, Any],
    rows: list[dict[str, float | None]],
    dataset: Dataset,
) -> None:
    detector.save(out)
    _write_history(out, rows)
    losses = [(row["step"], row["loss"]) for row in rows if row["loss"] is not None]
    checks = [(row["step"], row["selection_f1"]) for row in rows if row["selection_f1"] is not None]
    curve = draw_history(*zip(*losses, strict=True), *zip(*checks, strict=True))
    with replacing(out / "curve.png") as temporary:
        temporary.write_bytes(curve)
    write_text(out / "README.md", model_card(detector, metrics, dataset))
    write_json(out / "metrics.json", metrics)
    (out / NAME).unlink(missing_ok=True)
