"""The training that the learned peers share with ours: crops, AdamW, schedule by clock or steps, averaged weights."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pointsense.learning.course import Progress
from pointsense.learning.crops import Crops, Field
from pointsense.learning.descent import Descent, seed_step
from pointsense.learning.merit import standard_error
from pointsense.learning.mining import look_alikes
from pointsense.learning.training import make_fabric
from pointsense.model.config import Config
from pointsense.peers.problem import Problem
from pointsense.writing import replacing

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its notes on precision are no news

LossOf = Callable[[nn.Module, Tensor, list[Tensor], Tensor], Tensor]
"""Loss of a network on crops (B, C, S, S), given the points (K_b, 2) of each, and where (B, 1, S, S) they are known: 0
near the borders where a crop cuts through its image.
"""

SHARE_OF_CHECKS = 0.1
"""Most of the time so far that checks on the selection part may have taken; the last one is always made."""


def descend(
    network: nn.Module,
    loss_of: LossOf,
    merit_of: Callable[[nn.Module], float],
    problem: Problem,
    fields: Sequence[Field],
    *,
    config: Config | None = None,
    rates: Sequence[tuple[nn.Module, float]] = (),
    frozen_norms: Sequence[nn.Module] = (),
) -> dict[str, Any]:
    """Train a network as `pointsense.learning.training.Training` trains ours; return what there is to say of it.

    The network ends up with the averaged weights of the best check on the selection part, in evaluation mode.

    Parameters
    ----------
    network : nn.Module
        Trained in place.
    loss_of : callable
        Given the network; called in an autocast of the configured precision.
    merit_of : callable
        Score on the selection part of an averaged network, higher is better.
    problem : Problem
    fields : sequence of Field
        Images to fit.
    config : Config, optional
        Instead of the problem's.
    rates : sequence of (module, learning rate)
        Parts of the network with a learning rate of their own.
    frozen_norms : sequence of module
        Parts whose batch normalisation keeps its statistics.

    Raises
    ------
    DataError
        If the loss is no longer finite.
    """
    config, started = config or problem.config, time.monotonic()
    fabric, precision = make_fabric(config, problem.device)
    crops = Crops(fields, config, problem.seed)
    crops.alarms = look_alikes(fields, config)
    descent = Descent(
        fabric,
        network,
        _groups(network, rates, config.learning_rate),
        weight_decay=config.weight_decay,
        memory=config.ema,
        steady=frozen_norms,
    )
    averaged = descent.averaged
    # Of the checks that are as good as the best to a standard error the latest is taken, as in our own training.
    doubt = standard_error(sum(len(sample.points) for sample in problem.select))
    best: dict[str, Tensor] = {}
    highest, kept, best_step, step, checks, spent = -1.0, 0.0, 0, 0, 0, 0.0
    told = -1.0

    def seconds() -> float:
        return time.monotonic() - started

    def check() -> None:
        nonlocal best, highest, kept, best_step, spent
        begun = seconds()
        found = merit_of(averaged)
        if found >= highest - doubt:
            highest, kept, best_step = max(found, highest), found, step
            best = {name: value.clone() for name, value in averaged.state_dict().items()}
        spent += seconds() - begun

    while (progress := max(step / config.steps, seconds() / (60 * problem.minutes))) < 1:
        if progress * config.checks >= checks + 1:
            checks = int(progress * config.checks)
            if spent <= SHARE_OF_CHECKS * seconds():
                check()
        descent.prepare(step, progress)
        seed_step(problem.seed, step)
        batch = crops.batch(step)
        images = batch.images.to(fabric.device, memory_format=torch.channels_last)
        # The bare network: Fabric's wrapper would round coordinates, too, to half precision.
        with fabric.autocast():
            points = [one.to(fabric.device) for one in batch.points]
            loss = loss_of(network, images, points, batch.known.to(fabric.device))
        descent.follow(loss, step)
        step += 1
        if problem.report and seconds() - told > 1:
            told, left = seconds(), seconds() * (1 / max(progress, 1e-3) - 1)
            f1 = kept if best else None
            problem.report(Progress(step, config.steps, loss.item(), f1, told, left, checks=checks))
    check()
    network.load_state_dict(best)
    network.eval()
    with replacing(problem.run / "model.safetensors") as temporary:
        save_file({name: value.contiguous().cpu() for name, value in best.items()}, temporary)
    return {
        "steps": step,
        "seconds": round(seconds(), 1),
        "parameters": sum(p.numel() for p in network.parameters()),
        "best_step": best_step,
        "selection_merit": kept,
        "precision": precision,
        "learning_rate": config.learning_rate,
    }


def _groups(
    network: nn.Module, rates: Sequence[tuple[nn.Module, float]], rate: float
) -> list[dict[str, Any]]:
    """Parameters by the peak of their learning rate."""
    groups: list[dict[str, Any]] = [
        {"params": list(module.parameters()), "peak": peak} for module, peak in rates
    ]
    own = {id(parameter) for group in groups for parameter in group["params"]}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in own]
    return [*groups, {"params": rest, "peak": rate}]
