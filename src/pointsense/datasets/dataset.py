"""What every layout becomes: samples (an image file and its points) in a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointsense.errors import DataError, UsageError

SPLITS = ("train", "val", "test")

LOOK_ALIKE = "look-alike"
"""Name of the class of what is no object, but looks like one."""


@dataclass(frozen=True, eq=False)
class Sample:
    """An image and its points.

    Attributes
    ----------
    name : str
        The image's path inside the data set, with `/` on every system; unique.
    path : Path
        Where the file is.
    points : (K, 2) float64
        (y, x) in pixels; the origin is the centre of the first pixel.
    classes : tuple of K str
        Class names; "" where the table has none.
    group : str
        Patient, slide or field; the name where no groups are known.
    split : str
        "train", "val", "test", or "" for an image that the split leaves out.
    look_alikes : (M, 2) float64
        (y, x) of what is no object, but was marked as looking like one.
    """

    name: str
    path: Path
    points: npt.NDArray[np.float64]
    classes: tuple[str, ...]
    group: str
    split: str = "train"
    look_alikes: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))

    def with_look_alikes_apart(self) -> Sample:
        """The sample with its points of the class `LOOK_ALIKE` as what they are: no objects."""
        other = np.array([name == LOOK_ALIKE for name in self.classes], dtype=bool)
        if not other.any():
            return self
        classes = tuple(name for name in self.classes if name != LOOK_ALIKE)
        return replace(self, points=self.points[~other], classes=classes, look_alikes=self.points[other])

    def labels(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """The place (K,) of each point's class among `names`, -1 where it is none of them; 0 for a single name.

        Of one class all points are, whatever they are called: who wants some of them takes `Dataset.only`.
        """
        if len(names) == 1:
            return np.zeros(len(self.points), dtype=np.int64)
        place = {name: k for k, name in enumerate(names)}
        return np.array([place.get(name, -1) for name in self.classes], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples, sorted by name, with what is known about their scale.

    Attributes
    ----------
    root : Path
    samples : tuple of Sample
    radius_px : dict of str to float
        Match radius in pixels for each class ("" for points without a class); empty where unknown.
    um_per_px : float or None
        Pixel size in micrometres.
    smallest_radius_px : float or None
        Radius of the smallest object where regions or boxes are annotated: the paper's rho.
    """

    root: Path
    samples: tuple[Sample, ...]
    radius_px: dict[str, float]
    um_per_px: float | None = None
    smallest_radius_px: float | None = None

    @property
    def train(self) -> list[Sample]:
        """The samples to learn and choose from."""
        return self.split("train")

    def to_learn_from(self) -> list[Sample]:
        """The `train` samples.

        Raises
        ------
        DataError
            If there are none.
        """
        if samples := self.train:
            return samples
        raise DataError(f"{self.root} has no training image; expected rows with the split 'train'")

    @property
    def val(self) -> list[Sample]:
        """The samples to report on, opened by nothing else but checks."""
        return self.split("val")

    def split(self, name: str) -> list[Sample]:
        """The samples of the split `name`, in order."""
        return [sample for sample in self.samples if sample.split == name]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names that occur, sorted; without the empty one."""
        return tuple(sorted({name for sample in self.samples for name in sample.classes} - {""}))

    @property
    def has_groups(self) -> bool:
        """Whether any group holds more than its own image by name."""
        return any(sample.group != sample.name for sample in self.samples)

    def only(self, class_name: str) -> Dataset:
        """The same images with the points of one class.

        Raises
        ------
        UsageError
            If no point is of that class; the message lists those that are.
        """
        if class_name not in self.class_names:
            known = ", ".join(self.class_names) or "none (the points have no class column)"
            raise UsageError(f"no point of the class '{class_name}' in {self.root}; its classes are: {known}")
        samples = []
        for sample in self.samples:
            kept = np.array([name == class_name for name in sample.classes], dtype=bool)
            classes = (class_name,) * int(kept.sum())
            samples.append(replace(sample, points=sample.points[kept], classes=classes))
        radius_px = {name: radius for name, radius in self.radius_px.items() if name == class_name}
        return replace(self, samples=tuple(samples), radius_px=radius_px)


@dataclass
class DatasetReading:
    """A data set as far as it could be read: with what is wrong (`problems`) and what is odd (`notes`)."""

    dataset: Dataset
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def sound(self, more: str = "") -> Dataset:
        """The data set.

        Raises
        ------
        DataError
            For the first problem, with the number of the others, and `more` on them.
        """
        if self.problems:
            others = len(self.problems) - 1
            raise DataError(self.problems[0] + f" (and {others} more{more})" * (others > 0))
        return self.dataset


def first_few(names: Sequence[str]) -> str:
    """The first three names, and a sign that there are more."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def points_inside(points: npt.NDArray[Any], shape: tuple[float, ...]) -> npt.NDArray[np.bool_]:
    """Which of the (K, 2) yx points lie on an image of `shape` (H, W, ...), borders of pixels included."""
    low, high = -0.5, np.array(shape[:2]) - 0.5
    return np.all((points >= low) & (points <= high), axis=1)


def check_points_inside(sample: Sample, shape: tuple[int, ...]) -> None:
    """Fail where a point of `sample` lies outside its image of `shape` (H, W, ...).

    Raises
    ------
    DataError
        Naming the image, its size and the first such point.
    """
    places = np.concatenate([sample.points, sample.look_alikes])
    outside = places[~points_inside(places, shape)]
    if not len(outside):
        return
    count = "a point" if len(outside) == 1 else f"{len(outside)} points"
    swapped = points_inside(outside[:, ::-1], shape).all()
    raise DataError(
        f"{sample.name} ({shape[0]} rows x {shape[1]} columns) has {count} outside: "
        f"(y, x) = ({outside[0, 0]:g}, {outside[0, 1]:g}); "
        + (
            "inside with y and x exchanged: look at the columns' order"
            if swapped
            else "correct or delete them"
        )
    )
