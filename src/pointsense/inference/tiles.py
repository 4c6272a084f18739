"""Tiles: each owns its core, and its halo covers all that can change what is found there."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointsense.inference.scaling import Box, cut_out
from pointsense.model.network import ProjectionNetwork

SEAM = 0.5
"""Working px around a core's border within which two tiles may both, or neither, claim a point."""


@dataclass(frozen=True)
class Tile:
    """A core and the part of the image that is needed to decide on it; in working px of the image.

    Attributes
    ----------
    core : Box
        What the tile owns.
    box : Box
        What is read. It ends where the image does, but for filling up to a multiple of `fill`: there, the border
        pixels are repeated.
    """

    core: Box
    box: Box

    def read(self, image: Tensor) -> Tensor:
        """The tile (C, h, w) of an image (C, H, W)."""
        return cut_out(image, self.box)

    def around(self, margin: int) -> Box:
        """The core and a margin around it, as far as the tile reaches."""
        low = (max(edge - margin, limit) for edge, limit in zip(self.core[:2], self.box[:2], strict=True))
        high = (min(edge + margin, limit) for edge, limit in zip(self.core[2:], self.box[2:], strict=True))
        return (*low, *high)  # type: ignore[return-value]

    def owns(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which points (K, 2) of the image lie in the core, or within the seam around it."""
        top, left, bottom, right = self.core
        low = np.array([top, left]) - 0.5 - SEAM
        high = np.array([bottom, right]) - 0.5 + SEAM
        return np.all((points >= low) & (points < high), axis=1)


def tiles(height: int, width: int, *, core: int, halo: int, step: int, fill: int = 1) -> Iterator[Tile]:
    """Tiles of an image, in reading order.

    Parameters
    ----------
    height, width : int
        Of the image.
    core : int
        Side of a core, rounded up to a multiple of `step`; longer at the image's borders, where it has no halo.
    halo : int
        Pixels needed around a core, rounded up likewise.
    step : int
        Tiles begin at multiples of this, so that the network's strides and the code's windows fall alike in
        each of them: what a tile finds does not depend on where the tiles are.
    fill : int
        Tiles end on multiples of this, beyond the image if need be.
    """
    core, halo = -(-core // step) * step, -(-halo // step) * step
    for (top, bottom), (first_row, last_row) in _spans(height, core, halo, fill):
        for (left, right), (first_column, last_column) in _spans(width, core, halo, fill):
            yield Tile((top, left, bottom, right), (first_row, first_column, last_row, last_column))


def _spans(length: int, core: int, halo: int, fill: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where cores begin and end in one direction, and what is read for them: never more than two halos and a core."""
    at, end = 0, -(-length // fill) * fill
    while at < length:
        first = max(at - halo, 0)
        last = min(first + core + 2 * halo, end)
        stop = length if last == end else last - halo
        yield (at, stop), (first, last)
        at = stop


def without_seam_doubles(
    points: npt.NDArray[np.float64], tile: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which points (K, 2) to keep, so that none is found by two tiles: one of each pair within two `SEAM`s."""
    keep = np.ones(len(points), dtype=bool)
    if len(points) < 2 or tile.min() == tile.max():
        return keep
    from scipy.spatial import cKDTree

    for first, second in cKDTree(points).query_pairs(2 * SEAM, output_type="ndarray"):
        if tile[first] != tile[second] and keep[first] and keep[second]:
            keep[max(first, second)] = False
    return keep


def receptive_radius(network: ProjectionNetwork, channels: int, step: int) -> int:
    """How far, in px, a pixel can change the mass map.

    One pixel is made NaN, which spreads through convolutions, pooling and interpolation as far as information
    does; the answer includes what lies between a cell and its pixels. Pixels that lie otherwise to the network's
    strides reach up to half a stride of the deepest features farther, with next to no weight.

    Raises
    ------
    ValueError
        If a pixel changes the whole map, as with squeeze-and-excitation.
    """
    # On the CPU, whatever the network runs on: some kernels of GPUs mix what a convolution does not.
    network = copy.deepcopy(network).cpu().eval()
    for side in (256, 512, 1024):
        side = -(-side // step) * step
        image = torch.zeros(1, channels, side, side)
        image[..., side // 2, side // 2] = torch.nan
        with torch.no_grad():
            mass = network.mass(image)
        # NaN also survives comparisons that a rectifier makes, so that each cell it reaches shows it.
        reached = mass[0, 0].isnan().nonzero().float()
        cell = side / mass.shape[-1]
        distance = (reached * cell + (cell - 1) / 2 - side // 2).abs().max().item()
        if distance < side / 2 - 2 * cell:
            return int(np.ceil(distance + cell))
    raise ValueError("a pixel changes the whole map")
