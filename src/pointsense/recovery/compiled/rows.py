"""Compiled solvers over rows of right-hand sides, one after the other in one workspace."""

from __future__ import annotations

import numpy as np

from .active_set import active_set
from .certificate import relative_gap
from .compiler import allocating, compiled
from .homotopy import homotopy
from .pivots import (
    AT_LOWER,
    AT_UPPER,
    AT_ZERO,
    append,
    correlate,
    is_dependent,
    largest,
    new_support,
    project,
)


@compiled
def _begin(system, support, projection, start):
    """An empty support, or the columns of `start` ((n,), or empty) but for those that depend on others."""
    support.size[0] = 0
    for j in range(len(projection)):
        support.place[j] = AT_ZERO
        support.right[j] = projection[j]
    resting, explained = False, support.residual
    for t in range(len(explained)):
        explained[t] = 0.0
    for j in range(len(start)):
        size = start[j] if system.positive else abs(start[j])
        sign = 1.0 if start[j] > 0.0 else -1.0
        if size >= system.upper[j]:
            resting = True
            support.place[j] = AT_UPPER if sign > 0.0 else AT_LOWER
            for t in range(len(explained)):
                explained[t] += sign * system.upper[j] * system.columns[j, t]
        elif size > 0.0:
            distance = project(system, support, j)
            if not is_dependent(system, support, j, distance):
                append(support, j, sign, start[j], distance)
    if resting:
        for j in range(len(projection)):
            total = 0.0
            for t in range(len(explained)):
                total += system.columns[j, t] * explained[t]
            support.right[j] -= total


@compiled
def _write_code(system, support, row):
    for j in range(len(row)):
        row[j] = 0.0
    for i in range(support.size[0]):
        row[support.members[i]] = support.values[i]
    if system.bounded:
        for j in range(len(row)):
            if support.place[j] == AT_UPPER:
                row[j] = system.upper[j]
            elif support.place[j] == AT_LOWER:
                row[j] = -system.upper[j]


@allocating
def _grown(stored, wanted):
    if wanted <= len(stored):
        return stored
    larger = np.empty(max(wanted, 2 * len(stored)), stored.dtype)
    larger[: len(stored)] = stored
    return larger


@allocating
def solve_rows(
    system, X, projections, lam, starts, path, max_changes, limit, code, gaps, changes, sizes, inverse
):
    """Solve X (B, m), whose ``X D`` is `projections` (B, n), for the weights lam (B,).

    starts : (B, n), or (B, 0) for cold ones. path : the homotopy instead of the active set.
    limit : entries of all inverses that may be kept; none are, where there are more.
    code (B, n), gaps (B,), changes (B,), sizes (B,): written to. inverse : empty, of the dtype to keep.
    Returns the supports one after the other, and the lower triangles of their inverses, row by row.
    """
    support = new_support(len(system.columns), X.shape[1])
    members = np.empty(256, np.int32)
    used, entries = 0, 0
    for b in range(len(X)):
        for j in range(len(support.q)):
            support.q[j] = abs(projections[b, j])
        top = largest(support.q)
        # Where D^T x = 0 the code is 0, which a start would be led to by steps in units of nothing.
        _begin(system, support, projections[b], starts[b] if top > 0.0 else starts[b, :0])
        if path:
            changes[b] = homotopy(system, support, top, lam[b], max_changes)
        else:
            changes[b] = active_set(system, support, top, lam[b], max_changes)
        _write_code(system, support, code[b])
        gaps[b] = relative_gap(system, support, X[b], code[b], lam[b])
        k = support.size[0]
        sizes[b] = k
        members = _grown(members, used + k)
        for i in range(k):
            members[used + i] = support.members[i]
        used += k
        entries += k * (k + 1) // 2
        if entries <= limit:
            inverse = _grown(inverse, entries)
            at = entries - k * (k + 1) // 2
            for i in range(k):
                for t in range(i + 1):
                    inverse[at] = support.M[i, t]
                    at += 1
    kept = entries if entries <= limit else 0
    return members[:used].copy(), inverse[:kept].copy()


@allocating
def omp_rows(system, X, projections, lengths, k, tol, code):
    """Orthogonal matching pursuit: at most k columns a row, until |x - D a| <= tol |x|. Written to code (B, n)."""
    n, m = len(system.columns), X.shape[1]
    support = new_support(n, m)
    nothing = np.empty(0)
    for b in range(len(X)):
        _begin(system, support, projections[b], nothing)
        correlate(system, support)
        size = np.sqrt((X[b] ** 2).sum())
        while support.size[0] < k and tol < 1.0:
            best, strongest = -1, 1e-14 * size
            for j in range(n):
                if support.place[j] == AT_ZERO and abs(support.c[j]) > strongest * lengths[j]:
                    best, strongest = j, abs(support.c[j]) / lengths[j]
            if best < 0:
                break
            distance = project(system, support, best)
            if is_dependent(system, support, best, distance):
                break
            value = support.c[best] / distance
            for i in range(support.size[0]):
                support.values[i] -= value * support.z[i]
            append(support, best, 1.0, value, distance)
            correlate(system, support)
            if tol > 0.0:
                residual = X[b].copy()
                for i in range(support.size[0]):
                    residual -= support.values[i] * system.columns[support.members[i]]
                if np.sqrt((residual**2).sum()) <= tol * size:
                    break
        _write_code(system, support, code[b])
