"""Recovered signals to candidate points: each axis alone gives a position and a distance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pointsense.encoding.axes import Channels, ObservationAxes
from pointsense.errors import UsageError

AMPLITUDE_THRESHOLD = 15.0
"""px, section 4.3 of the paper: the axes lie outside the patch, so that smaller distances are noise."""

MASS_THRESHOLD = 0.1
"""Share of a cell that a bin must hold to belong to one."""


@dataclass(frozen=True)
class Candidates:
    """What single axes see in a batch of patches; clustering turns them into detections.

    Attributes
    ----------
    points : Tensor, shape (V, 2)
        (y, x) in px of the candidate's patch.
    axis, patch : Tensor, shape (V,), int64
        The axis that sees it, and the patch in the batch.
    weight : Tensor, shape (V,)
        1 for distances, the mass otherwise.
    """

    points: Tensor
    axis: Tensor
    patch: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.points)


def candidates(
    signal: Tensor,
    axes: ObservationAxes,
    *,
    channels: Channels = "distance",
    threshold: float | None = None,
    margin: float = 10.0,
) -> Candidates:
    """Candidate points of recovered signals.

    For "distance", each bin whose amplitude reaches the threshold is a candidate. For "mass", neighbouring
    bins whose mass reaches it form one candidate: its weight is their mass, its position their centre of
    mass, its distance the ratio of the two channels.

    Parameters
    ----------
    signal : Tensor, shape (B, L, C, n)
    axes : ObservationAxes
    channels : {"distance", "mass"}
    threshold : float, optional
        Least amplitude of a bin: 15 px for "distance" (the paper), 0.1 for "mass" unless given.
    margin : float
        Candidates farther than this outside the patch are dropped, in px.

    Returns
    -------
    Candidates

    Raises
    ------
    UsageError
        If the signal's shape does not fit the axes and channels.
    """
    if channels not in ("distance", "mass"):
        raise UsageError(f"unknown channels {channels!r} of the code; use 'distance' or 'mass'")
    expected = (axes.count, 1 if channels == "distance" else 2, axes.bins)
    if signal.ndim != 4 or signal.shape[1:] != expected:
        raise UsageError(
            f"signals of these axes with channels {channels!r} must have the shape (B, "
            f"{', '.join(map(str, expected))}), found {tuple(signal.shape)}"
        )
    if channels == "distance":
        threshold = AMPLITUDE_THRESHOLD if threshold is None else threshold
        # A zero is no candidate, whatever the threshold.
        found = (signal[:, :, 0].abs() >= threshold) & (signal[:, :, 0] != 0)
        patch, axis, index = found.nonzero(as_tuple=True)
        position, distance = index.double(), signal[:, :, 0][found].double()
        weight = torch.ones_like(distance)
    else:
        threshold = MASS_THRESHOLD if threshold is None else threshold
        patch, axis, position, distance, weight = _runs(signal.double(), threshold)

    points = axes.candidate(axis, position, distance)
    size = torch.tensor([axes.height, axes.width], device=points.device)
    kept = ((points >= -0.5 - margin) & (points <= size - 0.5 + margin)).all(dim=1)
    return Candidates(points[kept], axis[kept], patch[kept], weight[kept])


def _runs(signal: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Patch, axis, centre of mass, distance and mass of each run of neighbouring bins."""
    mass, moment = signal.unbind(dim=2)
    active = (mass >= threshold) & (mass > 0)
    starts = active.clone()
    starts[..., 1:] &= ~active[..., :-1]
    patch, axis, _ = starts.nonzero(as_tuple=True)
    run = starts.flatten().cumsum(0)[active.flatten()] - 1  # the run of each active bin
    index = active.nonzero(as_tuple=True)[2]

    def total(values: Tensor) -> Tensor:
        return torch.zeros(len(patch)).to(values).index_add_(0, run, values)

    weight = total(mass[active])
    return patch, axis, total(mass[active] * index) / weight, total(moment[active]) / weight, weight
