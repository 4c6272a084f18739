"""Runs the batched solvers in pieces that fit the cache (or the device), and gathers what is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from ..certificate import gap_of, relative
from ..problem import Problem
from ..supports import Solution, SupportsBuilder
from .active_set import FALL, one_round
from .homotopy import Paths, one_event
from .support import SLOTS, BatchState, System

#: Entries of the inverses of one piece: what fits a core's cache, or a share of a device's memory.
CACHE_ENTRIES, DEVICE_ENTRIES = 1 << 22, 1 << 27
MOST_ROWS = 1 << 11  # of one piece in the cache
DEEP = 0.02  # of the largest |D^T x|: smaller weights are reached by steps, which cost a round or two each

State = TypeVar("State", bound=BatchState)


def solve(
    problem: Problem,
    *,
    path: bool,
    max_changes: int,
    kept: torch.dtype | None,
    limit: int,
    single: bool | None = None,
) -> Solution:
    """As `compiled.driver.solve`.

    `single` begins in float32, whose codes are only a start for float64; the default is to do so on other devices
    than the CPU.
    """
    single = problem.X.device.type != "cpu" if single is None else single
    X = problem.X
    B, n = len(X), problem.D.shape[1]
    slots = min(SLOTS, min(problem.D.shape) + 1)
    first, size, length = _in_single(problem) if single else (problem, X, X)
    system = System(first)
    rows = torch.arange(B, device=X.device).split(_rows(X, slots))
    pieces: list[BatchState]
    if path:
        paths = [Paths.begin(first, r, slots) for r in rows]
        pieces = [p.supports() for p in _finish(paths, partial(one_event, system), max_changes)]
    else:
        pieces = [_begin(system, first, r, slots) for r in rows]
    if single:  # rounding can go round in circles there: half of the changes are left for float64
        pieces = _finish(pieces, partial(one_round, system), max_changes // 2)
        pieces = [_in_double(p, problem, size / length, length) for p in _merged(pieces)]
        system = System(problem)
    code, gaps = X.new_zeros(B, n), X.new_zeros(B)
    changes = torch.zeros(B, dtype=torch.long, device=X.device)
    supports = SupportsBuilder(kept, limit)
    for state in _finish(pieces, partial(one_round, system), max_changes):
        at = state.rows
        code[at], changes[at] = problem.clip(state.code), state.changes
        gap = gap_of(
            code[at],
            state.X,
            state.goal,
            state.residual,
            state.c,
            positive=problem.positive,
            upper=problem.upper,
        )
        gaps[at] = relative(gap, state.X)
        supports.add(at, state.members, state.filled, state.M)
    return Solution(code, gaps, changes, supports.build(B, X.device))


def _finish(pieces: Sequence[State], step: Callable[[State], Tensor], max_changes: int) -> list[State]:
    """Repeat `step`, which says what is finished, until everything is; pieces split as their supports grow."""
    todo, finished = list(pieces), []
    while todo:
        state = todo.pop()
        slots = state.members.shape[1]
        if bool(state.filled.all(-1).any()):
            slots += SLOTS
            state.grow(slots)
            todo.extend(state.split(_rows(state.X, slots)))
            continue
        over = state.changes >= max_changes
        for _ in range(2 * max_changes):
            over = over | step(state) | (state.changes >= max_changes)
            if bool(state.filled.all(-1).any()) or 3 * int(over.sum()) >= len(state):
                break
        else:
            over = torch.ones_like(over)
        finished.append(state[over])
        if not bool(over.all()):
            todo.append(state[~over])
    return [f for f in finished if len(f)]


def _merged(pieces: list[BatchState]) -> list[BatchState]:
    """Fewer pieces, of as many rows as belong in one."""
    out: list[BatchState] = []
    for piece in sorted(pieces, key=lambda p: p.members.shape[1]):
        if out and len(out[-1]) + len(piece) <= _rows(piece.X, piece.members.shape[1]):
            out[-1].grow(piece.members.shape[1])
            out[-1] = BatchState(
                *(torch.cat(pair) for pair in zip(out[-1].tensors(), piece.tensors(), strict=True))
            )
        else:
            out.append(piece)
    return out


def _in_single(problem: Problem) -> tuple[Problem, Tensor, Tensor]:
    """The problem in float32 without its units, lest squares overflow; the sizes of x and of the columns, scalars.

    D / d, x / e, lam / (d e) and upper d / e have the solution a d / e.
    """
    tiny = torch.finfo(problem.D.dtype).tiny
    length, size = problem.D.norm(dim=0).amax().clamp_min(tiny), problem.X.abs().amax().clamp_min(tiny)
    single = replace(
        problem,
        X=problem.X / size,
        D=problem.D / length,
        lam=problem.lam / length / size,
        start=None if problem.start is None else problem.start / size * length,
        upper=None if problem.upper is None else problem.upper / size * length,
    )
    return single.map(Tensor.float), size, length


def _in_double(state: BatchState, problem: Problem, unit: Tensor, length: Tensor) -> BatchState:
    """The state of a float32 problem for the float64 one; its codes are in units of `unit`."""
    X = problem.X[state.rows]
    c = X @ problem.D
    return replace(
        state,
        X=X,
        lam=problem.lam[state.rows],
        goal=problem.lam[state.rows],
        top=c.abs().amax(-1),
        residual=X.clone(),
        c=c,
        code=problem.clip(state.code.double() * unit),
        signs=state.signs.double(),
        M=state.M.double() / length**2,
        blocked=state.filled.any(-1),
        repairs=torch.zeros_like(state.repairs),
    )


def _rows(X: Tensor, slots: int) -> int:
    """Right-hand sides of one piece."""
    if X.device.type == "cpu":
        return max(1, min(MOST_ROWS, CACHE_ENTRIES // slots**2))
    return max(1, DEVICE_ENTRIES // slots**2)


def _begin(system: System, problem: Problem, rows: Tensor, slots: int) -> BatchState:
    """Empty supports, or those of the start without columns that depend on others."""
    state = BatchState.empty(problem, rows, slots)
    if problem.start is None:
        deep = state.lam < DEEP * state.top
        state.lam = torch.where(deep, FALL * state.top, state.lam)
        return state
    state.code = problem.clip(problem.start[rows])
    wanted = state.code != 0
    if problem.upper is not None:
        wanted &= state.code.abs() < problem.upper
    state.refactor(system, wanted)
    return state
