"""Sparse recovery off the grid: the few points whose codes explain the given ones.

All windows of an image hold one measure, sum_k mass_k delta(p_k). We look for

    min over K, p, mass   1/2 |x - sum_k mass_k phi(p_k)|^2,   0 <= mass_k <= cap,

by sliding Frank-Wolfe (Denoyelle et al. 2019): atoms are added where the back-projected residual, the dual
certificate, peaks; then positions and masses slide together. Warm starts only save rounds: the residual of the
codes decides which atoms stay, move or join.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional as F

from pointsense.encoding import ProjectionCode
from pointsense.inference.atoms import Atoms
from pointsense.inference.finite import require_finite
from pointsense.model.classes import Reading
from pointsense.recovery import compiled

CAP = 1.1
"""A point has the mass of one cell; the surplus allows for regression noise.  Two cells need two atoms."""

POINTS = Reading()
"""Without doubt about positions."""

ROUNDS, MERGES = 3, 2

SLIDES, LAST_SLIDES = 12, 24
"""Steps after each change of the atoms; more after the last one, so that all come to rest."""

REACH = 3.0
"""Cells within which codes of atoms overlap, so that a wrong number of them explains the codes almost as well."""


@dataclass(frozen=True)
class Measure:
    """Points with masses.

    Attributes
    ----------
    positions : Tensor, (K, 2)
        (y, x) in cells of the mass map.
    masses : Tensor, (K,)
    axis_masses : Tensor, (K, L)
        The mass that each axis' own codes support at the position.
    axis_offsets : Tensor, (K, L)
        How far along each axis its own codes would move the point, in cells.
    """

    positions: Tensor
    masses: Tensor
    axis_masses: Tensor
    axis_offsets: Tensor

    @property
    def supported(self) -> Tensor:
        """Mass (K,) that all axes' codes support at the positions; unlike `masses` not capped, so that it ranks."""
        return self.axis_masses.mean(1)


def local_maxima(values: Tensor, floor: float) -> Tensor:
    """Cells (K, 2) of a map (H, W) that reach the floor and are not lower than the eight around them.

    Of neighbours that are exactly equal, the first in reading order is one.
    """
    peak = (values >= highest(values, 1)) & (values >= floor)
    # Whole numbers up to 2^24 are exact in float32; some GPUs have nothing wider.
    exact = torch.float32 if values.numel() <= 2**24 else torch.float64
    order = torch.arange(values.numel(), 0, -1, dtype=exact, device=values.device).reshape(values.shape)
    rank = torch.where(peak, order, 0)
    return (peak & (rank >= highest(rank, 1))).nonzero()


def highest(values: Tensor, radius: int) -> Tensor:
    """The largest value within `radius` cells in y and x of each cell of a map (H, W).

    Of shifted maps: on the CPU several times as fast as `max_pool2d`.
    """
    values = F.pad(values, (radius,) * 4, value=-math.inf)
    for axis in (0, 1):
        cells = values.shape[axis] - 2 * radius
        values = reduce(torch.maximum, [values.narrow(axis, k, cells) for k in range(2 * radius + 1)])
    return values


def subcell(values: Tensor, peaks: Tensor) -> Tensor:
    """Positions (K, 2) of peaks (K, 2), refined by a parabola through the neighbours in y and in x.

    In the outermost cells, which lack one of the two, peaks stay at the centre: no object is learned farther out.
    """
    (y, x), (H, W) = peaks.T, values.shape
    up, down = values[(y - 1).clamp(0), x], values[(y + 1).clamp(max=H - 1), x]
    left, right = values[y, (x - 1).clamp(0)], values[y, (x + 1).clamp(max=W - 1)]
    centre = values[y, x]
    shift = torch.stack(
        [
            (down - up) / (2 * centre - up - down).clamp(min=1e-6),
            (right - left) / (2 * centre - left - right).clamp(min=1e-6),
        ],
        1,
    )
    inner = (peaks > 0) & (peaks < torch.tensor([H, W], device=peaks.device) - 1)
    # `nonzero` gives columns that lie apart.
    return (peaks + torch.where(inner, (shift / 2).clamp(-0.5, 0.5), 0.0)).contiguous()


def read_codes(
    code: ProjectionCode, codes: Tensor, reading: Reading, *, start: Tensor | None = None, floor: float = 0.1
) -> Measure:
    """The points of one image, by its matched filter or recovered, as the reading says; see both."""
    if reading.matched:
        return matched_filter(code, codes, reading, floor=floor)
    return recover_measure(code, codes, reading, start=start, floor=floor)


@torch.no_grad()
def recover_measure(
    code: ProjectionCode,
    codes: Tensor,
    reading: Reading = POINTS,
    *,
    start: Tensor | None = None,
    floor: float = 0.1,
) -> Measure:
    """The points and masses that explain the codes of one image.

    Parameters
    ----------
    code : ProjectionCode
    codes : Tensor, (L * m, I, J)
    reading : Reading
        With its doubt about positions atoms are codes of Gaussian spots of this width instead of points.
    start : Tensor, (K, 2), optional
        First guesses of positions in cells, such as maxima of a mass map.
    floor : float
        Atoms below this mass are dropped.

    Returns
    -------
    Measure

    Raises
    ------
    DataError
        If the codes are not finite.
    """
    atoms = atoms_of(code, codes, reading)
    p = codes.new_zeros(0, 2) if start is None else start.to(codes).contiguous()
    # Guesses begin without mass and slide to what the codes support.
    p, mass = _settled(atoms, p, codes.new_zeros(len(p)), reading, floor)
    # The number of rounds is fixed: what is found in one place must not depend on how soon others are done.
    for _ in range(ROUNDS):
        certificate = atoms.certificate(atoms.residual(p, mass))
        # A strong peak has side lobes: they wait until it is explained.
        lead = highest(certificate, 4) / 2
        new = local_maxima(torch.where(certificate >= lead, certificate, 0.0), floor)
        p = torch.cat([p, subcell(certificate, new)])
        mass = torch.cat([mass, certificate[new[:, 0], new[:, 1]].clamp(max=CAP)])
        p, mass = _settled(atoms, p, mass, reading, floor)
    p, mass = atoms.slide(p, mass, CAP, LAST_SLIDES)
    p, mass = p[mass >= floor], mass[mass >= floor]
    return _with_evidence(atoms, p, mass, explained=mass)


@torch.no_grad()
def matched_filter(
    code: ProjectionCode, codes: Tensor, reading: Reading = POINTS, *, floor: float = 0.1
) -> Measure:
    """The peaks of the mass that lies about each cell, less the farther off: for objects far apart.

    The peaks are those of what a lone atom would take of the codes, a linear map of them, where a point of unit mass
    gives about .9 (1 in the middle of a cell, on average over bins); so is what each axis supports, from which nothing
    is taken away. Where the network's doubt has spread an object's mass over several cells, a wide atom gathers it, and
    it ranks; recovery would make several atoms of it, each with a part.

    Parameters
    ----------
    code, codes, reading, floor
        As in `recover_measure`.

    Returns
    -------
    Measure
        No mass is capped.

    Raises
    ------
    DataError
        If the codes are not finite.
    """
    atoms = atoms_of(code, codes, reading)
    taken = atoms.certificate(atoms.x)
    peaks = local_maxima(taken, floor * atoms.of_a_point)
    mass = taken[peaks[:, 0], peaks[:, 1]]
    found = _with_evidence(atoms, subcell(taken, peaks), mass, explained=torch.zeros_like(mass))
    return replace(
        found, masses=found.masses / atoms.of_a_point, axis_masses=found.axis_masses / atoms.of_a_point
    )


def atoms_of(code: ProjectionCode, codes: Tensor, reading: Reading) -> Atoms:
    """What compares the codes (L * m, I, J) of an image with those of atoms: compiled on the CPU, if numba is there.

    Raises
    ------
    DataError
        If the codes are not finite.
    """
    require_finite(codes)
    if codes.device.type == "cpu" and compiled.installed():
        from pointsense.inference.compiled_atoms import CompiledAtoms

        return CompiledAtoms(code, codes, reading)
    return Atoms(code, codes, reading)


def _settled(atoms: Atoms, p: Tensor, mass: Tensor, reading: Reading, floor: float) -> tuple[Tensor, Tensor]:
    """Slide, without atoms that turn out faint, and with as many as there are cells."""
    for _ in range(MERGES):
        p, mass = atoms.slide(p, mass, CAP, SLIDES)
        keep = (mass >= floor) & (mass > 0)
        p, mass = _merged(p[keep], mass[keep], reading.rounding)
    return p, mass


def _merged(p: Tensor, mass: Tensor, rounding: float) -> tuple[Tensor, Tensor]:
    """Superfluous pairs made one: the mass of both at their centre of mass."""
    first, second = _superfluous(p, mass, rounding).T
    total = mass[first] + mass[second]
    p[first] = (p[first] * mass[first, None] + p[second] * mass[second, None]) / total[:, None]
    mass[first] = total
    keep = torch.ones(len(p), dtype=torch.bool, device=p.device)
    keep[second] = False
    return p[keep], mass[keep]


def _superfluous(p: Tensor, mass: Tensor, rounding: float) -> Tensor:
    """Pairs (E, 2) to merge, the closest first: atoms within reach that are more than their mass makes cells.

    Three atoms that weigh two cells are two cells: a first atom came to lie between them, and sliding alone does
    not take it away.
    """
    places, weights = p.cpu().double().numpy(), mass.cpu().double().numpy()
    pairs = (
        cKDTree(places).query_pairs(REACH, output_type="ndarray")
        if len(places) > 1
        else np.zeros((0, 2), int)
    )
    ends = pairs.ravel()
    crowd = 1 + np.bincount(ends, minlength=len(places))
    cells = weights + np.bincount(ends, weights[pairs[:, ::-1].ravel()], len(places))
    crowded = np.floor(cells + rounding).clip(1) < crowd
    pairs = pairs[crowded[pairs].any(axis=1)]
    pairs = pairs[np.argsort(np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1))]
    chosen, taken = [], set()
    for first, second in pairs.tolist():
        if first not in taken and second not in taken:
            chosen.append((first, second))
            taken |= {first, second}
    return torch.tensor(chosen, dtype=torch.long, device=p.device).reshape(-1, 2)


def _with_evidence(atoms: Atoms, p: Tensor, mass: Tensor, explained: Tensor) -> Measure:
    """What each axis alone says about the atoms, with the others taken away as far as their masses are `explained`."""
    each, along, _ = atoms.correlate(p, explained)
    axes = atoms.code.axes
    own, stiff = atoms.energy / axes, 2 * atoms.stiffness / axes
    offsets = along / (stiff * mass.clamp(min=1e-3)[:, None])
    return Measure(p, mass, explained[:, None] + each / own, offsets)
