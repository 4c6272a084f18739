"""Features of a frozen backbone, computed once for all patches: fine-tuning a last layer then costs seconds."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric
from torch import Tensor

from pointsense.learning.crops import Crops
from pointsense.model.config import Config
from pointsense.model.network import PatchNetwork

BATCH = 16


class FrozenFeatures:
    """Features and points of every patch of the grid in its four turns.

    Parameters
    ----------
    network : PatchNetwork
        With a backbone that does not learn.
    crops : Crops
    fabric : Fabric
        Gives device and precision.
    """

    @staticmethod
    def possible(config: Config) -> bool:
        """Whether each patch looks the same whenever it is drawn."""
        return config.freeze and config.sampling == "grid" and config.jitter == 0 and config.head == "global"

    @torch.no_grad()
    def __init__(self, network: PatchNetwork, crops: Crops, fabric: Fabric):
        self.crops, self.device = crops, fabric.device
        was_training = network.training
        network.eval()
        features, self.points = [], []
        total = 4 * len(crops.grid)
        for first in range(0, total, BATCH):
            patches = [crops.patch(k) for k in range(first, min(first + BATCH, total))]
            images = torch.stack([image for image, _ in patches]).to(fabric.device)
            with fabric.autocast():
                features.append(
                    network.features(images.contiguous(memory_format=torch.channels_last)).float()
                )
            self.points += [torch.from_numpy(points.copy()).float() for _, points in patches]
        self.features = torch.cat(features)
        network.train(was_training)

    def batch(self, step: int) -> tuple[Tensor, list[Tensor]]:
        """Features (B, F) and points of the patches that a step sees."""
        chosen = self.crops.patches(step)
        return self.features[chosen], [self.points[k] for k in chosen]
