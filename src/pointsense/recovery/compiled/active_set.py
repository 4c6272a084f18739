"""Primal active set with partial pricing: exact codes by changes of one column, each of which lowers the objective.

Lawson and Hanson's method for non-negative least squares (1974, ch. 23), with bounds after Stark and Parker (1995),
read for the lasso: a column stands for its positive and its negative half, both of cost lam. The code is always
the minimiser on its support, so no support comes twice. The dearest step is the product with the Gram matrix that
finds columns to enter; so one product serves a list of candidates (partial pricing, as in the simplex method),
each of which is looked at again before it enters. A small weight is reached by halves, each but roughly solved
for: at once, it lets columns enter that the better ones, once they are in, make superfluous.
"""

from __future__ import annotations

import numpy as np

from .compiler import compiled
from .pivots import (
    AT_LOWER,
    AT_UPPER,
    AT_ZERO,
    append,
    correlate,
    is_dependent,
    largest,
    multiply,
    project,
    remove,
    rest,
)

ENTER = 1e-12  # violation of the conditions of optimality, relative to the largest |D^T x|, that counts
SHARE = 0.5  # of the largest violation: what makes a column a candidate
CANDIDATES = 64  # at most
STILL = 0.3  # of the largest violation: what a candidate must still have when its turn comes
DEEP = 0.02  # of the largest |D^T x|: smaller weights are reached by steps
FALL = 0.5  # of the weight on its way to lam
LOOSE = 0.3  # violation, relative to a weight above lam, at which it falls
ROUNDING = 1e-13  # error of the correlations on the support, relative to the largest |D^T x|, to be corrected
DRIFT = 1e-9  # what is left of it after a correction that asks for a fresh inverse
REPAIRS = 3  # corrections in a row


@compiled
def minimise_on_support(system, support, lam):
    """Go to the minimiser on the support; what reaches a bound on the way leaves. Returns the columns that left."""
    members, signs, values, g, z = support.members, support.signs, support.values, support.g, support.z
    left = 0
    while support.size[0] > 0:
        k = support.size[0]
        # M times the error of the correlations: corrects the rounding of M as it goes.
        for i in range(k):
            row = system.gram[system.slot[members[i]]]
            total = support.right[members[i]] - lam * signs[i]
            for t in range(k):
                total -= row[members[t]] * values[t]
            g[i] = total
        multiply(support.M, k, g, z)
        step, first, at_bound = _first_bound(system, support, 1.0, 1.0)
        for i in range(k):
            values[i] += step * z[i]
        if first < 0:
            break
        remove(system, support, first, at_bound)
        left += 1
    return left


@compiled
def _first_bound(system, support, direction, step):
    """How far, at most `step`, the values may move along ``direction * z``, what stops them, and at which end."""
    first, at_bound = -1, False
    for i in range(support.size[0]):
        size = support.signs[i] * support.values[i]
        change = support.signs[i] * support.z[i] * direction
        if size + step * change <= 0.0:
            limit = -size / change if size > 0.0 else 0.0
            if first < 0 or limit < step:
                step, first, at_bound = limit, i, False
        elif system.bounded and size + step * change >= system.upper[support.members[i]]:
            limit = max(0.0, (system.upper[support.members[i]] - size) / change)
            if first < 0 or limit < step:
                step, first, at_bound = limit, i, True
    return step, first, at_bound


@compiled
def enter(system, support, j, correlation, lam):
    """Move column j off zero or its bound until the objective rises or something reaches a bound.

    Returns whether the code is the minimiser on its support afterwards.
    """
    rested = support.place[j]
    if rested == AT_ZERO:
        sign = 1.0 if correlation > 0.0 else -1.0
        direction, slope, value = sign, abs(correlation) - lam, 0.0
    else:
        sign = 1.0 if rested == AT_UPPER else -1.0
        direction, slope, value = -sign, lam - sign * correlation, sign * system.upper[j]
    while True:
        distance = project(system, support, j)
        dependent = is_dependent(system, support, j, distance)
        wanted = np.inf if dependent else slope / distance
        # To the other end of its own interval.
        room = system.upper[j] - sign * value if direction == sign else sign * value
        step, first, at_bound = _first_bound(system, support, -direction, min(wanted, room))
        if step == np.inf:  # rounding: a direction without curvature has no end
            return True
        for i in range(support.size[0]):
            support.values[i] -= direction * step * support.z[i]
        value += direction * step
        if first < 0 and room <= wanted:  # it rests at its other end
            if system.bounded:
                rest(system, support, j, sign if direction == sign else 0.0)
            return True
        if not dependent:
            if rested != AT_ZERO:
                rest(system, support, j, 0.0)
            append(support, j, sign, value, distance)
            return first < 0
        remove(system, support, first, at_bound)


@compiled
def refactor(system, support):
    """The inverse from scratch; a column that depends on those before it goes to zero."""
    old = support.size[0]
    support.size[0] = 0
    for i in range(old):  # an entry is read before its slot is written
        j, sign, value = support.members[i], support.signs[i], support.values[i]
        distance = project(system, support, j)
        if not is_dependent(system, support, j, distance):
            append(support, j, sign, value, distance)
        else:
            support.place[j] = AT_ZERO


@compiled
def violation(correlation, place, lam, positive):
    """By how much a column off the support misses its condition of optimality: above 0 where it should enter."""
    if place == AT_UPPER:
        return lam - correlation
    if place == AT_LOWER:
        return lam + correlation
    return (correlation if positive else abs(correlation)) - lam


@compiled
def price(c, place, lam, positive, bounded, out):
    """The violations of all columns, in `out`, 0 on the support; returns the largest, or 0."""
    for j in range(len(c)):
        missed = (c[j] if positive else abs(c[j])) - lam  # spelt out: without branches it vectorises
        out[j] = missed if place[j] == AT_ZERO else 0.0
    if bounded:
        for j in range(len(c)):
            if place[j] < AT_ZERO:
                out[j] = violation(c[j], place[j], lam, positive)
    return largest(out)


@compiled
def correlation_of(system, support, j):
    """Of column j with the residual; does not ask for a row of the Gram matrix that is not there."""
    total, r = support.right[j], system.slot[j]
    for t in range(support.size[0]):
        if r >= 0:
            total -= system.gram[r, support.members[t]] * support.values[t]
        else:
            total -= system.gram[system.slot[support.members[t]], j] * support.values[t]
    return total


@compiled
def active_set(system, support, top, lam, max_changes):
    """Solve from the support at hand. `top` is the largest |D^T x|. Returns the changes of the support."""
    place, c, missed, candidates = support.place, support.c, support.q, support.candidates
    changes, repairs = 0, 0
    goal = lam
    if support.size[0] == 0 and goal < DEEP * top < np.inf:
        lam = FALL * top
    while changes < max_changes:
        correlate(system, support)
        error = 0.0
        for i in range(support.size[0]):
            error = max(error, abs(c[support.members[i]] - lam * support.signs[i]))
        if error > ROUNDING * top and repairs < REPAIRS:
            if error > DRIFT * top and repairs > 0:
                refactor(system, support)
            changes += minimise_on_support(system, support, lam)
            repairs += 1
            continue
        repairs = 0
        worst = price(c, place, lam, system.positive, system.bounded, missed)
        if lam > goal and worst <= LOOSE * lam:
            lam = max(goal, FALL * lam)
            continue
        if worst <= ENTER * top:
            break
        number, share = 0, SHARE
        while number == 0 or number == CANDIDATES:  # too many: only the better ones
            number = 0
            for j in range(len(c)):
                if missed[j] >= share * worst and number < CANDIDATES:
                    candidates[number] = j
                    number += 1
            share = (1.0 + share) / 2
            if share > 0.999:
                break
        stale = False  # whether `missed` is that of an earlier code
        while number > 0 and changes < max_changes:
            best, strongest = -1, STILL * worst
            for i in range(number):
                j = candidates[i]
                if stale:
                    c[j] = correlation_of(system, support, j)
                    missed[j] = violation(c[j], place[j], lam, system.positive)
                if missed[j] > strongest:
                    best, strongest = i, missed[j]
            if best < 0:
                break
            j = candidates[best]
            number -= 1
            candidates[best] = candidates[number]
            changes += 1
            if not enter(system, support, j, c[j], lam):
                changes += minimise_on_support(system, support, lam)
            stale = True
    return changes
