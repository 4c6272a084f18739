"""From images to mass maps: brought to the model's contract and size, tile by tile, averaged over views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointsense.errors import UsageError, is_out_of_memory
from pointsense.images import InputContract
from pointsense.images.reading import pixels_of
from pointsense.inference.device import autocast, pick_precision
from pointsense.inference.scaling import rescaled
from pointsense.inference.tiles import Tile, receptive_radius, tiles
from pointsense.inference.views import brought_back, turned, turned_back
from pointsense.model.config import Config
from pointsense.model.fusion import fused
from pointsense.model.network import ALIGNMENT, Network, ProjectionNetwork
from pointsense.model.second_look import SecondLook

Networks = tuple[Network, SecondLook | None]
"""The network, and the second look where there is one."""

MARGIN = 2
"""Windows around a core: one to cover it whole, and one for what atoms outside of it do to those inside."""


@dataclass(frozen=True)
class TileMap:
    """The mass maps (K, H, W) of a tile and a margin around it; `origin` (y, x) is its first pixel in working px."""

    tile: Tile
    origin: tuple[int, int]
    mass: Tensor


@torch.no_grad()
def average_mass(network: ProjectionNetwork, image: Tensor, views: Sequence[int]) -> Tensor:
    """Mass maps (K, H / stride, W / stride) of an image (C, H, W): the mean over these views of it."""
    total = torch.zeros((), device=image.device)
    for view in views:
        seen = turned(image, view)[None].contiguous(memory_format=torch.channels_last)
        total = total + turned_back(network.mass(seen)[0], view)
    return total / len(views)


@dataclass
class MassMapper:
    """A network, with what it needs to give the mass maps of any image.

    Attributes
    ----------
    network : Network
    config : Config
        With scale, stride and bandwidth set.
    contract : InputContract
        What images must be, and how they are brought to it.
    device : torch.device
    look : SecondLook or None
        Judges the candidates again, where there is one.
    final : bool
        Whether the weights stay as they are, so that faster copies of the networks may run in their place; in half
        precision these round a little otherwise.
    """

    network: Network = field(repr=False)
    config: Config
    contract: InputContract
    device: torch.device = field(default=torch.device("cpu"), kw_only=True)
    look: SecondLook | None = field(default=None, repr=False, kw_only=True)
    final: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        for network in filter(None, (self.network, self.look)):
            network.to(self.device).eval()
        self._halo: int | None = None
        self._faster: tuple[Networks, Networks] | None = None

    @property
    def running(self) -> Networks:
        """The networks that predict: faster copies where the weights are final."""
        own = (self.network, self.look)
        if not self.final:
            return own
        if self._faster is None or self._faster[0] != own:
            side, drawn = self.config.patch, torch.Generator().manual_seed(0)
            patch = torch.rand(1, self.contract.channels, side, side, generator=drawn)
            crop = patch[..., : self.config.look, : self.config.look]
            self._faster = own, (fused(self.network, patch), self.look and fused(self.look, crop))
        return self._faster[1]

    @property
    def precision(self) -> str:
        """In which the networks compute, by Fabric's name."""
        return pick_precision(self.config.precision, self.device)

    @property
    def zoom(self) -> float:
        """How many times as large every second view shows the image."""
        return 1.0 if self.config.views == 1 else self.config.view_zoom

    @property
    def look_views(self) -> int:
        """Views of each candidate in the second look; 0 without one."""
        return (self.config.look_views or self.config.views) if self.look else 0

    @property
    def alignment(self) -> int:
        """Working px on whose multiples tiles end: what every view shows of them, the network divides evenly."""
        return ALIGNMENT if self.zoom.is_integer() else 2 * ALIGNMENT

    @property
    def step(self) -> int:
        """Working px on whose multiples tiles begin."""
        return math.lcm(self.alignment, self.config.hop * self.config.stride)

    @property
    def margin(self) -> int:
        """Working px around a core whose mass can change the points that are recovered in it."""
        return -(-MARGIN * self.config.window * self.config.stride // self.step) * self.step

    @property
    def halo(self) -> int:
        """Working px around a core that can change what is found in it."""
        if self._halo is None:
            assert isinstance(self.network, ProjectionNetwork)
            try:
                radius = receptive_radius(self.network, self.contract.channels, self.step)
            except ValueError:
                raise UsageError(
                    f"the backbone '{self.config.backbone}' looks at the whole image at once, so that tiles would "
                    "change its answer; choose one without squeeze-and-excitation or attention"
                ) from None
            except (RuntimeError, AssertionError) as error:  # timm asserts
                if is_out_of_memory(error):
                    raise
                raise UsageError(
                    f"the backbone '{self.config.backbone}' does not take images whose sides are multiples of "
                    f"{self.step} px ({error}); choose another, such as mobilenetv2_100"
                ) from error
            self._halo = radius + self.margin
        return self._halo

    def prepare(self, image: npt.NDArray[Any], name: str = "the image") -> Tensor:
        """The network's input (C, h, w), in working px, for an image (H, W) or (H, W, C)."""
        return rescaled(self.as_input(image, name), self.config.scale)

    def as_input(self, image: npt.NDArray[Any], name: str = "the image") -> Tensor:
        """An image (H, W) or (H, W, C) as (C, H, W), by the model's input contract."""
        return torch.from_numpy(self.contract.apply(pixels_of(image, name), name))

    def mass(self, image: Tensor, cells: tuple[int, int] | None = None) -> Tensor:
        """Mass maps (K, H / stride, W / stride) of a prepared image, or tile, (C, H, W), with none beyond `cells`."""
        network, _ = self.running
        assert isinstance(network, ProjectionNetwork)
        image, views, zoom = image.to(self.device), range(self.config.views), self.zoom
        with autocast(self.device, self.precision):
            mass = average_mass(network, image, views if zoom == 1 else views[::2])
            larger = None if zoom == 1 else average_mass(network, rescaled(image, zoom), views[1::2])
        rows, columns = np.minimum(cells or mass.shape[1:], mass.shape[1:]).tolist()
        mass[:, rows:], mass[:, :, columns:] = 0, 0
        if larger is not None:
            area = zoom**2 if self.config.target == "heatmap" else 1.0  # heights do not add up
            mass[:, :rows, :columns] += brought_back(larger, zoom, (rows, columns)) / area
            mass /= 2
        return mass

    def map(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (K, L * m, I, J) and mass maps (K, H / stride, W / stride) of a prepared image, or tile, (C, H, W)."""
        assert isinstance(self.network, ProjectionNetwork)
        mass = self.mass(image)
        return self.network.code.measure(mass[:, None]), mass

    def maps(self, image: Tensor, core: int = 1024) -> list[TileMap]:
        """Mass maps of the tiles of a prepared image (C, H, W), with a margin around each core."""
        (height, width), stride = image.shape[1:], self.config.stride
        halo = self.halo if max(height, width) > core else 0  # of one tile nothing lies around
        found = []
        for tile in tiles(height, width, core=core, halo=halo, step=self.step, fill=self.alignment):
            # No cell is centred on what the image was filled up with.
            cells = (-(-(height - tile.box[0]) // stride), -(-(width - tile.box[1]) // stride))
            mass = self.mass(tile.read(image), cells)
            top, left, bottom, right = tile.around(self.margin)
            bottom, right = (-(-end // stride) * stride for end in (bottom, right))
            rows = slice((top - tile.box[0]) // stride, (bottom - tile.box[0]) // stride)
            columns = slice((left - tile.box[1]) // stride, (right - tile.box[1]) // stride)
            found.append(TileMap(tile, (top, left), mass[:, rows, columns].contiguous()))
        return found
