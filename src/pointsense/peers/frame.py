"""Between image px and working px, by the same steps as our own detector's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointsense.datasets import Sample
from pointsense.images import InputContract
from pointsense.inference.scaling import factors, rescaled, to_image, to_working
from pointsense.learning.crops import Field, fields_of
from pointsense.peers.problem import Found, Image, Problem


@dataclass(frozen=True)
class Frame:
    """Levels and resolution of what a peer sees.

    Attributes
    ----------
    contract : InputContract
        Levels and channels of the images to learn from.
    scale : float
        Working px an image px.
    """

    contract: InputContract
    scale: float

    @classmethod
    def of(cls, problem: Problem, images: Sequence[Image]) -> Frame:
        """The frame that the images to learn from, those of `problem.fit`, imply."""
        points = [sample.points for sample in problem.fit]
        contract = InputContract.from_images(images, points, stains=problem.config.stains)
        return cls(contract, problem.config.scale)

    def prepare(self, image: Image, name: str = "the image") -> Tensor:
        """An image (H, W, C) as float32 (C, h, w) in working px, black 0 and white 1."""
        return rescaled(torch.from_numpy(self.contract.apply(image, name)), self.scale)

    def working_points(self, sample: Sample, image: Image) -> npt.NDArray[np.float64]:
        """The points (K, 2) of a sample in working px."""
        return to_working(sample.points, factors(image.shape, self.scale))

    def to_image(self, points: npt.NDArray[np.float64], shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Points (K, 2) in working px as points in px of the image of `shape` (H, W, ...), moved inside."""
        inside = np.array(shape[:2]) - 0.5
        return np.clip(to_image(points.reshape(-1, 2), factors(shape, self.scale)), -0.5, inside)

    def in_image(self, found: Found, shape: tuple[int, ...]) -> Found:
        """Candidates in working px as candidates in px of the image of `shape` (H, W, ...), see `to_image`."""
        points, scores = found
        return self.to_image(points, shape), scores

    def fields(self, samples: Sequence[Sample], images: Sequence[Image]) -> list[Field]:
        """What `Crops` draws from."""
        return fields_of(samples, images, self.contract, self.scale, [""])


class FramedFinder:
    """A finder that looks at working px: a peer has to say only what it finds there."""

    def __init__(self, frame: Frame):
        self.frame = frame

    def find(self, image: Tensor) -> Found:
        """Candidates of a prepared image (C, h, w), in working px."""
        raise NotImplementedError

    def candidates(self, image: Image) -> Found:
        """Candidates of an image (H, W, C), in image px."""
        return self.frame.in_image(self.find(self.frame.prepare(image)), image.shape)
