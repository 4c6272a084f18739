"""Hard negatives: where a network that is being trained sees objects on its own training images and there are none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pointsense.inference.decode import smoothed, to_pixels
from pointsense.inference.device import autocast
from pointsense.inference.off_grid import local_maxima
from pointsense.inference.tiles import Tile, tiles
from pointsense.learning.crops import Alarm, Field
from pointsense.model.config import Config
from pointsense.model.network import ALIGNMENT, ProjectionNetwork

BLUR = 1.0
"""Cells: mass that is spread wider than this is no object that it is sure of."""

LEAST = 0.05
"""Height of a smoothed peak from which on it is an alarm, in heights of a certain object."""

CORE, HALO = 1024, 128
"""Working px: of the tiles that are looked at; near their borders an alarm may be another than in prediction."""


@torch.no_grad()
def false_alarms(
    network: ProjectionNetwork, fields: Sequence[Field], config: Config, device: torch.device
) -> list[Alarm]:
    """Peaks of the mass maps, of any class, that lie farther than one and a half radii from all points.

    Parameters
    ----------
    network : ProjectionNetwork
        In evaluation mode.
    fields : sequence of Field
    config : Config
        With radius, scale and stride set.
    device : torch.device
    """
    reach = 1.5 * config.radius * config.scale
    certain = _certain(config)
    alarms: list[Alarm] = []
    for number, field in enumerate(fields):
        places, heights = _peaks(network, field.image, config, device, LEAST * certain)
        if len(field.points) and len(places):
            far = cKDTree(field.points).query(places)[0] > reach
            places, heights = places[far], heights[far]
        alarms += [
            Alarm(number, float(y), float(x), float(h)) for (y, x), h in zip(places, heights, strict=True)
        ]
    return alarms


def known_alarms(
    network: ProjectionNetwork, fields: Sequence[Field], config: Config, device: torch.device
) -> list[Alarm]:
    """What is marked as a look-alike, and the false alarms of a network; see `false_alarms`."""
    return [*look_alikes(fields, config), *false_alarms(network, fields, config, device)]


def look_alikes(fields: Sequence[Field], config: Config) -> list[Alarm]:
    """What the fields' annotators marked as no object, each as sure an alarm as there is."""
    return [
        Alarm(number, float(y), float(x), _certain(config))
        for number, field in enumerate(fields)
        for y, x in field.look_alikes
    ]


def _certain(config: Config) -> float:
    """Height of the smoothed peak of an object that the network is sure of."""
    return 1.0 if config.target == "heatmap" else 1 / (4 * np.pi * BLUR**2)


def _peaks(
    network: ProjectionNetwork, image: Tensor, config: Config, device: torch.device, floor: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Peaks (K, 2) in working px of an image (C, H, W), and their heights (K,)."""
    places, heights = [np.zeros((0, 2))], [np.zeros(0)]
    H, W = image.shape[1:]
    for tile in tiles(H, W, core=CORE, halo=HALO, step=ALIGNMENT, fill=ALIGNMENT):
        part = tile.read(image)[None].to(device, memory_format=torch.channels_last)
        with autocast(device, config.precision):
            maps = network.mass(part)[0]
        for mass in maps:
            peaks, values = _tile_peaks(mass, tile, config, floor)
            places.append(peaks)
            heights.append(values)
    found = np.concatenate(places)
    inside = (found[:, 0] < H) & (found[:, 1] < W)
    return found[inside], np.concatenate(heights)[inside]


def _tile_peaks(
    mass: Tensor, tile: Tile, config: Config, floor: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    surface = smoothed(mass, BLUR)
    cells = local_maxima(surface, floor)
    values = surface[cells[:, 0], cells[:, 1]].cpu().numpy().astype(float)
    points = to_pixels(cells.cpu().numpy().astype(float), config.stride) + tile.box[:2]
    owned = tile.owns(points)
    return points[owned], values[owned]
