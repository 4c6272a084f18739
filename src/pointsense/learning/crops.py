"""Training crops: what step s of seed k sees is a pure function of both, so that a resumed run goes on alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointsense.datasets import Sample, check_points_inside
from pointsense.images import InputContract, read_image
from pointsense.inference.scaling import cut_out, factors, rescaled, resized, to_working
from pointsense.learning.augment import is_dark, laid_over, recoloured, turned
from pointsense.model.config import Config

HARD = 0.5
"""Share of the crops around no point that are around look-alikes, where these are marked."""


@dataclass(frozen=True)
class Field:
    """A training image in working px.

    Attributes
    ----------
    name : str
    image : Tensor, (C, H, W), float16
        Half precision keeps 8-bit steps and halves the memory.
    points : (N, 2) float64
    labels : (N,) int64
        Class of each point, by its place among the model's classes.
    look_alikes : (M, 2) float64
        What looks like an object, and is marked as none.
    """

    name: str
    image: Tensor
    points: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    look_alikes: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))


def images_of(samples: Sequence[Sample]) -> Iterator[npt.NDArray[Any]]:
    """The images (H, W, C) of samples, one at a time; their points are checked to lie inside.

    Raises
    ------
    DataError
        If one cannot be read, or points lie outside.
    """
    for sample in samples:
        image = read_image(sample.path)
        check_points_inside(sample, image.shape)
        yield image


def read_checked(samples: Sequence[Sample]) -> list[npt.NDArray[Any]]:
    """All of `images_of`."""
    return list(images_of(samples))


def fields_of(
    samples: Sequence[Sample],
    images: Iterable[npt.NDArray[Any]],
    contract: InputContract,
    scale: float,
    names: Sequence[str],
) -> list[Field]:
    """Samples and their images (H, W, C) at `scale` working px an image px, classes in the order of their `names`.

    Points of other classes are no objects here: they are left out.
    """
    fields = []
    for sample, image in zip(samples, images, strict=True):
        labels, size = sample.labels(names), factors(image.shape, scale)
        fields.append(
            Field(
                sample.name,
                rescaled(torch.from_numpy(contract.apply(image, sample.name)), scale).half(),
                to_working(sample.points[labels >= 0], size),
                labels[labels >= 0],
                to_working(sample.look_alikes, size),
            )
        )
    return fields


class Alarm(NamedTuple):
    """A place in working px of field number `field` where an object is seen and there is none."""

    field: int
    y: float
    x: float
    height: float


@dataclass(frozen=True)
class Batch:
    """What a step sees.

    Attributes
    ----------
    images : Tensor, (B, C, S, S)
    known : Tensor, (B, 1, S, S)
        1 where the points are told by what is seen, 0 near the borders where a crop cuts through its image.
    points : list of Tensor, (N, 2)
        Of each crop and class, crop by crop.
    """

    images: Tensor
    known: Tensor
    points: list[Tensor]


Crop = tuple[Tensor, npt.NDArray[np.float64], npt.NDArray[np.int64]]
"""An image (C, S, S), its points (N, 2) and their labels (N,)."""


def cut(field: Field, top: int, left: int, side: int) -> Crop:
    """A crop of `side` px; beyond the image the border pixels are repeated."""
    points = field.points - (top, left)
    inside = np.all((points >= -0.5) & (points < side - 0.5), axis=1)
    return cut_out(field.image, (top, left, top + side, left + side)), points[inside], field.labels[inside]


class Crops:
    """Draws the batches of a training run.

    "random" sampling takes crops anywhere, at least the share `positives` of them around a point, of each class
    as often, and of the others the share `hard` (unless told, a half where there are look-alikes) around one of the
    `alarms`, the higher ones more often; over the share `overlay` of those of fluorescence another one is laid. "grid"
    takes the paper's patches, side by side from the first pixel, empty ones too, in an order shuffled each epoch.
    """

    alarms: Sequence[Alarm] = ()

    def __init__(self, fields: Sequence[Field], config: Config, seed: int, classes: int = 1):
        self.fields, self.config, self.seed, self.classes = list(fields), config, seed, classes
        self.areas = np.array([f.image.shape[1] * f.image.shape[2] for f in self.fields], dtype=float)
        self.owners = np.repeat(np.arange(len(self.fields)), [len(f.points) for f in self.fields])
        self.points = np.concatenate([np.zeros((0, 2)), *(f.points for f in self.fields)])
        labels = np.concatenate([np.zeros(0, int), *(f.labels for f in self.fields)])
        self.members = [np.flatnonzero(labels == k) for k in range(classes) if np.any(labels == k)]
        marked = any(len(f.look_alikes) for f in self.fields)
        self.hard = config.hard if config.hard >= 0 else HARD if marked else 0.0
        side = config.patch
        self.grid = [
            (number, top, left)
            for number, f in enumerate(self.fields)
            for top in range(0, max(f.image.shape[1] - side, 0) + 1, side)
            for left in range(0, max(f.image.shape[2] - side, 0) + 1, side)
        ]

    @property
    def unseen(self) -> float:
        """Share of the images' area that the grid's whole patches leave out along the borders."""
        sides = np.array([self._sides(k) for k in range(len(self.fields))])
        whole = np.maximum(sides // self.config.patch, 1) * self.config.patch
        return 1 - float(np.minimum(whole, sides).prod(axis=1).sum() / self.areas.sum())

    def batch(self, step: int) -> Batch:
        """The crops of a step."""
        generator = np.random.default_rng([self.seed, step])
        if self.config.sampling == "grid":
            crops = [self.patch(k) for k in self.patches(step)]
            known = torch.ones(len(crops), 1, self.config.patch, self.config.patch)
        else:
            others = np.random.default_rng([self.seed, step, 2])
            crops = [self._overlaid(self._anywhere(generator), others) for _ in range(self.config.batch)]
            known = torch.stack([(image[-1:] > 0.5).float() for image, _, _ in crops])
            crops = [(image[:-1], inside, labels) for image, inside, labels in crops]
        images = [recoloured(image, self.config.jitter, generator) for image, _, _ in crops]
        points = [
            torch.from_numpy(p[labels == k]).float() for _, p, labels in crops for k in range(self.classes)
        ]
        return Batch(torch.stack(images), known, points)

    def patches(self, step: int) -> list[int]:
        """Which of the 4 * len(grid) turned patches a step sees; each once an epoch."""
        total, batch = 4 * len(self.grid), self.config.batch
        places = [divmod(number, total) for number in range(step * batch, (step + 1) * batch)]
        orders = {epoch: self._order(epoch) for epoch, _ in places}
        return [int(orders[epoch][place]) for epoch, place in places]

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng([self.seed, epoch, 1]).permutation(4 * len(self.grid))

    def patch(self, k: int) -> Crop:
        """Patch k // 4 of the grid after k % 4 quarter turns."""
        number, top, left = self.grid[k // 4]
        image, points, labels = cut(self.fields[number], top, left, self.config.patch)
        return *turned(image, points, k % 4, flip=False), labels

    def _anywhere(self, generator: np.random.Generator) -> Crop:
        side = self.config.patch
        if self.config.zoom > 1:
            side = round(side * self.config.zoom ** generator.uniform(-1, 1))
        if self.members and generator.random() < self.config.positives:
            members = self.members[generator.integers(len(self.members))]
            k = members[generator.integers(len(members))]
            owner = self.owners[k]
            corner = self.points[k] - generator.uniform(0.1, 0.9, 2) * side
        elif self.hard and self.alarms and generator.random() < self.hard:
            heights = np.array([alarm.height for alarm in self.alarms])
            alarm = self.alarms[generator.choice(len(heights), p=heights / heights.sum())]
            owner = alarm.field
            corner = np.array([alarm.y, alarm.x]) - generator.uniform(0.1, 0.9, 2) * side
        else:
            owner = generator.choice(len(self.fields), p=self.areas / self.areas.sum())
            corner = generator.uniform(0, np.maximum(self._sides(owner) - side, 0) + 1)
        # A crop ends where its image does, as tiles do in prediction.
        top, left = np.clip(np.floor(corner), 0, np.maximum(self._sides(owner) - side, 0)).astype(int)
        flip = bool(self.config.flips and generator.random() < 0.5)
        image, points, labels = cut(self.fields[owner], int(top), int(left), side)
        image = torch.cat([image, self._known(owner, int(top), int(left), side)])
        image = resized(image, self.config.patch)
        points = to_working(points, np.full(2, self.config.patch / side))
        return *turned(image, points, int(generator.integers(4)), flip), labels

    def _overlaid(self, crop: Crop, generator: np.random.Generator) -> Crop:
        """A crop as `_anywhere` gives it, by chance with another one over it if both are of fluorescence.

        Cells that overlap are rare and hard: here are more of them, and it is known where they lie.
        """
        image, points, labels = crop
        if generator.random() >= self.config.overlay or not is_dark(image[:-1]):
            return crop
        over, more_points, more_labels = self._anywhere(generator)
        if not is_dark(over[:-1]):
            return crop
        image = torch.cat([laid_over(image[:-1], over[:-1]), torch.minimum(image[-1:], over[-1:])])
        return image, np.concatenate([points, more_points]), np.concatenate([labels, more_labels])

    def _known(self, owner: int, top: int, left: int, side: int) -> Tensor:
        """1 in a crop (1, side, side), but for a margin along borders beyond which its image goes on.

        An object that the image's border cuts is marked where it is seen, one that the crop cuts where it would be
        seen as a whole: the network cannot tell which it is.
        """
        margin = round(self.config.margin * side / self.config.patch)
        H, W = self._sides(owner)
        known = torch.zeros(1, side, side)
        rows = slice(margin * (top > 0), side - margin * (top + side < H))
        columns = slice(margin * (left > 0), side - margin * (left + side < W))
        known[:, rows, columns] = 1
        return known

    def _sides(self, owner: int) -> npt.NDArray[np.int64]:
        return np.array(self.fields[owner].image.shape[1:])
