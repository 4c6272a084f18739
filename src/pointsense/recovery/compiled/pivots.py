"""What the compiled solvers share: a support with the inverse of its Gram matrix, changed by one column at a time.

``M = (D_p^T D_p)^-1`` is kept as it is: its symmetric updates of rank one vectorise, where the triangular solves
of a Cholesky factor do not. Its rounding is not trusted: solvers correct their codes with the Gram matrix itself,
and every result is certified.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..problem import DEPENDENT
from .compiler import allocating, compiled

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

AT_ZERO, AT_UPPER, AT_LOWER = -1, -2, -3  # `place` of columns that are not in the support


class System(NamedTuple):
    """What right-hand sides share. A row of the Gram matrix is computed when a column first needs it."""

    columns: Array  # (n, m), the columns of D
    gram: Array  # (R, n), rows of D^T D, as many as there is room for
    slot: Indices  # (n,), the row of a column in `gram`, or -1
    owner: Indices  # (R + 1,), the column of a row, or -1; then the next row to fill
    upper: Array  # (n,), bounds of |a|
    bounded: bool  # any of them finite
    positive: bool


class Support(NamedTuple):
    """Columns strictly between their bounds, in the order of their slots; room for K of them."""

    size: Indices  # (1,)
    members: Indices  # (K,)
    signs: Array  # (K,)
    values: Array  # (K,)
    M: Array  # (K, K)
    place: Indices  # (n,), the slot of a column, or where it rests
    right: Array  # (n,), D^T (x - what columns at their bounds contribute)
    c: Array  # (n,), correlations of the residual
    q: Array  # (n,), scratch
    g: Array  # (K,), scratch
    z: Array  # (K,), scratch
    residual: Array  # (m,), scratch
    candidates: Indices  # (n,), scratch


@compiled
def largest(values):
    """The largest of the values and 0; four chains, for in one each comparison would wait for the last."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = len(values) - len(values) % 4
    for i in range(0, whole, 4):
        a = values[i] if values[i] > a else a
        b = values[i + 1] if values[i + 1] > b else b
        c = values[i + 2] if values[i + 2] > c else c
        d = values[i + 3] if values[i + 3] > d else d
    for i in range(whole, len(values)):
        a = values[i] if values[i] > a else a
    return max(max(a, b), max(c, d))


@allocating
def new_support(n, m):
    room = min(n, m) + 2
    return Support(
        np.zeros(1, np.int64),
        np.empty(room, np.int64),
        np.empty(room),
        np.empty(room),
        np.empty((room, room)),
        np.full(n, AT_ZERO),
        np.empty(n),
        np.empty(n),
        np.empty(n),
        np.empty(room),
        np.empty(room),
        np.empty(m),
        np.empty(n, np.int64),
    )


@compiled
def gram_slot(system, place, j):
    """Where in `gram` the row of column j is; the row that makes room for it is none of the support's."""
    slot, owner, gram = system.slot, system.owner, system.gram
    if slot[j] < 0:
        room = len(gram)
        r = owner[room]
        while owner[r] >= 0 and place[owner[r]] >= 0:
            r = (r + 1) % room
        if owner[r] >= 0:
            slot[owner[r]] = -1
        owner[r] = j
        owner[room] = (r + 1) % room
        slot[j] = r
        row, column = gram[r], system.columns[j]
        for i in range(len(row)):
            total = 0.0
            other = system.columns[i]
            for t in range(len(column)):
                total += other[t] * column[t]
            row[i] = total
    return slot[j]


@compiled
def multiply(M, k, g, out):
    """``out = M g`` for the leading k x k block."""
    for i in range(k):
        total = 0.0
        row = M[i]
        for j in range(k):
            total += row[j] * g[j]
        out[i] = total


@compiled
def project(system, support, j):
    """``z = M D_p^T D_j``, in `support.z`; returns the squared distance of column j to the span of D_p."""
    k, g, z = support.size[0], support.g, support.z
    row = system.gram[gram_slot(system, support.place, j)]
    for i in range(k):
        g[i] = row[support.members[i]]
    multiply(support.M, k, g, z)
    distance = row[j]
    for i in range(k):
        distance -= g[i] * z[i]
    return distance


@compiled
def is_dependent(system, support, j, distance):
    """Whether column j, of this squared distance, counts as one of the span of the support."""
    if support.size[0] >= min(len(support.place), len(support.residual)):
        return True
    return distance <= DEPENDENT * system.gram[system.slot[j], j]


@compiled
def append(support, j, sign, value, distance):
    """Add column j after `project`."""
    k, z, M = support.size[0], support.z, support.M
    scale = 1.0 / distance
    for i in range(k):
        f = z[i] * scale
        row = M[i]
        for t in range(k):
            row[t] += f * z[t]
        M[i, k] = -f
        M[k, i] = -f
    M[k, k] = scale
    support.members[k], support.signs[k], support.values[k] = j, sign, value
    support.place[j] = k
    support.size[0] = k + 1


@compiled
def remove(system, support, i, at_bound):
    """Take the column of slot i out, to zero or to its bound; the last one takes its slot."""
    last, M, j = support.size[0] - 1, support.M, support.members[i]
    if i != last:
        for t in range(last + 1):
            M[i, t], M[last, t] = M[last, t], M[i, t]
        for t in range(last + 1):
            M[t, i], M[t, last] = M[t, last], M[t, i]
    scale = 1.0 / M[last, last]
    b = M[last]
    for r in range(last):
        f = b[r] * scale
        row = M[r]
        for t in range(last):
            row[t] -= f * b[t]
    support.place[j] = AT_ZERO
    if at_bound:
        rest(system, support, j, support.signs[i])
    if i != last:
        moved = support.members[last]
        support.members[i], support.signs[i], support.values[i] = (
            moved,
            support.signs[last],
            support.values[last],
        )
        support.place[moved] = i
    support.size[0] = last


@compiled
def rest(system, support, j, sign):
    """Let column j rest at its bound, ``sign * upper``; 0 takes it from there."""
    place, right = support.place, support.right
    before = 1.0 if place[j] == AT_UPPER else -1.0 if place[j] == AT_LOWER else 0.0
    place[j] = AT_ZERO if sign == 0.0 else AT_UPPER if sign > 0.0 else AT_LOWER
    change = (sign - before) * system.upper[j]
    row = system.gram[gram_slot(system, place, j)]
    for i in range(len(right)):
        right[i] -= change * row[i]


@compiled
def subtract_products(system, support, values, out):
    """``out -= D^T D_p values``, four rows of the Gram matrix at a time."""
    k, members, slot, gram = support.size[0], support.members, system.slot, system.gram
    n = len(out)
    i = 0
    while i + 4 <= k:
        a0, a1, a2, a3 = values[i], values[i + 1], values[i + 2], values[i + 3]
        r0, r1 = gram[slot[members[i]]], gram[slot[members[i + 1]]]
        r2, r3 = gram[slot[members[i + 2]]], gram[slot[members[i + 3]]]
        for j in range(n):
            out[j] -= a0 * r0[j] + a1 * r1[j] + a2 * r2[j] + a3 * r3[j]
        i += 4
    while i < k:
        a0 = values[i]
        r0 = gram[slot[members[i]]]
        for j in range(n):
            out[j] -= a0 * r0[j]
        i += 1


@compiled
def correlate(system, support):
    """``c = D^T (x - D a)``."""
    right, c = support.right, support.c
    for j in range(len(c)):
        c[j] = right[j]
    subtract_products(system, support, support.values, c)
