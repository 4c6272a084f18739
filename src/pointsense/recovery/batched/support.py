"""Supports of a batch of right-hand sides and the inverses of their Gram matrices, changed by one column a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from ..problem import GRAM_LIMIT, Problem

SLOTS = 8  # of a support at first, and by which it grows


class System:
    """A problem's matrix with what is computed of it once, and what counts as rounding in its precision.

    Attributes
    ----------
    dependent : float
        Squared distance to the span of the support, relative, below which a column counts as in it.
    enter : float
        Violation of the conditions of optimality, relative to the largest ``|D^T x|``, that counts.
    drift : float
        Error of the correlations on the support, relative to the same, that asks for a correction.
    """

    def __init__(self, problem: Problem) -> None:
        self.D = problem.D
        double = problem.D.dtype == torch.float64
        self.dependent, self.enter, self.drift = (1e-11, 1e-12, 1e-12) if double else (1e-4, 3e-6, 1e-5)
        self.columns = problem.D.T.contiguous()  # (n, m)
        self.squares = self.columns.square().sum(-1)
        self.upper, self.positive = problem.upper, problem.positive
        self._scratch = self.D.new_empty(0, len(self.columns))
        self.gram = self.columns @ self.D if len(self.columns) <= GRAM_LIMIT else None

    def scratch(self, like: Tensor) -> Tensor:
        """Memory of the shape of `like` (b, n), the same each time: to ask for it anew costs more than to fill it."""
        if len(self._scratch) < len(like):
            self._scratch = torch.empty_like(like)
        return self._scratch[: len(like)]

    def products(self, members: Tensor, column: Tensor) -> Tensor:
        """``D_p^T D_j`` for a column j a row: (B, K)."""
        if self.gram is not None:
            return self.gram[column[:, None], members]
        return (self.columns[column] @ self.D).gather(1, members)


@dataclass
class BatchState:
    """B rows with K slots each; an empty slot has zeros in M and signs, and column 0.

    Attributes
    ----------
    rows : Tensor, (B,), int64
        Which right-hand sides of the problem these are.
    X, lam, goal, top : Tensor, (B, m), (B,), (B,), (B,)
        Of those right-hand sides; `lam` is the present weight on its way to `goal`, `top` the largest ``|D^T x|``.
    code : Tensor, (B, n)
    free : Tensor, (B, n), bool
        Columns strictly between their bounds: the support.
    members, filled, signs : Tensor, (B, K)
        Column, presence and sign by slot.
    M : Tensor, (B, K, K)
        ``(D_p^T D_p)^-1``.
    changes : Tensor, (B,), int64
    blocked : Tensor, (B,), bool
        The code is not the minimiser on its support.
    repairs : Tensor, (B,), int64
        Corrections of rounding in a row.
    residual, c : Tensor, (B, m), (B, n)
        ``x - D a`` and ``D^T (x - D a)``, of the code before the last round.
    """

    rows: Tensor
    X: Tensor
    lam: Tensor
    goal: Tensor
    top: Tensor
    code: Tensor
    free: Tensor
    members: Tensor
    filled: Tensor
    signs: Tensor
    M: Tensor
    changes: Tensor
    blocked: Tensor
    repairs: Tensor
    residual: Tensor
    c: Tensor

    @classmethod
    def empty(cls, problem: Problem, rows: Tensor, K: int) -> BatchState:
        """Empty supports, one of K slots for each of the right-hand sides `rows`."""
        X, B, n = problem.X[rows], len(rows), problem.D.shape[1]
        flags = torch.zeros(B, n, dtype=torch.bool, device=X.device)
        c = X @ problem.D
        return cls(
            rows=rows,
            X=X,
            lam=problem.lam[rows],
            goal=problem.lam[rows],
            top=c.abs().amax(-1),
            code=X.new_zeros(B, n),
            free=flags,
            members=torch.zeros(B, K, dtype=torch.long, device=X.device),
            filled=torch.zeros(B, K, dtype=torch.bool, device=X.device),
            signs=X.new_zeros(B, K),
            M=X.new_zeros(B, K, K),
            changes=torch.zeros(B, dtype=torch.long, device=X.device),
            blocked=torch.zeros(B, dtype=torch.bool, device=X.device),
            repairs=torch.zeros(B, dtype=torch.long, device=X.device),
            residual=X.clone(),
            c=c,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Tensor | slice) -> Self:
        return type(self)(*(tensor[rows] for tensor in self.tensors()))

    def tensors(self) -> list[Tensor]:
        return [getattr(self, f.name) for f in fields(self)]

    def split(self, size: int) -> Iterator[Self]:
        for begin in range(0, len(self), size):
            yield self[begin : begin + size]

    def grow(self, K: int) -> None:
        """Make room for K slots."""
        more, pad = K - self.members.shape[1], torch.nn.functional.pad
        self.members, self.filled = pad(self.members, (0, more)), pad(self.filled, (0, more))
        self.signs, self.M = pad(self.signs, (0, more)), pad(self.M, (0, more, 0, more))

    def multiply(self, vector: Tensor) -> Tensor:
        """``M v`` for a vector a row: (B, K)."""
        return torch.bmm(self.M, vector[..., None])[..., 0]

    def project(self, system: System, column: Tensor) -> tuple[Tensor, Tensor]:
        """``z = M D_p^T D_j`` (B, K), and the squared distance of column j of each row to the span of D_p (B,)."""
        g = system.products(self.members, column) * self.filled
        z = self.multiply(g)
        return z, system.squares[column] - (g * z).sum(-1)

    def is_dependent(self, system: System, column: Tensor, distance: Tensor) -> Tensor:
        """Whether a column, of this squared distance to the span of the support, counts as in it: (B,)."""
        close = distance <= system.dependent * system.squares[column]
        return close | (self.filled.sum(-1) >= min(system.D.shape))

    def append(self, which: Tensor, column: Tensor, sign: Tensor, z: Tensor, distance: Tensor) -> None:
        """Add a column (B,) to the rows `which` (B,), bool, after `project`; each must have an empty slot."""
        slot = self.filled.int().argmin(-1, keepdim=True)
        unit = z.scatter(1, slot, -1.0)
        scale = torch.where(which, 1 / distance, 0)  # leaves the other rows as they are
        self.M.baddbmm_(unit[:, :, None], (unit * scale[:, None])[:, None, :])
        who = which.nonzero()[:, 0]
        slot, column = slot[who, 0], column[who]
        self.members[who, slot], self.signs[who, slot] = column, sign[who]
        self.filled[who, slot] = True
        self.free[who, column] = True
        self.changes += which

    def remove(self, which: Tensor, slot: Tensor) -> None:
        """Take the columns of the slots (B,) out of the rows `which` (B,), bool."""
        who = which.nonzero()[:, 0]
        if len(who) == 0:
            return
        slot, M = slot[who], self.M[who]
        row = M[torch.arange(len(who), device=M.device), slot]
        pivot = row.gather(1, slot[:, None])
        M.baddbmm_(row[:, :, None], (row / pivot)[:, None, :], alpha=-1)
        keep = torch.ones_like(row).scatter_(1, slot[:, None], 0.0)
        self.M[who] = M.mul_(keep[:, :, None]).mul_(keep[:, None, :])
        self.free[who, self.members[who, slot]] = False
        self.members[who, slot], self.signs[who, slot] = 0, 0.0
        self.filled[who, slot] = False
        self.changes += which

    def refactor(self, system: System, wanted: Tensor) -> None:
        """Build the inverses again, from the columns `wanted` (B, n), bool; those without one stay as they are.

        A column that depends on those before it goes to zero.
        """
        which = wanted.any(-1)
        at = torch.arange(len(self), device=wanted.device)
        changes = self.changes.clone()
        for tensor in (self.M, self.filled, self.signs, self.members, self.free):
            tensor[which] = 0
        while bool(wanted.any()):
            if bool(self.filled.all(-1).any()):
                self.grow(self.members.shape[1] + SLOTS)
            column = wanted.int().argmax(-1)
            z, distance = self.project(system, column)
            here = wanted[at, column]
            safe = here & ~self.is_dependent(system, column, distance)
            self.append(safe, column, torch.sign(self.code[at, column]), z, distance)
            self.code[at, column] = torch.where(here & ~safe, 0, self.code[at, column])
            wanted[at, column] = False
        self.changes = changes
        self.blocked |= which

    def rest(self, system: System, who: Tensor, slot: Tensor, at_upper: Tensor) -> None:
        """Put the columns of one slot of each of the rows `who` (indices) exactly on the bound they have reached."""
        column = self.members[who, slot]
        value = torch.zeros_like(self.lam[who])
        if system.upper is not None:
            value = torch.where(at_upper, self.signs[who, slot] * system.upper[column], value)
        self.code[who, column] = value

    def move(self, direction: Tensor, step: Tensor) -> None:
        """Add ``step * direction`` (B, K) to the codes."""
        self.code.scatter_add_(1, self.members, torch.where(self.filled, step[:, None] * direction, 0))

    def first_bound(
        self, direction: Tensor, step: Tensor, upper: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """How far, at most `step` (B,), the codes may move along `direction` (B, K).

        Returns the step, the slot that stops it or -1, and whether it is its upper bound that stops it: (B,) each.
        """
        size = torch.where(self.filled, self.signs * self.code.gather(1, self.members), torch.inf)
        change = self.signs * direction
        limit = torch.where(size + step[:, None] * change <= 0, size / -change, torch.inf)
        limit = torch.where((size <= 0) & (change <= 0), 0.0, limit).clamp_min(0)
        least, slot = limit.min(-1)
        at_upper = torch.zeros_like(self.blocked)
        if upper is not None:
            room = torch.where(self.filled, (upper[self.members] - size).clamp_min(0), torch.inf)
            limit = torch.where((change > 0) & (step[:, None] * change >= room), room / change, torch.inf)
            least_up, slot_up = limit.min(-1)
            at_upper = least_up < least
            least, slot = torch.where(at_upper, least_up, least), torch.where(at_upper, slot_up, slot)
        stopped = least < torch.inf
        return torch.where(stopped, least, step), torch.where(stopped, slot, -1), at_upper
