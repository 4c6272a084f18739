"""The windowed projection code: mass measured along L axes in overlapping windows, without a distance channel.

On each axis of a window the mass is projected (a sample of the Radon transform) and compressed, x = D a. Several
axes together hold the positions, as in tomography; one fixed linear operator Phi maps a mass map to all codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointsense.encoding.axes import Arc, ObservationAxes
from pointsense.encoding.sensing import Kind, sensing_matrix


@dataclass(frozen=True)
class Footprint:
    """Points in the signals of the V windows that cover them.

    Attributes
    ----------
    index : Tensor, (K, V, L), int64
        Lower bin in the signals, flattened; the upper one follows.
    share : Tensor, (K, V, L)
        The upper bin's share.
    weight : Tensor, (K, V)
        The window's taper, 0 for windows beside the lattice.
    slope : Tensor, (K, V, 2)
        The taper's gradient.
    """

    index: Tensor
    share: Tensor
    weight: Tensor
    slope: Tensor


class ProjectionCode(nn.Module):
    """Codes x = Phi h of a mass map, or of points, on overlapping windows.

    Lengths are in cells of the mass map, positions (y, x) with the origin in the centre of the first cell. Window
    (i, j) begins at the cell hop * (i, j) - (window - hop). Windows are tapered by a cosine, so that the squared
    tapers sum to a constant; codes are scaled so that a unit of mass has the energy |x|^2 = 1 on average.

    Parameters
    ----------
    window, hop : int
        Side and distance of the windows; `window` is a multiple of `hop`.
    axes, measurements : int
        L and m; a window has L * m numbers.
    arc, sensing, sigma, seed
        As for `ObservationAxes` and `sensing_matrix`.
    """

    sensing_matrix: Tensor
    kernel: Tensor
    directions: Tensor

    def __init__(
        self,
        window: int,
        hop: int,
        axes: int,
        measurements: int,
        *,
        arc: Arc = "half",
        sensing: Kind = "fourier",
        sigma: float = 0.8,
        seed: int = 0,
    ):
        super().__init__()
        self.window, self.hop = window, hop
        geometry = ObservationAxes(window, window, axes, arc=arc)
        self.axes, self.bins, self.measurements = axes, geometry.bins, measurements
        D = sensing_matrix(measurements, self.bins, sensing, sigma=sigma, seed=seed)
        self.register_buffer("directions", geometry.directions.float(), persistent=False)
        self.register_buffer("sensing_matrix", D, persistent=False)
        D *= self.kernel_of().square().sum(0).mean().mul((window / hop) ** 2).rsqrt()
        self.register_buffer("kernel", self.kernel_of(), persistent=False)

    @property
    def numbers(self) -> int:
        """Numbers of a window's code, L * m."""
        return self.axes * self.measurements

    @property
    def margin(self) -> int:
        """Cells that the first and last windows reach beyond the map."""
        return self.window - self.hop

    def blurred(self, blur: float) -> Tensor:
        """D (m, n) for a unit of mass spread as a Gaussian of `blur` cells: its projection is one, too."""
        if blur == 0:
            return self.sensing_matrix
        bins = torch.arange(self.bins, device=self.sensing_matrix.device)
        spread = torch.exp(-0.5 * ((bins[:, None] - bins) / blur) ** 2)
        return self.sensing_matrix @ (spread / spread.sum(0))

    def kernel_of(self, blur: float = 0.0) -> Tensor:
        """Phi as a convolution kernel, (L * m, 1, window, window): the codes of single cells."""
        cells = torch.arange(self.window, device=self.directions.device) - (self.window - 1) / 2
        offset = torch.stack(torch.meshgrid(cells, cells, indexing="ij"), -1).reshape(-1, 2)
        signal = torch.zeros(len(offset), self.axes, self.bins, device=offset.device)
        low, share = self.bin_of(offset)
        signal.scatter_(2, low[..., None], (1 - share)[..., None])
        signal.scatter_(2, low[..., None] + 1, share[..., None])
        codes = signal @ self.blurred(blur).T * self.taper(offset)[0][:, None, None]
        return codes.flatten(1).T.reshape(self.numbers, 1, self.window, self.window).contiguous()

    def bin_of(self, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Lower bin and the upper bin's share, (..., L), of positions (..., 2) relative to a window's centre."""
        position = offset @ self.directions.T + (self.bins - 1) / 2
        low = position.floor().clamp(0, self.bins - 2)
        return low.long(), position - low

    def taper(self, offset: Tensor) -> tuple[Tensor, Tensor]:
        """The window's weight (...) at positions (..., 2) relative to its centre, and its gradient (..., 2)."""
        angle = offset * (math.pi / self.window)
        c, s = angle.cos(), angle.sin()
        inside = (offset.abs() <= self.window / 2).all(-1)
        weight = c.prod(-1) * inside
        slope = torch.stack([s[..., 0] * c[..., 1], c[..., 0] * s[..., 1]], -1) * (-math.pi / self.window)
        return weight, slope * inside[..., None]

    def lattice(self, height: int, width: int) -> tuple[int, int]:
        """Number of windows (I, J) over a mass map."""
        reach = self.margin // self.hop
        return -(-height // self.hop) + reach, -(-width // self.hop) + reach

    def footprint(self, points: Tensor, lattice: tuple[int, int]) -> Footprint:
        """Where points (K, 2) appear in the signals of the windows of a lattice (I, J)."""
        reach = self.window // self.hop
        last = ((points + self.margin + 0.5) / self.hop).floor().long()
        steps = torch.arange(reach, device=points.device)
        i = (last[:, 0, None, None] - steps[:, None]).expand(-1, reach, reach).flatten(1)
        j = (last[:, 1, None, None] - steps[None, :]).expand(-1, reach, reach).flatten(1)
        inside = (i >= 0) & (i < lattice[0]) & (j >= 0) & (j < lattice[1])
        window = torch.where(inside, i * lattice[1] + j, 0)
        centre = torch.stack([i, j], -1) * self.hop - self.margin + (self.window - 1) / 2
        offset = points[:, None] - centre
        low, share = self.bin_of(offset)
        weight, slope = self.taper(offset)
        axis = torch.arange(self.axes, device=points.device)
        index = (window[..., None] * self.axes + axis) * self.bins + low
        return Footprint(index, share, weight * inside, slope * inside[..., None])

    def signals(self, points: Tensor, masses: Tensor, lattice: tuple[int, int]) -> Tensor:
        """Tapered mass on each axis of each window, (I * J, L, n), of points (K, 2) with masses (K,)."""
        return self.signals_at(self.footprint(points, lattice), masses, lattice)

    def signals_at(self, at: Footprint, masses: Tensor, lattice: tuple[int, int]) -> Tensor:
        """The same for the footprint of points."""
        signal = torch.zeros(lattice[0] * lattice[1] * self.axes * self.bins, device=masses.device)
        scaled = (at.weight * masses[:, None])[..., None]
        signal.index_add_(0, at.index.flatten(), (scaled * (1 - at.share)).flatten())
        signal.index_add_(0, (at.index + 1).flatten(), (scaled * at.share).flatten())
        return signal.reshape(-1, self.axes, self.bins)

    def per_axis(self, codes: Tensor) -> Tensor:
        """Codes (B, L * m, I, J) as (B, I * J, L, m)."""
        return codes.unflatten(1, (self.axes, self.measurements)).flatten(3).permute(0, 3, 1, 2)

    def measure(self, mass: Tensor) -> Tensor:
        """Codes (B, L * m, I, J) of mass maps (B, 1, H, W)."""
        H, W = mass.shape[-2:]
        below, right = -H % self.hop + self.margin, -W % self.hop + self.margin
        return F.conv2d(F.pad(mass, (self.margin, right, self.margin, below)), self.kernel, stride=self.hop)

    def back_project(self, codes: Tensor, kernel: Tensor | None = None) -> Tensor:
        """Phi^T x: codes (B, L * m, I, J) to maps (B, 1, H, W), H and W multiples of the hop."""
        full = F.conv_transpose2d(codes, self.kernel if kernel is None else kernel, stride=self.hop)
        end = (full.shape[-2] - self.margin, full.shape[-1] - self.margin)
        return full[..., self.margin : end[0], self.margin : end[1]]


def splat(points: Tensor, image: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Mass maps of point sets: a unit of mass a point, shared bilinearly by the four nearest cells.

    Parameters
    ----------
    points : Tensor, (K, 2)
        (y, x) in cells.
    image : Tensor, (K,), int64
        Which of the B maps each point belongs to.
    shape : (B, H, W)

    Returns
    -------
    Tensor, (B, 1, H, W)
        What falls beside the map is lost.
    """
    mass = points.new_zeros(shape)
    low = points.floor()
    share = points - low
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (1 - dy - share[:, 0]).abs() * (1 - dx - share[:, 1]).abs()
            y, x = low[:, 0].long() + dy, low[:, 1].long() + dx
            inside = (y >= 0) & (y < shape[1]) & (x >= 0) & (x < shape[2])
            mass.index_put_((image[inside], y[inside], x[inside]), weight[inside], accumulate=True)
    return mass[:, None]
