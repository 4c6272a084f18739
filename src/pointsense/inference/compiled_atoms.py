"""Atoms one after the other, compiled by numba: in torch the CPU spends most of a dense image's time on them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pointsense.encoding import ProjectionCode
from pointsense.inference.atoms import LIGHT, MASS_STEP, MOMENTUM, POSITION_STEP, Atoms
from pointsense.model.classes import Reading
from pointsense.recovery.compiled.compiler import allocating

ZERO = np.float32(0)
"""A sum that begins with a bare 0.0 would be of double precision, at half the speed."""

FAR = 1e9
"""Cells: atoms beyond, or nowhere at all (NaN), are in no window; their indices would overflow."""


class CompiledAtoms(Atoms):
    """`Atoms` on the CPU, in float32; windows without atoms cost nothing."""

    def __init__(self, code: ProjectionCode, codes: Tensor, reading: Reading):
        super().__init__(code, codes, reading)
        self._rows, self._filled = torch.empty(2, len(self.back_projected), dtype=torch.long)
        self._signals = torch.empty_like(self.back_projected)

    def correlate(self, p: Tensor, mass: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        atoms, rows = self._geometry(p), self._rows.numpy()
        count = _add_signals(*atoms, mass.numpy(), rows, self._filled.numpy(), self._signals.numpy())
        # Several times as fast as to index by brackets.
        left = self.back_projected.index_select(0, self._filled[:count])
        left.flatten(0, 1).addmm_(self._signals[:count].flatten(0, 1), self.gram, alpha=-1)
        each, each_along = p.new_empty(2, len(p), self.code.axes)
        gradient = torch.empty_like(p)
        _correlate(*atoms, rows, left.numpy(), each.numpy(), each_along.numpy(), gradient.numpy())
        return each, each_along, gradient

    def move(self, p: Tensor, mass: Tensor, last: tuple[Tensor, Tensor], cap: float) -> None:
        each, _, gradient = self.correlate(p, mass)
        end = self.extent.numpy() - np.float32(0.501)
        parts = (part.numpy() for part in (p, mass, *last, each, gradient))
        # As arguments: a compiled function would keep those of the day that it was compiled on.
        _move(*parts, self.stiffness, self.energy, cap, end, (MOMENTUM, MASS_STEP, POSITION_STEP, LIGHT))

    def _geometry(self, p: Tensor) -> tuple[Any, ...]:
        code = self.code
        return p.numpy(), code.directions.numpy(), self.lattice, code.window, code.hop


@allocating
def _windows(coordinate, count, window, hop):
    """First and last of `count` windows of a row, or column, that cover a coordinate."""
    if not abs(coordinate) < FAR:
        return 0, -1
    last = int((coordinate + np.float32(window - hop + 0.5)) // np.float32(hop))
    return max(0, last - window // hop + 1), min(last, count - 1)


@allocating
def _from_centre(coordinate, number, window, hop):
    """Where a coordinate lies in window `number` of its row, or column."""
    return coordinate - np.float32(number * hop - (window - hop) + (window - 1) / 2)


@allocating
def _bin(y, x, direction, bins):
    """The lower of the two bins of an axis that see a place of its window, and the share of the upper one."""
    position = y * direction[0] + x * direction[1] + np.float32((bins - 1) / 2)
    low = min(max(np.int32(position), np.int32(0)), np.int32(bins - 2))
    return low, position - np.float32(low)


@allocating
def _add_signals(p, directions, lattice, window, hop, mass, rows, filled, signals):
    """Put the atoms `p` (K, 2) of `mass` (K,) into the signals of the windows that cover them; the number of windows.

    Window `filled[row]` gets `signals[row]` (L, n), and `rows` (windows,) says in which row a window is, or -1.
    """
    axes, bins = signals.shape[1:]
    turn = np.float32(math.pi / window)
    count = 0
    rows[:] = -1
    for k in range(len(p)):
        first_i, last_i = _windows(p[k, 0], lattice[0], window, hop)
        first_j, last_j = _windows(p[k, 1], lattice[1], window, hop)
        for i in range(first_i, last_i + 1):
            y = _from_centre(p[k, 0], i, window, hop)
            row_weight = mass[k] * math.cos(turn * y)
            for j in range(first_j, last_j + 1):
                x = _from_centre(p[k, 1], j, window, hop)
                weight = row_weight * math.cos(turn * x)
                number = i * lattice[1] + j
                if rows[number] < 0:
                    rows[number], filled[count] = count, number
                    signals[count] = 0
                    count += 1
                signal = signals[rows[number]]
                for axis in range(axes):
                    low, share = _bin(y, x, directions[axis], bins)
                    upper = weight * share
                    signal[axis, low] += weight - upper
                    signal[axis, low + 1] += upper
    return count


@allocating
def _correlate(p, directions, lattice, window, hop, rows, left, each, each_along, gradient):
    """`Atoms.correlate` at `p` (K, 2) with D^T r of the windows, `left[rows[window]]` (L, n)."""
    axes, bins = left.shape[1:]
    turn = np.float32(math.pi / window)
    each[:], each_along[:], gradient[:] = 0, 0, 0
    for k in range(len(p)):
        first_i, last_i = _windows(p[k, 0], lattice[0], window, hop)
        first_j, last_j = _windows(p[k, 1], lattice[1], window, hop)
        for i in range(first_i, last_i + 1):
            y = _from_centre(p[k, 0], i, window, hop)
            cos_y, sin_y = math.cos(turn * y), math.sin(turn * y)
            for j in range(first_j, last_j + 1):
                x = _from_centre(p[k, 1], j, window, hop)
                cos_x, sin_x = math.cos(turn * x), math.sin(turn * x)
                signal = left[rows[i * lattice[1] + j]]
                weight, total, total_y, total_x = cos_y * cos_x, ZERO, ZERO, ZERO
                for axis in range(axes):
                    low, share = _bin(y, x, directions[axis], bins)
                    along = signal[axis, low + 1] - signal[axis, low]
                    value = signal[axis, low] + share * along
                    each[k, axis] += weight * value
                    each_along[k, axis] += weight * along
                    total += value
                    total_y += along * directions[axis, 0]
                    total_x += along * directions[axis, 1]
                gradient[k, 0] += weight * total_y - turn * sin_y * cos_x * total
                gradient[k, 1] += weight * total_x - turn * cos_y * sin_x * total


@allocating
def _move(p, mass, velocity, growth, each, gradient, stiffness, energy, cap, end, steps):
    """`Atoms.move` where points must not lie beyond `end` (2,); `steps` are the constants of `atoms`."""
    momentum, mass_step, position_step, light = steps
    for k in range(len(p)):
        total = 0.0
        for axis in range(each.shape[1]):
            total += each[k, axis]
        curvature = stiffness * max(mass[k], light)
        for side in range(2):
            step = min(max(gradient[k, side] / curvature, -1.0), 1.0)
            velocity[k, side] = momentum * velocity[k, side] + position_step * step
            p[k, side] = min(max(p[k, side] + velocity[k, side], -0.499), end[side])
        growth[k] = momentum * growth[k] + mass_step * total / energy
        mass[k] = min(max(mass[k] + growth[k], 0.0), cap)
