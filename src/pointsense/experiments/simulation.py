"""Codes of random points, as if a network had predicted them with some error: what recovery alone gives and loses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointsense.encoding import FlattenedMap
from pointsense.errors import UsageError
from pointsense.evaluation import Case, Report, evaluate
from pointsense.inference.cluster import vote
from pointsense.inference.patches import decode_patches
from pointsense.model.config import Config
from pointsense.model.patch_code import PatchCode
from pointsense.recovery import lasso

APART = 2.5
"""Least distance of two points, in match radii."""

TRIES = 20

Patches = list[npt.NDArray[np.float64]]
"""Points (K, 2), (y, x), of each patch, in px of it."""


@dataclass(frozen=True)
class Setting:
    """How many patches of `side` px are drawn, with how many `points` each, matched within `radius` px."""

    patches: int
    points: int
    side: int
    radius: float
    seed: int = 0

    def draw(self) -> Patches:
        """The points, none nearer to another than `APART` radii."""
        generator = np.random.default_rng([self.seed, self.points, self.side])
        return [self._scattered(generator) for _ in range(self.patches)]

    def _scattered(self, generator: np.random.Generator) -> npt.NDArray[np.float64]:
        for _ in range(TRIES):
            points = np.zeros((0, 2))
            for place in generator.uniform(-0.5, self.side - 0.5, (100 * self.points, 2)):
                if np.all(np.linalg.norm(points - place, axis=1) >= APART * self.radius):
                    points = np.vstack([points, place])
                if len(points) == self.points:
                    return points
        raise UsageError(
            f"a patch of {self.side} px has no room for {self.points} points {APART * self.radius:g} px apart; "
            "ask for fewer, or larger patches"
        )

    def score(self, truth: Patches, found: Patches) -> Report:
        """One-to-one within the radius."""
        cases = [
            Case(str(number), None, points, detections)
            for number, (points, detections) in enumerate(zip(truth, found, strict=True))
        ]
        return evaluate(cases, self.radius)


def disturbed(codes: Tensor, noise: float, seed: int) -> Tensor:
    """Codes (..., m) with Gaussian noise of `noise` times their own length, each on its own."""
    generator = torch.Generator().manual_seed(seed)
    level = noise * codes.norm(dim=-1, keepdim=True) / codes.shape[-1] ** 0.5
    return codes + level * torch.randn(codes.shape, generator=generator, dtype=codes.dtype)


@torch.no_grad()
def exact_supports(config: Config, setting: Setting) -> float:
    """Share of axes on which those bins reach the amplitude threshold, and no others, that hold a point."""
    code = PatchCode(config)
    signal, codes = code.encode([torch.from_numpy(points) for points in setting.draw()])
    threshold = config.amplitude_threshold
    true, found = (values[:, :, 0].abs() >= threshold for values in (signal, code.recover(codes)))
    return float((found == true).all(dim=2).double().mean())


@torch.no_grad()
def through_axes(config: Config, setting: Setting, noise: float) -> Report:
    """What comes back of points through the codes of a configuration: recovery, candidates, mean shift."""
    truth, code = setting.draw(), PatchCode(config)
    _, codes = code.encode([torch.from_numpy(points) for points in truth])
    seen = decode_patches(code, disturbed(codes, noise, setting.seed), config)
    votes = vote(seen, config.bandwidth, config.minimum_votes, axes_count=config.axes)
    return setting.score(truth, _by_patch(votes.points, votes.patch, len(truth)))


@torch.no_grad()
def through_map(measurements: int, setting: Setting, noise: float, *, lam: float, threshold: float) -> Report:
    """What comes back of points through "scheme 1", a flattened map with so many measurements.

    Its entries are 1, not distances: `lam` and `threshold` are in that unit.
    """
    truth = setting.draw()
    scheme = FlattenedMap(setting.side, setting.side, measurements)
    signals = torch.stack([scheme.encode(torch.from_numpy(points))[0] for points in truth])
    codes = disturbed(scheme.measure(signals), noise, setting.seed)
    signal = scheme.recover(codes, lambda x, D: lasso(x, D, lam).code.to(x.dtype))
    seen = scheme.decode(signal, threshold=threshold)
    merged = vote(seen, setting.radius, axes_count=1)
    return setting.score(truth, _by_patch(merged.points, merged.patch, len(truth)))


def _by_patch(points: npt.NDArray[np.float64], patch: npt.NDArray[np.int64], patches: int) -> Patches:
    return [points[patch == number] for number in range(patches)]
