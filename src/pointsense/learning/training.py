"""The training of our own network: its batches, its loss, and one step of the descent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from pointsense.inference.device import pick_device, pick_precision
from pointsense.learning.crops import Crops, Field
from pointsense.learning.descent import Descent, seed_step
from pointsense.learning.frozen import FrozenFeatures
from pointsense.learning.losses import loss
from pointsense.model.config import Config
from pointsense.model.network import Network, PatchNetwork

MATRICES, THRESHOLDS = 0.3, 10.0
"""Learning rates of a learned recovery, in units of the head's: a step of Adam moves all n x n entries of a matrix
at once, and with them its largest eigenvalue by n steps; thresholds are in px, and few."""

GIVEN_RATE = 3e-4
"""Learning rate of a backbone whose weights are given, unless told otherwise."""


class Training:
    """The network, its running average and the optimizer.

    Parameters
    ----------
    fabric : Fabric
        Gives device and precision.
    network : Network
    fields : sequence of Field
        Images to fit.
    config : Config
    seed : int
    classes : int
        How many classes of points the network tells apart.
    cache : Path, optional
        File to keep the features of a frozen backbone in.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: Network,
        fields: Sequence[Field],
        config: Config,
        seed: int,
        *,
        classes: int = 1,
        cache: Path | None = None,
    ):
        self.config, self.seed, self.fabric = config, seed, fabric
        self.crops = Crops(fields, config, seed, classes)
        if config.freeze:
            network.backbone.requires_grad_(False)
        self.descent = Descent(
            fabric,
            network,
            parameter_groups(network, config),
            weight_decay=config.weight_decay,
            memory=config.ema,
            steady=[network.backbone] if starts_given(config) or config.freeze else [],
        )
        self.bare, self.averaged = self.descent.bare, self.descent.averaged
        self.features: FrozenFeatures | None = None
        if isinstance(network, PatchNetwork) and FrozenFeatures.possible(config):
            self.features = FrozenFeatures(network, self.crops, fabric, cache)

    def step(self, step: int, progress: float) -> dict[str, float]:
        """One descent at a share `progress` of the training; returns the terms of its loss.

        Raises
        ------
        DataError
            If the loss is not finite.
        """
        self.descent.prepare(step, progress)
        seed_step(self.seed, step)
        if self.features is not None and isinstance(self.bare, PatchNetwork):
            known = None
            features, points = self.features.batch(step)
            with self.fabric.autocast():
                output = self.bare.decide(features)
        else:
            batch = self.crops.batch(step)
            images = batch.images.to(self.fabric.device, memory_format=torch.channels_last)
            output, points = self.descent.network(images), batch.points
            known = batch.known.to(self.fabric.device)
        terms = loss(self.bare, output, points, self.config, known)
        self.descent.follow(terms.total, step)
        return {
            "loss": terms.total.item(),
            "l2": terms.l2.item(),
            "l1": terms.l1.item(),
            "count": terms.count.item(),
        }


def starts_given(config: Config) -> bool:
    """Whether the backbone starts from weights that were learned before."""
    return config.backbone != "unet" and bool(config.weights or config.pretrained)


def parameter_groups(network: nn.Module, config: Config) -> list[dict[str, Any]]:
    """What learns, by the peak of its learning rate."""
    slow = (config.backbone_learning_rate or GIVEN_RATE) if starts_given(config) else config.learning_rate
    by_peak: dict[float, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        peak = config.learning_rate
        if name.startswith("backbone."):
            peak = slow
        elif name.startswith("code."):
            peak *= THRESHOLDS if name.endswith("theta") else MATRICES
        by_peak.setdefault(peak, []).append(parameter)
    return [{"params": parameters, "peak": peak} for peak, parameters in by_peak.items()]


def make_fabric(config: Config, device: str) -> tuple[Fabric, str]:
    """What runs a training on the device of a name, see `pick_device`, and the precision that it computes in."""
    where = pick_device(device)
    precision: Any = pick_precision(config.precision, where)
    devices = [where.index] if where.index else 1
    return Fabric(accelerator=where.type, devices=devices, precision=precision), precision
