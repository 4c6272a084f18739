"""The active set of `compiled.active_set` on a batch: one change of the support a row and round, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from .support import BatchState, System

REPAIRS = 3  # corrections of rounding in a row
FALL = 0.3  # of the weight on its way to lam
LOOSE = 0.3  # violation, relative to a weight above lam, at which it falls


def worst_violation(system: System, state: BatchState, c: Tensor) -> tuple[Tensor, Tensor]:
    """By how much the conditions of optimality are missed at most, and the column that should enter: (B,) each."""
    missed = system.scratch(c)
    torch.abs(c, out=missed) if not system.positive else missed.copy_(c)
    if system.upper is not None:
        resting = (state.code != 0) & ~state.free
        missed = torch.where(resting, 2 * state.lam[:, None] - torch.sign(state.code) * c, missed)
    rows, slots = state.filled.nonzero(as_tuple=True)
    missed[rows, state.members[rows, slots]] = -torch.inf
    most, column = missed.max(-1)
    return most - state.lam, column


def one_round(system: System, state: BatchState) -> Tensor:
    """One change of the support of every row that is not finished; returns which rows are: (B,).

    A row either goes on to the minimiser on its support, or lets the column enter that misses its condition most.
    """
    upper, every = system.upper, torch.arange(len(state), device=state.X.device)
    torch.addmm(state.X, state.code, system.columns, alpha=-1, out=state.residual)
    c = torch.mm(state.residual, system.D, out=state.c)
    error = (c.gather(1, state.members) - state.lam[:, None] * state.signs) * state.filled
    off = error.abs().amax(-1) / state.top.clamp_min(torch.finfo(c.dtype).tiny)
    settling = state.blocked | ((off > system.drift) & (state.repairs < REPAIRS))
    broken = ~state.blocked & (state.repairs > 0) & (off > 1e3 * system.drift)
    if bool(broken.any()):  # a correction was of no use
        state.refactor(system, state.free & broken[:, None])
        error = error * ~broken[:, None]
    state.repairs = torch.where(settling & ~state.blocked, state.repairs + 1, 0)
    slope, column = worst_violation(system, state, c)
    falling = ~settling & (state.lam > state.goal) & (slope <= LOOSE * state.lam)
    entering = ~settling & ~falling & (slope > system.enter * state.top)
    finished = ~settling & ~falling & ~entering

    products = system.products(state.members, column) * state.filled
    z = state.multiply(torch.where(entering[:, None], products, error))
    distance = system.squares[column] - (products * z).sum(-1)
    dependent = entering & state.is_dependent(system, column, distance)
    rested, correlation = state.code[every, column], c[every, column]
    sign = torch.where(rested == 0, torch.sign(correlation), torch.sign(rested))
    heading = torch.where(rested == 0, sign, -sign)
    wanted = torch.where(entering, slope / distance.masked_fill(dependent, 0), 1.0)
    room = torch.full_like(wanted, torch.inf) if upper is None else upper[column]
    room = torch.where(entering, room, torch.inf)
    direction = torch.where(entering[:, None], -heading[:, None] * z, z)
    step, slot, at_upper = state.first_bound(direction, torch.minimum(wanted, room), upper)
    lost = step == torch.inf  # rounding: a direction without curvature has no end
    finished, step, entering = (
        finished | lost,
        step.masked_fill(lost | finished | falling, 0),
        entering & ~lost,
    )
    stopped = (slot >= 0) & ~finished & ~falling

    state.move(direction, step)
    flips = entering & ~stopped & (room <= wanted)
    value = torch.where(flips, torch.where(rested == 0, sign * room, 0.0), rested + heading * step)
    state.code[every[entering], column[entering]] = value[entering]
    who = every[stopped]
    if len(who):
        state.rest(system, who, slot[who], at_upper[who])
        state.remove(stopped & (settling | dependent), slot)
    state.append(entering & ~flips & ~dependent, column, sign, z, distance)
    exchanges = dependent & stopped
    if bool(exchanges.any()):  # the column that left makes room for the one that depended on it
        z, distance = state.project(system, column)
        safe = exchanges & ~state.is_dependent(system, column, distance)
        state.append(safe, column, sign, z, distance)
        who = every[exchanges & ~safe]
        state.code[who, column[who]] = 0
    state.lam = torch.where(falling, torch.maximum(FALL * state.lam, state.goal), state.lam)
    state.blocked = stopped | falling
    return finished
