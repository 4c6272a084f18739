"""Training crops: what step s of seed k sees is a pure function of both, so that a resumed run goes on alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from pointsense.learning.augment import recoloured, turned
from pointsense.model.config import Config


@dataclass(frozen=True)
class Field:
    """A training image in working px.

    Attributes
    ----------
    name : str
    image : Tensor, (C, H, W), float16
        Half precision keeps 8-bit steps and halves the memory.
    points : (K, 2) float64
    """

    name: str
    image: Tensor
    points: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Batch:
    """Crops (B, C, S, S) and the points (K_b, 2) of each, float32."""

    images: Tensor
    points: list[Tensor]


def cut(field: Field, top: int, left: int, side: int) -> tuple[Tensor, npt.NDArray[np.float64]]:
    """A crop (C, side, side) and the points in it; beyond the image the border pixels are repeated."""
    H, W = field.image.shape[1:]
    rows = slice(max(top, 0), min(top + side, H))
    columns = slice(max(left, 0), min(left + side, W))
    pad = (max(-left, 0), max(left + side - W, 0), max(-top, 0), max(top + side - H, 0))
    crop = field.image[:, rows, columns].float()
    if any(pad):
        crop = F.pad(crop[None], pad, mode="replicate")[0]
    points = field.points - (top, left)
    return crop, points[np.all((points >= -0.5) & (points < side - 0.5), axis=1)]


class Crops:
    """Draws the batches of a training run.

    "random" sampling takes crops anywhere, at least the share `positives` of them around a point; "grid" takes
    the paper's patches, side by side from the first pixel, empty ones too, in an order shuffled each epoch.
    """

    def __init__(self, fields: Sequence[Field], config: Config, seed: int):
        self.fields, self.config, self.seed = list(fields), config, seed
        self.areas = np.array([f.image.shape[1] * f.image.shape[2] for f in self.fields], dtype=float)
        self.owners = np.repeat(np.arange(len(self.fields)), [len(f.points) for f in self.fields])
        self.points = (
            np.concatenate([f.points for f in self.fields]) if len(self.owners) else np.zeros((0, 2))
        )
        side = config.patch
        self.grid = [
            (number, top, left)
            for number, f in enumerate(self.fields)
            for top in range(0, max(f.image.shape[1] - side, 0) + 1, side)
            for left in range(0, max(f.image.shape[2] - side, 0) + 1, side)
        ]

    def batch(self, step: int) -> Batch:
        """The crops of a step."""
        generator = np.random.default_rng([self.seed, step])
        if self.config.sampling == "grid":
            crops = [self.patch(k) for k in self.patches(step)]
        else:
            crops = [self._anywhere(generator) for _ in range(self.config.batch)]
        images = [recoloured(image, self.config.jitter, generator) for image, _ in crops]
        points = [torch.from_numpy(np.ascontiguousarray(inside)).float() for _, inside in crops]
        return Batch(torch.stack(images), points)

    def patches(self, step: int) -> list[int]:
        """Which of the 4 * len(grid) turned patches a step sees; each once an epoch."""
        total, batch = 4 * len(self.grid), self.config.batch
        places = [divmod(number, total) for number in range(step * batch, (step + 1) * batch)]
        orders = {epoch: self._order(epoch) for epoch, _ in places}
        return [int(orders[epoch][place]) for epoch, place in places]

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng([self.seed, epoch, 1]).permutation(4 * len(self.grid))

    def patch(self, k: int) -> tuple[Tensor, npt.NDArray[np.float64]]:
        """Patch k // 4 of the grid after k % 4 quarter turns, with its points."""
        number, top, left = self.grid[k // 4]
        return turned(*cut(self.fields[number], top, left, self.config.patch), k % 4, flip=False)

    def _anywhere(self, generator: np.random.Generator) -> tuple[Tensor, npt.NDArray[np.float64]]:
        side = self.config.patch
        if len(self.points) and generator.random() < self.config.positives:
            k = generator.integers(len(self.points))
            owner = self.owners[k]
            corner = self.points[k] - generator.uniform(0.1, 0.9, 2) * side
        else:
            owner = generator.choice(len(self.fields), p=self.areas / self.areas.sum())
            corner = generator.uniform(0, np.maximum(self._sides(owner) - side, 0) + 1)
        # A crop ends where its image does, as tiles do in prediction.
        top, left = np.clip(np.floor(corner), 0, np.maximum(self._sides(owner) - side, 0)).astype(int)
        flip = bool(self.config.flips and generator.random() < 0.5)
        return turned(*cut(self.fields[owner], int(top), int(left), side), int(generator.integers(4)), flip)

    def _sides(self, owner: int) -> npt.NDArray[np.int64]:
        return np.array(self.fields[owner].image.shape[1:])
