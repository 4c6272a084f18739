"""From the network's output to points in working pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from pointsense.encoding import ProjectionCode
from pointsense.inference.finite import require_finite
from pointsense.inference.off_grid import Measure, local_maxima, read_codes, subcell
from pointsense.model.classes import Reading
from pointsense.model.config import Config

Array = npt.NDArray[Any]
Decoder = Literal["full", "codes", "maxima"]
DECODERS: tuple[Decoder, ...] = ("full", "codes", "maxima")

FLOOR = 0.1
"""Points that hold less than a tenth of a cell are not worth a line."""


@dataclass(frozen=True)
class Found:
    """Points with their evidence.

    Attributes
    ----------
    points : (K, 2)
        (y, x) in working px.
    scores : (K,)
        The mass that the codes support: about 1 for a certain cell.
    votes : (K,)
        Axes whose own codes hold at least half of the point's mass.
    spread : (K,)
        Root mean square distance by which the axes disagree on the position, in working px.
    """

    points: Array
    scores: Array
    votes: Array
    spread: Array

    def select(self, keep: Array) -> Found:
        """The points of a mask or of indices."""
        return Found(self.points[keep], self.scores[keep], self.votes[keep], self.spread[keep])

    @classmethod
    def concatenate(cls, parts: list[Found]) -> Found:
        """All points of the parts, in order."""
        if not parts:
            return cls(np.zeros((0, 2)), np.zeros(0), np.zeros(0, int), np.zeros(0))
        return cls(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("points", "scores", "votes", "spread")
            )
        )


def to_pixels(cells: Array, stride: int) -> Array:
    """Positions in cells of a mass map as positions in working px (both with the origin in the first centre)."""
    return (cells + 0.5) * stride - 0.5


def to_cells(pixels: Tensor, stride: int) -> Tensor:
    """The inverse of `to_pixels`."""
    return (pixels + 0.5) / stride - 0.5


def smoothed(mass: Tensor, blur: float) -> Tensor:
    """A map (H, W) convolved with a Gaussian of `blur` cells."""
    if blur == 0:
        return mass
    reach = int(np.ceil(3 * blur))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=mass.device) / blur) ** 2)
    taps = taps / taps.sum()
    maps = F.conv2d(mass[None, None], taps[None, None, :, None], padding=(reach, 0))
    maps = F.conv2d(maps, taps[None, None, None, :], padding=(0, reach))
    return maps[0, 0]


def measure_of(code: ProjectionCode, codes: Tensor, mass: Tensor | None, reading: Reading) -> Measure:
    """What window codes (L * m, I, J) say, with the maxima of the mass map (H, W) as a warm start if it is given."""
    start = None
    if mass is not None and not reading.matched:
        heights = smoothed(mass, min(reading.blur, 0.5))
        start = subcell(heights, local_maxima(heights, FLOOR / 2))
    return read_codes(code, codes, reading, start=start, floor=FLOOR)


def decode_windows(
    code: ProjectionCode,
    codes: Tensor,
    mass: Tensor | None,
    config: Config,
    reading: Reading,
    *,
    decoder: Decoder = "full",
) -> Found:
    """Points of one image from its window codes (L * m, I, J), with or without the help of the mass map (H, W).

    "codes" reads the points from the codes alone, "full" recovers them with the mass map's maxima as a warm start (a
    matched filter needs none), "maxima" takes the mass map's maxima as they are.
    """
    blur = reading.blur
    if decoder == "maxima" or config.target == "heatmap":
        assert mass is not None
        require_finite(mass)
        heights = smoothed(mass, blur)
        if config.target == "code":
            # The height of a spot of one cell's mass, as wide as its blur and the splatting make it.
            heights = heights * max(1.0, 4 * np.pi * blur**2)
        peaks = local_maxima(heights, FLOOR / 2)
        positions = subcell(heights, peaks).cpu().numpy().astype(float)
        scores = heights[peaks[:, 0], peaks[:, 1]].cpu().numpy().astype(float)
        votes = np.full(len(scores), config.axes if config.target == "code" else 1)
        return Found(to_pixels(positions, config.stride), scores, votes, np.zeros(len(scores)))

    measure = measure_of(code, codes, mass if decoder == "full" else None, reading)
    scores = measure.supported.cpu().numpy().astype(float)
    votes = (measure.axis_masses >= measure.masses[:, None] / 2).sum(1).cpu().numpy()
    # An axis sees one of the two coordinates: the mean square of its offsets is half of the distance's.
    offsets = measure.axis_offsets.clamp(-config.window / 4, config.window / 4)
    spread = (2 * offsets.square().mean(1)).sqrt().cpu().numpy().astype(float) * config.stride
    positions = measure.positions.cpu().numpy().astype(float)
    return Found(to_pixels(positions, config.stride), scores, votes, spread)
