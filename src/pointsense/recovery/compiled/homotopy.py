"""Homotopy (LARS with the lasso's drops): the solution path from the largest weight down to lam.

Osborne, Presnell, Turlach 2000; Efron, Hastie, Johnstone, Tibshirani 2004. While the support p and its signs s
hold, lowering the weight by t moves the code by ``t w``, ``w = M s``, and the correlations c of the residual by
``-t q``, ``q = D^T D_p w``. A column joins when its correlation reaches the weight, leaves when its value reaches
a bound, and comes back from its upper bound when its correlation falls to the weight. Where events coincide (ties,
dependent columns) the direction is not that simple: there the path is left, and the active set goes on.
"""

from __future__ import annotations

import numpy as np

from .active_set import active_set
from .compiler import compiled
from .pivots import (
    AT_LOWER,
    AT_UPPER,
    AT_ZERO,
    append,
    correlate,
    is_dependent,
    multiply,
    project,
    remove,
    rest,
    subtract_products,
)

TIES = 8  # events in a row at one weight, after which the path is left


@compiled
def _next_join(system, support, level):
    """The column whose correlation meets the falling weight first, and after which fall."""
    c, q, place = support.c, support.q, support.place
    first, fall = -1, np.inf
    for j in range(len(c)):
        if place[j] == AT_ZERO:
            # Of the two sides the one that c - t q heads for; the other cannot be met before.
            sign = 1.0 if system.positive or c[j] > level * q[j] else -1.0
            speed = 1.0 - sign * q[j]
            t = (level - sign * c[j]) / speed if speed > 0.0 else np.inf
        elif place[j] == AT_UPPER or place[j] == AT_LOWER:
            sign = 1.0 if place[j] == AT_UPPER else -1.0
            speed = sign * q[j] - 1.0
            t = (sign * c[j] - level) / speed if speed > 0.0 else np.inf
        else:
            t = np.inf
        if t < fall:
            first, fall = j, t
    return first, max(fall, 0.0)


@compiled
def homotopy(system, support, top, lam, max_changes):
    """Follow the path from an empty support. Returns the changes; unfinished, the code is that of a larger weight."""
    c, q, g, z = support.c, support.q, support.g, support.z
    members, signs, values = support.members, support.signs, support.values
    n = len(c)
    for j in range(len(c)):
        c[j] = support.right[j]
    level, joining = 0.0, -1
    for j in range(n):
        size = c[j] if system.positive else abs(c[j])
        if size > level:
            level, joining = size, j
    changes, ties = 0, 0
    while level > lam and changes < max_changes and ties < TIES:
        if joining >= 0:
            distance = project(system, support, joining)
            if is_dependent(system, support, joining, distance):
                break
            rested = support.place[joining]
            sign = 1.0 if c[joining] > 0.0 else -1.0
            value = 0.0
            if rested != AT_ZERO:
                value = sign * system.upper[joining]
                rest(system, support, joining, 0.0)
            append(support, joining, sign, value, distance)
        k = support.size[0]
        multiply(support.M, k, signs, z)  # w
        for j in range(n):
            q[j] = 0.0
        for i in range(k):
            g[i] = -z[i]
        subtract_products(system, support, g, q)
        joining, fall = _next_join(system, support, level)
        leaving, at_bound = -1, False
        for i in range(k):
            size, speed = signs[i] * values[i], signs[i] * z[i]
            t = np.inf
            if speed < 0.0:
                t = max(-size / speed, 0.0)
            elif system.bounded and speed > 0.0:
                t = max((system.upper[members[i]] - size) / speed, 0.0)
            if t < fall:
                leaving, fall, joining, at_bound = i, t, -1, speed > 0.0
        if fall >= level - lam:
            for i in range(k):
                values[i] += (level - lam) * z[i]
            level = lam
            break
        changes += 1
        ties = ties + 1 if fall <= 1e-13 * top else 0
        for i in range(k):
            values[i] += fall * z[i]
        for j in range(n):
            c[j] -= fall * q[j]
        level -= fall
        if leaving >= 0:
            j, sign = members[leaving], signs[leaving]
            remove(system, support, leaving, at_bound)
            c[j] = sign * level
    if changes < max_changes:
        # Exact up to rounding, or left at ties: the active set corrects the one and goes on with the other.
        changes += active_set(system, support, top, lam, max_changes - changes)
    else:
        correlate(system, support)
    return changes
