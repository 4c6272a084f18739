"""The homotopy of `compiled.homotopy` on a batch: one event of the path a row and round, on any device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..problem import Problem
from .support import BatchState, System

TIE = 1e-13  # fall of the weight, relative to the largest |D^T x|, that counts as none
TIES = 8  # such events in a row, after which the path is left


@dataclass
class Paths(BatchState):
    """Supports on their way down the path; here c goes along.

    Attributes
    ----------
    level : Tensor, (B,)
        Present weight.
    joining : Tensor, (B,), int64
        Column that joins next, or -1.
    ties : Tensor, (B,), int64
    """

    level: Tensor
    joining: Tensor
    ties: Tensor

    @classmethod
    def begin(cls, problem: Problem, rows: Tensor, K: int) -> Paths:
        base = BatchState.empty(problem, rows, K)
        level, joining = (base.c if problem.positive else base.c.abs()).max(-1)
        return cls(**vars(base), level=level.clamp_min(0), joining=joining, ties=torch.zeros_like(joining))

    def supports(self) -> BatchState:
        """Without the path."""
        return BatchState(*(getattr(self, name) for name in BatchState.__dataclass_fields__))


def one_event(system: System, path: Paths) -> Tensor:
    """One event of every row above its weight; returns which rows leave the path, there or at ties: (B,)."""
    every = torch.arange(len(path), device=path.X.device)
    live = (path.level > path.lam) & (path.ties < TIES)
    column = path.joining.clamp_min(0)
    z, distance = path.project(system, column)
    joins = live & (path.joining >= 0)
    dependent = joins & path.is_dependent(system, column, distance)
    live, joins = live & ~dependent, joins & ~dependent
    path.append(joins, column, torch.sign(path.c[every, column]), z, distance)

    w = path.multiply(path.signs)
    q = (torch.zeros_like(path.code).scatter_add_(1, path.members, w) @ system.columns) @ system.D
    fall, joining = _falls(system, path, q).min(-1)
    fall = torch.minimum(fall.clamp_min(0), path.level - path.lam)
    reached = fall >= path.level - path.lam
    fall, slot, at_upper = path.first_bound(w, fall, system.upper)
    fall = fall.masked_fill(~live, 0)
    leaves = live & (slot >= 0)
    path.move(w, fall)
    path.c -= fall[:, None] * q
    path.level = torch.where(live & reached & ~leaves, path.lam, path.level - fall)
    path.ties = torch.where(fall <= TIE * path.top, path.ties + 1, 0)
    path.joining = torch.where(leaves, -1, joining)
    who = every[leaves]
    if len(who):
        at, sign = path.members[who, slot[who]], path.signs[who, slot[who]]
        path.rest(system, who, slot[who], at_upper[who])
        path.c[who, at] = sign * path.level[who]
        path.remove(leaves, slot)
    return ~live | (path.level <= path.lam)


def _falls(system: System, path: Paths, q: Tensor) -> Tensor:
    """By how much the weight falls until each column joins: (B, n)."""
    level = path.level[:, None]
    sign = torch.ones_like(q) if system.positive else torch.where(path.c > level * q, 1.0, -1.0)
    rests = torch.zeros_like(path.free)
    if system.upper is not None:
        rests = (path.code != 0) & ~path.free
        sign = torch.where(rests, torch.sign(path.code), sign)
    # Off zero the correlation grows into the weight; off its bound it falls below it.
    turn = torch.where(rests, -1.0, 1.0)
    speed = turn * (1 - sign * q)
    fall = turn * (level - sign * path.c) / speed
    return torch.where((speed > 0) & ~path.free, fall, torch.inf)
