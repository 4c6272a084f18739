"""Density regression by a fully convolutional network: FCRN-A.

References
----------
Xie, Noble, Zisserman 2018, Microscopy cell counting and detection with fully convolutional regression networks,
Computer Methods in Biomechanics and Biomedical Engineering: Imaging & Visualization 6 (3).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from skimage.feature import peak_local_max
from torch import Tensor, nn
from torch.nn import functional as F

from pointsense.inference.views import turned, turned_back
from pointsense.learning.crops import read_checked
from pointsense.peers.descent import descend
from pointsense.peers.frame import Frame, FramedFinder
from pointsense.peers.problem import Found, Image, Problem, Trained, best_choice

SIGMA = 0.2
"""Width of a point's Gaussian, in diameters of an object: 2 px for cells of 10 px, as in the paper."""

MASS = 100.0
"""Integral of a point's Gaussian; the paper scales densities so, for the numbers to be of the order of one."""

FLOOR = 0.05
"""Least height of a candidate, in heights of a single Gaussian."""

DISTANCES = (0.5, 1.0, 1.5, 2.0, 3.0)
"""Least distances of two maxima, in widths of the Gaussian, among which the selection part chooses."""


class Fcrn(nn.Module):
    """Density of objects at the input's resolution; the convolutions see about 55 px.

    Each 3 x 3 convolution is followed by batch normalisation and a rectifier, as in the authors' later release.
    """

    stride = 8
    down, up = (32, 64, 128, 512), (128, 64, 32)

    def __init__(self, channels: int):
        super().__init__()
        widths = (channels, *self.down, *self.up)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            )
            for inputs, outputs in pairwise(widths)
        )
        self.density = nn.Conv2d(self.up[-1], 1, 1, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.orthogonal_(module.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W), sides multiples of 8, to densities (B, 1, H, W)."""
        x = self.blocks[0](image)
        for block in self.blocks[1 : len(self.down)]:
            x = block(F.max_pool2d(x, 2))
        for block in self.blocks[len(self.down) :]:
            x = block(F.interpolate(x, scale_factor=2.0, mode="bilinear"))
        return self.density(x)


def densities(points: Sequence[Tensor], side: int, sigma: float) -> Tensor:
    """Sums (B, 1, side, side) of Gaussians of integral `MASS` at the points (K_b, 2), (y, x) in px."""
    pixels = torch.arange(side, device=points[0].device)
    maps = []
    for centres in points:
        bells = torch.exp(-((pixels - centres[..., None]) ** 2) / (2 * sigma**2))  # (K, 2, side)
        with torch.autocast(bells.device.type, enabled=False):
            maps.append(bells[:, 0].T @ bells[:, 1])
    return height_of_one(sigma) * torch.stack(maps)[:, None]


def height_of_one(sigma: float) -> float:
    """Density at the centre of a lone object."""
    return MASS / (2 * np.pi * sigma**2)


class FcrnFinder(FramedFinder):
    """Maxima of the predicted density, and the count that is its integral.

    Attributes
    ----------
    sigma : float
        Width of a point's Gaussian, working px.
    views : int
        Rotations and flips whose densities are averaged.
    distance : float
        Least distance of two maxima, working px.
    """

    def __init__(self, frame: Frame, network: nn.Module, sigma: float, views: int, distance: float):
        super().__init__(frame)
        self.network, self.sigma, self.views, self.distance = network, sigma, views, distance

    @torch.no_grad()
    def map(self, image: Tensor) -> npt.NDArray[np.float32]:
        """Density (h, w) of a prepared image (C, h, w), in objects `MASS` times."""
        height, width = image.shape[1:]
        pad = (0, -width % Fcrn.stride, 0, -height % Fcrn.stride)
        padded = F.pad(image[None], pad, mode="replicate").to(next(self.network.parameters()).device)
        total = torch.zeros_like(padded[:, :1])
        for view in range(self.views):
            total += turned_back(self.network(turned(padded, view).contiguous()), view)
        return (total / self.views)[0, 0, :height, :width].cpu().numpy()

    def peaks(self, density: npt.NDArray[np.float32]) -> Found:
        """Maxima (K, 2) of a density (h, w), in px, and their heights in heights of a lone object."""
        one = height_of_one(self.sigma)
        cells = peak_local_max(
            density,
            min_distance=max(1, round(self.distance)),
            threshold_abs=FLOOR * one,
            exclude_border=False,
        )
        return cells + summit(density, cells, FLOOR * one / 10), density[tuple(cells.T)].astype(float) / one

    def find(self, image: Tensor) -> Found:
        return self.peaks(self.map(image))

    def count(self, image: Image) -> float:
        """Number of objects in an image (H, W, C)."""
        return float(self.map(self.frame.prepare(image)).sum(dtype=float) / MASS)


def summit(
    density: npt.NDArray[np.floating], cells: npt.NDArray[np.integer], least: float
) -> npt.NDArray[np.float64]:
    """From the maxima (K, 2) to the summits of the Gaussians through them and their neighbours, at most half a px.

    The logarithm of a Gaussian is a parabola, so that three values tell its vertex; on a border there is no telling.
    """
    logs = np.log(np.maximum(np.pad(density, 1, mode="edge").astype(float), least))
    offsets = np.zeros((len(cells), 2))
    for axis in (0, 1):
        step = np.eye(2, dtype=int)[axis]
        before, here, after = (logs[tuple((cells + 1 + k * step).T)] for k in (-1, 0, 1))
        bend = before - 2 * here + after
        inner = (cells[:, axis] > 0) & (cells[:, axis] < density.shape[axis] - 1) & (bend < 0)
        offsets[inner, axis] = ((before - after) / 2)[inner] / bend[inner]
    return np.clip(offsets, -0.5, 0.5)


def fit(problem: Problem) -> Trained:
    """Train FCRN-A on our crops for our number of steps; the selection part chooses weights and distance."""
    config = problem.config
    images, selected = read_checked(problem.fit), read_checked(problem.select)
    frame = Frame.of(problem, images)
    sigma = SIGMA * problem.working_box
    torch.manual_seed(problem.seed)
    network = Fcrn(frame.contract.channels)

    def loss_of(network: nn.Module, crops: Tensor, points: list[Tensor], known: Tensor) -> Tensor:
        return (known * (network(crops) - densities(points, crops.shape[-1], sigma)).square()).mean()

    def chosen(network: nn.Module, distances: Sequence[float]) -> tuple[float, float]:
        """The best merit on the selection part, and the distance of maxima (in widths) that gives it."""
        finder = FcrnFinder(frame, network, sigma, config.views, 0)
        maps = [finder.map(frame.prepare(image)) for image in selected]

        def found(distance: float) -> list[Found]:
            finder.distance = distance * sigma
            return [
                frame.in_image(finder.peaks(density), image.shape)
                for density, image in zip(maps, selected, strict=True)
            ]

        return best_choice(problem, distances, found)

    facts = descend(
        network,
        loss_of,
        lambda averaged: chosen(averaged, [1.0])[0],
        problem,
        frame.fields(problem.fit, images),
    )
    merit, distance = chosen(network, DISTANCES)
    finder = FcrnFinder(frame, network, sigma, config.views, distance * sigma)
    return Trained(
        finder, facts | {"selection_merit": merit, "sigma_working_px": sigma, "distance_in_sigma": distance}
    )
