"""A network that learns, and its averaged copy: what the trainings of both looks and of the peers have in common."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pointsense.errors import DataError
from pointsense.learning.checkpoint import optimizer_tensors, restore_optimizer

Learner = TypeVar("Learner", bound=nn.Module)

WARM_UP = 50
"""Steps over which the learning rate rises."""


class Descent(Generic[Learner]):
    """AdamW on a network, step by step: `prepare`, then whatever makes a loss, then `follow`.

    Parameters
    ----------
    fabric : Fabric
        Gives device and precision.
    network : nn.Module
        Trained in place.
    groups : list of dict
        Its parameters, as optimizers take them, with the `peak` of the learning rate of each group.
    weight_decay : float
    betas : (float, float)
        A short memory of squared gradients, the default: those of the first steps, before the output has the labels'
        scale, are forgotten after hundreds of steps, not thousands.
    memory : float
        Of the averaged weights; 0 for none.
    steady : sequence of nn.Module
        Parts whose batch normalisation keeps the statistics it has, which a small batch would spoil.
    name : str
        Of the loss, for messages.

    Attributes
    ----------
    bare : nn.Module
        The network itself.
    network : nn.Module
        As Fabric wraps it: it computes in the configured precision.
    averaged : nn.Module
        In evaluation mode.
    optimizer : Optimizer
    """

    def __init__(
        self,
        fabric: Fabric,
        network: Learner,
        groups: list[dict[str, Any]],
        *,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.99),
        memory: float,
        steady: Sequence[nn.Module] = (),
        name: str = "the loss",
    ):
        self.fabric, self.bare, self.memory, self.steady, self.name = fabric, network, memory, steady, name
        self.averaged = copy.deepcopy(network).to(fabric.device).eval()
        optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay, betas=betas)
        self.network, self.optimizer = fabric.setup(network.to(memory_format=torch.channels_last), optimizer)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Named tensors of the network, of its averaged copy and of the optimizer."""
        return {
            "network": self.bare.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
        }

    def restore(self, parts: dict[str, dict[str, Tensor]]) -> None:
        """The inverse of `tensors`."""
        self.bare.load_state_dict(parts["network"])
        self.averaged.load_state_dict(parts["averaged"])
        restore_optimizer(self.optimizer, parts.get("optimizer", {}))

    def prepare(self, step: int, progress: float) -> None:
        """Set learning rates for a share `progress` of the training, and the network to learn."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * schedule(step, progress)
        self.network.train()
        for part in self.steady:
            for module in part.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def follow(self, loss: Tensor, step: int) -> None:
        """Go down a loss, and bring the average up to date.

        Raises
        ------
        DataError
            If the loss is not finite.
        """
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        # Asked after the backward pass, for a GPU must finish before it can tell.
        if not torch.isfinite(loss):
            raise DataError(
                f"{self.name} became {loss.item()} at step {step + 1}; lower learning_rate with --set"
            )
        self.optimizer.step()
        self._average(step)

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """At first it remembers less."""
        memory = min(self.memory, (step + 1) / (step + 10)) if self.memory else 0.0
        for mean, value in zip(self.averaged.parameters(), self.bare.parameters(), strict=True):
            mean.lerp_(value, 1 - memory)
        for statistic, latest in zip(self.averaged.buffers(), self.bare.buffers(), strict=True):
            statistic.copy_(latest)


def seed_step(seed: int, step: int) -> None:
    """Make what torch draws in a step depend on the training's seed and the step alone."""
    torch.manual_seed((seed * 1_000_003 + step) % 2**63)


def schedule(step: int, progress: float) -> float:
    """Share of the peak learning rate: a short warm-up, then a cosine."""
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
