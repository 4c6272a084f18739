"""Atoms one after the other, compiled by numba: in torch the CPU spends most of a dense image's time on them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pointsense.encoding import ProjectionCode
from pointsense.inference.atoms import Atoms
from pointsense.model.classes import Reading
from pointsense.recovery.compiled.compiler import allocating

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
        left = self.back_projected[self._filled[:count]] - self._signals[:count] @ self.gram
        each, each_along = p.new_empty(2, len(p), self.code.axes)
        gradient = torch.empty_like(p)
        _correlate(*atoms, rows, left.numpy(), each.numpy(), each_along.numpy(), gradient.numpy())
        return each, each_along, gradient

    def _geometry(self, p: Tensor) -> tuple[Any, ...]:
        code = self.code
        return p.numpy(), code.directions.numpy(), self.lattice, code.window, code.hop


@allocating
def _add_signals(p, directions, lattice, window, hop, mass, rows, filled, signals):
    """Put the atoms `p` (K, 2) of `mass` (K,) into the signals of the windows that cover them; the number of windows.

    Window `filled[row]` gets `signals[row]` (L, n), and `rows` (windows,) says in which row a window is, or -1.
    """
    axes, bins = signals.shape[1:]
    turn, margin = math.pi / window, window - hop
    count = 0
    rows[:] = -1
    for k in range(len(p)):
        if not (abs(p[k, 0]) < FAR and abs(p[k, 1]) < FAR):
            continue
        last_i, last_j = int((p[k, 0] + margin + 0.5) // hop), int((p[k, 1] + margin + 0.5) // hop)
        for i in range(max(0, last_i - window // hop + 1), min(last_i, lattice[0] - 1) + 1):
            y = p[k, 0] - (i * hop - margin + (window - 1) / 2)
            row_weight = mass[k] * math.cos(turn * y)
            for j in range(max(0, last_j - window // hop + 1), min(last_j, lattice[1] - 1) + 1):
                x = p[k, 1] - (j * hop - margin + (window - 1) / 2)
                weight = row_weight * math.cos(turn * x)
                number = i * lattice[1] + j
                if rows[number] < 0:
                    rows[number], filled[count] = count, number
                    signals[count] = 0
                    count += 1
                signal = signals[rows[number]]
                for axis in range(axes):
                    position = y * directions[axis, 0] + x * directions[axis, 1] + (bins - 1) / 2
                    low = min(max(int(position), 0), bins - 2)
                    share = position - low
                    signal[axis, low] += weight * (1 - share)
                    signal[axis, low + 1] += weight * share
    return count


@allocating
def _correlate(p, directions, lattice, window, hop, rows, left, each, each_along, gradient):
    """`Atoms.correlate` at `p` (K, 2) with D^T r of the windows, `left[rows[window]]` (L, n)."""
    axes, bins = left.shape[1:]
    turn, margin = math.pi / window, window - hop
    each[:], each_along[:], gradient[:] = 0, 0, 0
    for k in range(len(p)):
        if not (abs(p[k, 0]) < FAR and abs(p[k, 1]) < FAR):
            continue
        gradient_y = gradient_x = 0.0
        last_i, last_j = int((p[k, 0] + margin + 0.5) // hop), int((p[k, 1] + margin + 0.5) // hop)
        for i in range(max(0, last_i - window // hop + 1), min(last_i, lattice[0] - 1) + 1):
            y = p[k, 0] - (i * hop - margin + (window - 1) / 2)
            cos_y, sin_y = math.cos(turn * y), math.sin(turn * y)
            for j in range(max(0, last_j - window // hop + 1), min(last_j, lattice[1] - 1) + 1):
                x = p[k, 1] - (j * hop - margin + (window - 1) / 2)
                cos_x, sin_x = math.cos(turn * x), math.sin(turn * x)
                signal = left[rows[i * lattice[1] + j]]
                weight, total, total_y, total_x = cos_y * cos_x, 0.0, 0.0, 0.0
                for axis in range(axes):
                    position = y * directions[axis, 0] + x * directions[axis, 1] + (bins - 1) / 2
                    low = min(max(int(position), 0), bins - 2)
                    along = signal[axis, low + 1] - signal[axis, low]
                    value = signal[axis, low] + (position - low) * along
                    each[k, axis] += weight * value
                    each_along[k, axis] += weight * along
                    total += value
                    total_y += along * directions[axis, 0]
                    total_x += along * directions[axis, 1]
                gradient_y += weight * total_y - turn * sin_y * cos_x * total
                gradient_x += weight * total_x - turn * cos_y * sin_x * total
        gradient[k, 0], gradient[k, 1] = gradient_y, gradient_x
