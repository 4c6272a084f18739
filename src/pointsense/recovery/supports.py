"""Supports of a batch, one after the other, with the inverses that the exact gradient needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_ENTRIES = 1 << 19  # of the padded matrices that are multiplied at once
#: Share of g by which D_p^T D_p u may miss it for u = M g of a kept M, which an ill-conditioned support makes rough.
ROUGH = {torch.float32: 1e-5, torch.float64: 1e-10}


@dataclass(frozen=True)
class Supports:
    """Which columns each code of a batch rests on: those strictly between their bounds.

    Attributes
    ----------
    sizes : Tensor, (B,), int32
    members : Tensor, (sum of sizes,), int32
        Columns, row after row.
    inverse : Tensor, (sum of k (k + 1) / 2,), or None
        Lower triangles of ``(D_p^T D_p)^-1``, row by row, in the order of `members`; None where none is kept.
    """

    sizes: Tensor
    members: Tensor
    inverse: Tensor | None = None

    @classmethod
    def of(cls, code: Tensor, upper: Tensor | None) -> Supports:
        """Of codes (B, n), without inverses."""
        return cls.of_mask(code != 0 if upper is None else (code != 0) & (code.abs() < upper))

    @classmethod
    def of_mask(cls, support: Tensor) -> Supports:
        """Of (B, n), bool, without inverses."""
        return cls(support.sum(-1).int(), support.nonzero()[:, 1].int())

    def mask(self, n: int) -> Tensor:
        """(B, n), bool."""
        rows = torch.repeat_interleave(torch.arange(len(self.sizes), device=self.sizes.device), self.sizes)
        out = torch.zeros(len(self.sizes), n, dtype=torch.bool, device=self.sizes.device)
        out[rows, self.members.long()] = True
        return out

    def multiply_inverse(self, g: Tensor) -> Tensor:
        """``u_p = (D_p^T D_p)^-1 g_p`` for every row of g (B, n), zero off the support: (B, n), float64."""
        assert self.inverse is not None
        u = torch.zeros(g.shape, dtype=torch.float64, device=g.device)
        sizes, g, flat = self.sizes.long(), g.reshape(-1), u.view(-1)
        first = sizes.cumsum(0) - sizes
        triangles = sizes * (sizes + 1) // 2
        corner = triangles.cumsum(0) - triangles
        order = torch.argsort(sizes, descending=True)  # rows of about one size share a padded product
        begin = 0
        while begin < len(order):
            k = int(sizes[order[begin]])
            if k == 0:
                break
            rows = order[begin : begin + max(1, CHUNK_ENTRIES // k**2)]
            begin += len(rows)
            slot = torch.arange(k, device=g.device)
            filled = slot < sizes[rows, None]
            members = self.members[(first[rows, None] + slot).clamp_max(len(self.members) - 1)]
            at = rows[:, None] * u.shape[1] + members
            low, high = torch.minimum(slot[:, None], slot), torch.maximum(slot[:, None], slot)
            entry = corner[rows, None, None] + (high * (high + 1) // 2 + low)
            # What lies beyond a triangle belongs to other rows: it meets a zero of g, or is not written.
            M = self.inverse[entry.clamp_max_(len(self.inverse) - 1)].double()
            part = torch.bmm(M, (g[at].double() * filled)[..., None])[..., 0]
            flat[at[filled]] = part[filled]
        return u


@dataclass(frozen=True)
class Solution:
    """What a solver returns, in float64.

    Attributes
    ----------
    code : Tensor, (B, n)
    gaps : Tensor, (B,)
        Relative duality gaps.
    iterations : Tensor, (B,), int64
    supports : Supports or None
        Of codes that are minimisers on their supports, or None.
    """

    code: Tensor
    gaps: Tensor
    iterations: Tensor
    supports: Supports | None = None


class SupportsBuilder:
    """Collects padded supports in any order.

    Parameters
    ----------
    kept : dtype or None
        Of the inverses to keep; none are with None.
    limit : int
        Bytes of all inverses, above which none are kept.
    """

    def __init__(self, kept: torch.dtype | None, limit: int) -> None:
        self.kept = kept
        self.left = limit // kept.itemsize if kept is not None else 0
        self.parts: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []

    def add(self, rows: Tensor, members: Tensor, filled: Tensor, M: Tensor) -> None:
        """Right-hand sides `rows` (b,), columns (b, K), which of them there are (b, K), inverses (b, K, K)."""
        order = torch.argsort(filled.int(), dim=1, descending=True, stable=True)
        sizes = filled.sum(-1)
        K = int(sizes.max())
        order = order[:, :K]
        filled = torch.arange(K, device=rows.device) < sizes[:, None]
        packed = None
        self.left -= int((sizes * (sizes + 1) // 2).sum())
        if self.kept is not None and self.left >= 0:
            M = M.gather(1, order[:, :, None].expand(-1, -1, M.shape[2]))
            M = M.gather(2, order[:, None, :].expand(-1, K, -1)).to(self.kept)
            lower = torch.ones(K, K, dtype=torch.bool, device=rows.device).tril()
            packed = M[lower & filled[:, :, None] & filled[:, None, :]]
        self.parts.append((rows, sizes, members.gather(1, order)[filled].int(), packed))

    def build(self, B: int, device: torch.device) -> Supports:
        """Of all B right-hand sides, in their order."""
        sizes = torch.zeros(B, dtype=torch.long, device=device)
        for rows, number, _, _ in self.parts:
            sizes[rows] = number
        members = _in_order(sizes, [(rows, number, m) for rows, number, m, _ in self.parts], torch.int32)
        inverse = None
        if self.kept is not None and self.left >= 0:
            triangles = [(rows, number * (number + 1) // 2, M) for rows, number, _, M in self.parts]
            inverse = _in_order(sizes * (sizes + 1) // 2, triangles, self.kept)
        return Supports(sizes.int(), members, inverse)


def _in_order(
    lengths: Tensor, parts: list[tuple[Tensor, Tensor, Tensor | None]], dtype: torch.dtype
) -> Tensor:
    """Runs of entries, of `lengths` (B,), from parts that hold those of some rows."""
    first = lengths.cumsum(0) - lengths
    out = torch.empty(int(lengths.sum()), dtype=dtype, device=lengths.device)
    for rows, number, entries in parts:
        assert entries is not None
        begin = torch.repeat_interleave(first[rows] - (number.cumsum(0) - number), number)
        out[begin + torch.arange(len(entries), device=out.device)] = entries
    return out
