"""Mass maps of whole images: tile by tile, averaged over views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pointsense.inference.tiles import Tile, tiles
from pointsense.model.network import ALIGNMENT, ProjectionNetwork


@dataclass(frozen=True)
class TileMap:
    """The mass maps (K, H, W) of a tile and a margin around it; `origin` (y, x) is its first pixel in working px."""

    tile: Tile
    origin: tuple[int, int]
    mass: Tensor


@torch.no_grad()
def average_mass(network: ProjectionNetwork, image: Tensor, views: int) -> Tensor:
    """Mass maps (K, H / stride, W / stride) of an image (1, C, H, W): the mean over so many turns and flips of it."""
    total = torch.zeros((), device=image.device)
    for view in range(views):
        turned = torch.rot90(image.flip(3) if view >= 4 else image, view % 4, (2, 3))
        mass = network.mass(turned.contiguous(memory_format=torch.channels_last))[0]
        mass = torch.rot90(mass, -(view % 4), (1, 2))
        total = total + (mass.flip(2) if view >= 4 else mass)
    return total / views


def map_tiles(
    image: Tensor,
    mass_of: Callable[[Tensor], Tensor],
    *,
    core: int,
    halo: int,
    margin: int,
    step: int,
    stride: int,
) -> list[TileMap]:
    """Mass maps of the tiles of an image (C, H, W), with a margin around each core.

    Parameters
    ----------
    image : Tensor, (C, H, W)
    mass_of : callable
        From a tile (C, h, w), whose sides are multiples of `ALIGNMENT`, to its mass maps (K, h / stride, w / stride),
        which are changed.
    core, halo, step : int
        See `tiles`.
    margin : int
        Px around a core that are kept.
    stride : int
        Px a cell of the mass maps.
    """
    height, width = image.shape[1:]
    found = []
    for tile in tiles(height, width, core=core, halo=halo, step=step, fill=ALIGNMENT):
        mass = mass_of(tile.read(image)[0])
        # No cell is centred on what the image was filled up with.
        mass[:, -(-(height - tile.box[0]) // stride) :] = 0
        mass[:, :, -(-(width - tile.box[1]) // stride) :] = 0
        top, left, bottom, right = tile.around(margin)
        bottom, right = (-(-end // stride) * stride for end in (bottom, right))
        rows = slice((top - tile.box[0]) // stride, (bottom - tile.box[0]) // stride)
        columns = slice((left - tile.box[1]) // stride, (right - tile.box[1]) // stride)
        found.append(TileMap(tile, (top, left), mass[:, rows, columns].contiguous()))
    return found
