"""What every peer is given and gives back, and how it is judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pointsense.datasets import Sample
from pointsense.evaluation import Case
from pointsense.images import read_image
from pointsense.learning.course import OnProgress
from pointsense.learning.merit import judged, settled
from pointsense.model.config import Config

Image = npt.NDArray[Any]
"""(H, W, C), as `read_image` gives it."""

Found = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Points (K, 2), (y, x) in px from the centre of the first pixel, and their scores (K,), higher is surer."""


@dataclass(frozen=True)
class Problem:
    """One set to learn from; the images that results are reported on are not in it.

    Attributes
    ----------
    fit : list of Sample
        Images to learn from.
    select : list of Sample
        Images for stopping and for choosing settings.
    radius : float
        Match radius, image px.
    config : Config
        Fitted to the radius: working px an image px (`scale`), crops, batch, steps, learning rates, augmentation,
        the file of a backbone's weights. What describes our own network is of no account here.
    run : Path
        Folder for files of the training.
    seed : int
    minutes : float
        Limit of the training.
    box : float
        Diameter of an object, image px.
    device : str
        auto, cpu, cuda, cuda:N or mps.
    report : callable, optional
        Given a `Progress` about once a second.
    """

    fit: list[Sample]
    select: list[Sample]
    radius: float
    config: Config
    run: Path
    seed: int
    minutes: float
    box: float
    device: str = "auto"
    report: OnProgress | None = None

    @property
    def working_box(self) -> float:
        """Diameter of an object, working px."""
        return self.box * self.config.scale


class Finder(Protocol):
    """What has been trained."""

    def candidates(self, image: Image) -> Found:
        """All points of an image that are worth ranking, in image px; the threshold is the harness's to choose."""
        ...


@runtime_checkable
class BatchFinder(Protocol):
    """A finder for which many images at once cost less than one after the other."""

    def candidates_of(self, images: Sequence[Image]) -> list[Found]:
        """The candidates of each image."""
        ...


@dataclass
class Trained:
    """A finder, and what is to be said of its training: JSON values such as steps, seconds, parameters, settings."""

    finder: Finder
    facts: dict[str, Any] = field(default_factory=dict)


Peer = Callable[[Problem], Trained]


def candidates_of(finder: Finder, images: Sequence[Image]) -> list[Found]:
    """The candidates of each image, at once where the finder can."""
    if isinstance(finder, BatchFinder):
        return finder.candidates_of(images)
    return [finder.candidates(image) for image in images]


def as_cases(samples: Sequence[Sample], found: Iterable[Found]) -> list[Case]:
    """Samples with their candidates, to be scored."""
    return [
        Case(sample.name, sample.group, sample.points, points, scores)
        for sample, (points, scores) in zip(samples, found, strict=True)
    ]


def merit_of(samples: Sequence[Sample], found: Iterable[Found], radius: float) -> float:
    """Merit of the candidates of `samples`, by which settings are chosen, as our own readings are."""
    return judged(as_cases(samples, found), radius).merit


def best_choice(
    problem: Problem, values: Iterable[float], found_with: Callable[[float], Iterable[Found]]
) -> tuple[float, float]:
    """The best merit on the selection part that a setting gives, and its value; of equals the largest."""
    return max((merit_of(problem.select, found_with(value), problem.radius), value) for value in values)


@dataclass(frozen=True)
class Candidates:
    """All that a finder saw on the selection part, and on the images that results are reported on.

    Attributes
    ----------
    selected, found : list of (points, scores)
        Of each image.
    seconds : float
        An image of those reported on.
    """

    selected: list[Found]
    found: list[Found]
    seconds: float


def all_candidates(finder: Finder, problem: Problem, samples: Sequence[Sample]) -> Candidates:
    """What a finder sees on its selection part and on samples."""
    selected = candidates_of(finder, [read_image(sample.path) for sample in problem.select])
    images = [read_image(sample.path) for sample in samples]
    begin = time.perf_counter()
    found = candidates_of(finder, images)
    return Candidates(selected, found, (time.perf_counter() - begin) / len(samples))


@dataclass(frozen=True)
class Judged:
    """What a finder found.

    Attributes
    ----------
    found : list of (points, scores)
        What reaches the threshold, of each image.
    threshold, selection_f1 : float
        Chosen on the selection part, and the F1 there.
    """

    found: list[Found]
    threshold: float
    selection_f1: float


def judge(seen: Candidates, select: Sequence[Sample], radius: float, protocol: str) -> Judged:
    """What is found at the threshold that our own models' rule chooses on the selection part."""
    choice = settled(as_cases(select, seen.selected), radius, protocol)
    sure = [
        (points[scores >= choice.threshold], scores[scores >= choice.threshold])
        for points, scores in seen.found
    ]
    return Judged(sure, choice.threshold, choice.f1)
