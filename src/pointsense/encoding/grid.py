"""The predecessors' "scheme 1": the annotation map as one long sparse vector, measured at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pointsense.encoding.decode import Candidates
from pointsense.encoding.sensing import gaussian_columns
from pointsense.errors import DataError, UsageError

BLOCK = 1024
"""Columns of D that are drawn together, each block from its own seed."""

KEPT_ENTRIES = 2**24
"""A matrix of up to this many entries (64 MiB in float32) is drawn once and kept."""

LARGEST_MATRIX = 2**28
"""Entries (1 GiB in float32) above which `FlattenedMap.matrix` refuses."""


@dataclass(frozen=True)
class FlattenedMap:
    """Encoding of the predecessors (2017/18): f, the flattened h x w map of points, and x = D f.

    D is (m, h w), iid N(0, 1/m), drawn block by block from the seed, so that measuring needs no matrix as
    large as D; nothing of the size (h w) x (h w) is ever made.

    Parameters
    ----------
    height, width : int
        Patch size in px.
    measurements : int
        m.
    seed : int

    Raises
    ------
    UsageError
        If a size is not positive.
    """

    height: int
    width: int
    measurements: int
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.measurements) < 1:
            raise UsageError(
                "a flattened map needs a patch of at least 1 x 1 px and 1 measurement, found "
                f"{self.height} x {self.width} px and {self.measurements}"
            )

    @property
    def bins(self) -> int:
        """n = h w."""
        return self.height * self.width

    def encode(self, points: Tensor) -> tuple[Tensor, int]:
        """The map of the points, and how many fell on a pixel that another had taken.

        Parameters
        ----------
        points : Tensor or array, shape (K, 2)
            (y, x) in px of the patch.

        Returns
        -------
        signal : Tensor, shape (h w,), float32
            1 at the pixels of points, else 0.
        collisions : int

        Raises
        ------
        DataError
            If a point lies outside the patch.
        """
        points = torch.as_tensor(points, dtype=torch.float64).reshape(-1, 2)
        ends = torch.tensor([self.height, self.width]) - 0.5
        inside = ((points >= -0.5) & (points <= ends)).all(dim=1)
        if not inside.all():
            y, x = points[~inside][0].tolist()
            raise DataError(
                f"the point (y={y:g}, x={x:g}) is not in the patch of {self.height} x {self.width} px; "
                "give points relative to the patch's first pixel and leave out those of its neighbours"
            )
        row, column = torch.minimum((points + 0.5).floor(), ends - 0.5).unbind(dim=1)
        signal = torch.zeros(self.bins)
        signal[(row * self.width + column).long()] = 1
        return signal, len(points) - int(signal.sum())

    def measure(self, signal: Tensor) -> Tensor:
        """x = D f, shape (..., h w) to (..., m); only the blocks of D that meet a point are drawn."""
        x = signal.new_zeros(*signal.shape[:-1], self.measurements)
        for start in range(0, self.bins, BLOCK):
            part = signal[..., start : start + BLOCK]
            if part.any():
                x += part @ self._block(start).to(signal).T
        return x

    def correlate(self, x: Tensor) -> Tensor:
        """D^T x, shape (..., m) to (..., h w), block by block."""
        return torch.cat([x @ block.to(x) for block in self._blocks()], dim=-1)

    def matrix(self) -> Tensor:
        """D itself, shape (m, h w), float32.

        Raises
        ------
        UsageError
            If it would take more than 1 GiB.
        """
        entries = self.measurements * self.bins
        if entries > LARGEST_MATRIX:
            raise UsageError(
                f"the sensing matrix of a flattened {self.height} x {self.width} map with "
                f"{self.measurements} measurements takes {entries / 2**28:.1f} GiB, at most 1 is allowed; "
                "use smaller patches, fewer measurements or observation axes"
            )
        return self._kept if entries <= KEPT_ENTRIES else self._assemble()

    def recover(self, x: Tensor, solver: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The sparse map behind measurements, by any solver of x = D f.

        Parameters
        ----------
        x : Tensor, shape (..., m)
        solver : callable
            Takes x and D (m, h w), returns f (..., h w); for instance a lasso.

        Returns
        -------
        Tensor, shape (..., h w)
        """
        return solver(x, self.matrix().to(x))

    def decode(self, signal: Tensor, *, threshold: float = 0.5) -> Candidates:
        """Pixels whose amplitude reaches the threshold.

        Parameters
        ----------
        signal : Tensor, shape (B, h w)
        threshold : float
            Share of a point's amplitude, 1.

        Returns
        -------
        Candidates
            The weight is the amplitude; the axis is 0, as the map is one view of the patch.

        Raises
        ------
        UsageError
            If the signal has another shape.
        """
        if signal.ndim != 2 or signal.shape[1] != self.bins:
            raise UsageError(
                f"flattened maps must have the shape (B, {self.bins}), found {tuple(signal.shape)}"
            )
        found = (signal >= threshold) & (signal != 0)
        patch, index = found.nonzero(as_tuple=True)
        points = torch.stack([index // self.width, index % self.width], dim=1).double()
        return Candidates(points, torch.zeros_like(patch), patch, signal[found].double())

    def _block(self, start: int) -> Tensor:
        """Columns start to start + BLOCK of D, float32."""
        if self.measurements * self.bins <= KEPT_ENTRIES:
            return self._kept[:, start : start + BLOCK]
        return self._draw(start)

    def _blocks(self) -> Iterator[Tensor]:
        return (self._block(start) for start in range(0, self.bins, BLOCK))

    def _draw(self, start: int) -> Tensor:
        generator = torch.Generator().manual_seed((self.seed << 24) + start // BLOCK)
        return gaussian_columns(self.measurements, min(BLOCK, self.bins - start), generator).float()

    def _assemble(self) -> Tensor:
        D = torch.empty(self.measurements, self.bins)
        for start in range(0, self.bins, BLOCK):
            D[:, start : start + BLOCK] = self._draw(start)
        return D

    @cached_property
    def _kept(self) -> Tensor:
        return self._assemble()
