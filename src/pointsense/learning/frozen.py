"""Features of a frozen backbone, computed once for all patches: fine-tuning a last layer then costs seconds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from lightning_fabric import Fabric
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pointsense.learning.crops import Crops
from pointsense.model.config import Config
from pointsense.model.network import PatchNetwork
from pointsense.writing import replacing

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
    cache : Path, optional
        File that keeps the features, so that a training that goes on need not compute them again.
    """

    @staticmethod
    def possible(config: Config) -> bool:
        """Whether each patch looks the same whenever it is drawn."""
        return config.freeze and config.sampling == "grid" and config.jitter == 0 and config.head == "global"

    def __init__(self, network: PatchNetwork, crops: Crops, fabric: Fabric, cache: Path | None = None):
        self.crops = crops
        total = 4 * len(crops.grid)
        self.points = [torch.from_numpy(crops.patch(k)[1].copy()).float() for k in range(total)]
        # What the features depend on: a file of another training is not taken.
        content = hashlib.sha256()
        for tensor in (*(field.image for field in crops.fields), *network.backbone.state_dict().values()):
            content.update(tensor.cpu().numpy().tobytes())
        names = [field.name for field in crops.fields]
        key = json.dumps([crops.config.model_dump(), crops.seed, names, content.hexdigest()])
        features = None if cache is None else _read(cache, key)
        if features is None:
            features = self._compute(network, fabric, total)
            if cache is not None:
                with replacing(cache) as temporary:
                    temporary.write_bytes(save({"features": features.cpu()}, metadata={"key": key}))
        self.features = features.to(fabric.device)

    @torch.no_grad()
    def _compute(self, network: PatchNetwork, fabric: Fabric, total: int) -> Tensor:
        was_training = network.training
        network.eval()
        features = []
        for first in range(0, total, BATCH):
            patches = [self.crops.patch(k)[0] for k in range(first, min(first + BATCH, total))]
            images = torch.stack(patches).to(fabric.device, memory_format=torch.channels_last)
            with fabric.autocast():
                features.append(network.features(images).float())
        network.train(was_training)
        return torch.cat(features)

    def batch(self, step: int) -> tuple[Tensor, list[Tensor]]:
        """Features (B, F) and points of the patches that a step sees."""
        chosen = self.crops.patches(step)
        return self.features[chosen], [self.points[k] for k in chosen]


def _read(path: Path, key: str) -> Tensor | None:
    """The features that were computed for `key`, if the file holds them."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("features") if file.metadata()["key"] == key else None
    except (SafetensorError, OSError, KeyError, TypeError):
        return None
