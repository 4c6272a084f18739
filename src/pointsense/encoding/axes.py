"""Points to sparse signals on observation axes: encoding by random projections (section 3.1 of the paper)."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, pad

from pointsense.encoding.sensing import CapacityWarning, capacity
from pointsense.errors import DataError, UsageError

Arc = Literal["full", "half"]
Channels = Literal["distance", "mass"]


@dataclass(frozen=True)
class Encoding:
    """The sparse signals of one point set.

    Attributes
    ----------
    signal : Tensor, shape (L, C, n)
        One sparse signal a_l for each axis; C is 1 for "distance", 2 for "mass".
    collisions : int
        Point-axis pairs whose bin a later point (in the order given) shares; "distance" loses them.
    lost : int
        Points that no axis shows on their own, so that decoding cannot return them one by one.
    """

    signal: Tensor
    collisions: int
    lost: int


@dataclass(frozen=True)
class ObservationAxes:
    """L directed lines around an h x w patch, on which points are seen as (position, signed distance).

    With the patch's centre c = ((h-1)/2, (w-1)/2) and R = ceil(hypot(h, w)/2), axis l has, in (y, x),

    - the inward unit normal ``n_l = (sin t, cos t)`` at the angle t = 2 pi l/L (pi l/L on a half arc),
    - the unit direction ``t_l = (cos t, -sin t)``,
    - the foot ``o_l = c - (R + offset) n_l``, the middle of its n = 2R+1 bins of one pixel.

    A point p lies at the position (p - o_l).t_l + R, in bins, and the distance (p - o_l).n_l, in px.
    One axis alone therefore gives back the whole point: p = o_l + (position - R) t_l + distance n_l.

    Parameters
    ----------
    height, width : int
        Patch size h, w in px.
    count : int
        Number of axes, L.
    arc : {"full", "half"}
        "full" is the paper's; "half" is for pure projections, where an axis and its opposite agree.
    offset : float
        Moves the axes outwards, in px. The paper's 0 makes them tangents of the circumscribed circle, so
        that points near a corner have distances below the amplitude threshold on a few axes.

    Raises
    ------
    UsageError
        If a size or the count is not positive, the offset negative or the arc unknown.
    """

    height: int
    width: int
    count: int
    arc: Arc = "full"
    offset: float = 0.0

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise UsageError(f"a patch needs at least 1 x 1 px, found {self.height} x {self.width}")
        if self.count < 1:
            raise UsageError(f"at least 1 observation axis is needed, found {self.count}")
        if self.arc not in ("full", "half"):
            raise UsageError(f"unknown arc {self.arc!r} of the axes; use 'full' or 'half'")
        if not self.offset >= 0:
            raise UsageError(f"the offset moves axes outwards and cannot be negative, found {self.offset}")

    @property
    def half_length(self) -> int:
        """R, in px."""
        return math.ceil(math.hypot(self.height, self.width) / 2)

    @property
    def bins(self) -> int:
        """n = 2R + 1."""
        return 2 * self.half_length + 1

    @cached_property
    def centre(self) -> Tensor:
        """c, shape (2,), float64."""
        return torch.tensor([(self.height - 1) / 2, (self.width - 1) / 2], dtype=torch.float64)

    @cached_property
    def angles(self) -> Tensor:
        """The normals' angles from the x axis towards y, shape (L,), float64."""
        turn = 2 * math.pi if self.arc == "full" else math.pi
        return torch.arange(self.count, dtype=torch.float64) * (turn / self.count)

    @cached_property
    def normals(self) -> Tensor:
        """n_l, pointing into the patch, shape (L, 2), float64."""
        return torch.stack([self.angles.sin(), self.angles.cos()], dim=1)

    @cached_property
    def directions(self) -> Tensor:
        """t_l, shape (L, 2), float64."""
        return torch.stack([self.angles.cos(), -self.angles.sin()], dim=1)

    @cached_property
    def feet(self) -> Tensor:
        """o_l, shape (L, 2), float64."""
        return self.centre - (self.half_length + self.offset) * self.normals

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Positions along the axes and signed distances to them.

        Parameters
        ----------
        points : Tensor or array, shape (K, 2)
            (y, x) in px.

        Returns
        -------
        position, distance : Tensor, shape (K, L), float64
            Position in bins, 0 to n-1 for points of the patch; distance in px, 0 to 2R plus the offset.
        """
        points = torch.as_tensor(points, dtype=torch.float64)
        relative = points.reshape(-1, 2) - self.centre.to(points.device)
        position = relative @ self.directions.T.to(points.device) + self.half_length
        distance = relative @ self.normals.T.to(points.device) + (self.half_length + self.offset)
        return position, distance

    def candidate(self, axis: Tensor, index: Tensor, value: Tensor) -> Tensor:
        """The point that an axis alone sees: o_l + (index - R) t_l + value n_l.

        Parameters
        ----------
        axis, index, value : Tensor, shape (V,)
            Axis l, position in bins (whole or not) and signed distance in px.

        Returns
        -------
        Tensor, shape (V, 2), float64
        """
        axis = torch.as_tensor(axis)
        along = torch.as_tensor(index, dtype=torch.float64) - self.half_length
        across = torch.as_tensor(value, dtype=torch.float64)
        feet, directions, normals = (
            frame.to(axis.device)[axis] for frame in (self.feet, self.directions, self.normals)
        )
        return feet + along[..., None] * directions + across[..., None] * normals

    def encode(
        self,
        points: Tensor,
        channels: Channels = "distance",
        *,
        interpolate: bool = False,
        measurements: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Encoding:
        """Sparse signals of a point set.

        Parameters
        ----------
        points : Tensor or array, shape (K, 2)
            (y, x) in px, in the patch: -0.5 to h-0.5 and -0.5 to w-0.5.
        channels : {"distance", "mass"}
            "distance" (the paper): the bin nearest to a point's position holds its distance; of points
            that share a bin the last stays. "mass": one channel of mass and one of mass x distance, the
            mass of a point being 1; points that share a bin add up.
        interpolate : bool
            Split the mass linearly over the two bins around the position ("mass" only).
        measurements : int, optional
            m: if given, warn where an axis holds more entries than m numbers can bring back.
        dtype : torch.dtype

        Returns
        -------
        Encoding

        Raises
        ------
        DataError
            If the points are not (K, 2) or one lies outside the patch.
        UsageError
            If the channels are unknown, or interpolation is asked for distances.

        Warns
        -----
        CapacityWarning
            If an axis holds more than `capacity(m, n)` entries, or points coincide on every axis.
        """
        if channels not in ("distance", "mass"):
            raise UsageError(f"unknown channels {channels!r} of the code; use 'distance' or 'mass'")
        if interpolate and channels == "distance":
            raise UsageError("distances cannot be split over two bins; interpolate needs channels='mass'")
        position, distance = self.project(self._inside(points))
        position, distance = position.T, distance.T  # (L, K)
        nearest = (position + 0.5).floor().long()
        occupancy = torch.zeros(self.count, self.bins).to(position)
        occupancy.scatter_add_(1, nearest, torch.ones_like(position))
        collisions = int((occupancy - 1).clamp(min=0).sum())

        if channels == "distance":
            shown = self._last(nearest)
            # One point a bin is shown, so that adding is setting, in an order that does not matter.
            signal = torch.zeros_like(occupancy).scatter_add_(1, nearest, distance * shown)
            signal = signal[:, None]
        else:
            signal, reach = self._mass(position, distance, nearest, interpolate)
            shown = _neighbours(occupancy, reach).gather(1, nearest) == 1
        lost = int((~shown.any(dim=0)).sum())
        self._warn(lost, int((signal[:, 0] != 0).sum(dim=1).max()), measurements)
        return Encoding(signal.to(dtype), collisions, lost)

    def _inside(self, points: Tensor) -> Tensor:
        points = torch.as_tensor(points, dtype=torch.float64)
        if points.numel() == 0:
            return points.reshape(0, 2)
        if points.ndim != 2 or points.shape[1] != 2:
            raise DataError(f"points must have the shape (K, 2), y and x, found {tuple(points.shape)}")
        far = (points - self.centre.to(points.device)).abs() * 2
        inside = (far <= torch.tensor([self.height, self.width], device=far.device)).all(dim=1)
        if not inside.all():
            y, x = points[~inside][0].tolist()
            raise DataError(
                f"the point (y={y:g}, x={x:g}) is not in the patch of {self.height} x {self.width} px; "
                "give points relative to the patch's first pixel and leave out those of its neighbours"
            )
        return points

    def _last(self, nearest: Tensor) -> Tensor:
        """Whether a point is the last of its bin, shape (L, K)."""
        order = torch.arange(nearest.shape[1], device=nearest.device).expand_as(nearest)
        last = torch.full((self.count, self.bins), -1, device=nearest.device)
        # scatter_ leaves the winner of a collision undefined; the maximum does not.
        return last.scatter_reduce_(1, nearest, order, reduce="amax").gather(1, nearest) == order

    def _mass(
        self, position: Tensor, distance: Tensor, nearest: Tensor, interpolate: bool
    ) -> tuple[Tensor, int]:
        """Mass and mass x distance, shape (L, 2, n), and how many bins apart two points still touch."""
        low = position.floor().long() if interpolate else nearest
        high_share = position - low if interpolate else torch.zeros_like(position)
        signal = torch.zeros(self.count, 2, self.bins).to(position)
        # At the position n-1 the upper bin does not exist, and its share is 0.
        shares = [(low, 1 - high_share), ((low + 1).clamp(max=self.bins - 1), high_share)]
        for bin_index, share in shares:
            signal[:, 0].scatter_add_(1, bin_index, share)
            signal[:, 1].scatter_add_(1, bin_index, share * distance)
        return signal, 2 if interpolate else 1

    def _warn(self, lost: int, entries: int, measurements: int | None) -> None:
        if lost:
            warnings.warn(
                f"{lost} of the points share their place on each of the {self.count} axes with another point "
                "and cannot be told from it; remove duplicates or work at a finer resolution",
                CapacityWarning,
                stacklevel=3,
            )
        if measurements is not None and entries > (limit := capacity(measurements, self.bins)):
            warnings.warn(
                f"an axis holds {entries} entries, but {measurements} measurements of {self.bins} bins bring "
                f"back about {limit} (2 k ln(n/k) <= m); use more measurements or smaller patches",
                CapacityWarning,
                stacklevel=3,
            )


def _neighbours(occupancy: Tensor, reach: int) -> Tensor:
    """Number of points within `reach` bins of each bin, shape (L, n)."""
    width = 2 * reach + 1
    return (avg_pool1d(pad(occupancy, (reach, reach)), width, stride=1) * width).round()
