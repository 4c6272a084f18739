"""The duality gap of one right-hand side (formulas: `pointsense.recovery.certificate`)."""

from __future__ import annotations

import numpy as np

from .compiler import compiled
from .pivots import AT_LOWER, AT_UPPER, largest


@compiled
def relative_gap(system, support, x, code, lam):
    """Gap relative to 1/2 |x|^2, from the correlations `support.c` of the code; 0 for x = 0."""
    c, residual, upper = support.c, support.residual, system.upper
    n, m = len(c), len(x)
    energy, zero = 0.0, True
    for t in range(m):
        residual[t] = x[t]
        energy += x[t] * x[t]
        zero &= x[t] == 0.0
    if zero:
        return 0.0
    slack = 0.0
    for i in range(support.size[0]):
        column, a = system.columns[support.members[i]], support.values[i]
        for t in range(m):
            residual[t] -= a * column[t]
    if system.bounded:
        for j in range(n):
            if support.place[j] == AT_UPPER or support.place[j] == AT_LOWER:
                column = system.columns[j]
                for t in range(m):
                    residual[t] -= code[j] * column[t]
    left, along = 0.0, 0.0
    for t in range(m):
        left += residual[t] * residual[t]
        along += residual[t] * x[t]
    # The correlations that limit the dual point, of either sign.
    limits = support.q
    for j in range(n):
        limits[j] = c[j] if system.positive else abs(c[j])
        if system.bounded and upper[j] < np.inf:
            limits[j] = 0.0
    highest, lowest = largest(limits), 0.0
    if system.positive:
        for j in range(n):
            limits[j] = -c[j] if not system.bounded or upper[j] == np.inf else 0.0
        lowest = largest(limits)
    else:
        lowest = highest
    scale = 1.0 if system.bounded or left == 0.0 else along / left
    if scale * highest > lam:
        scale = lam / highest
    if -scale * lowest > lam:
        scale = -lam / lowest
    gap = (1.0 - scale) * (1.0 - scale) * left / 2
    for i in range(support.size[0]):
        a = support.values[i]
        slack += lam * abs(a) - scale * a * c[support.members[i]]
    if system.bounded:
        for j in range(n):
            if support.place[j] == AT_UPPER or support.place[j] == AT_LOWER:
                slack += lam * upper[j] - scale * code[j] * c[j]
            if upper[j] < np.inf:
                excess = scale * (c[j] if system.positive else abs(c[j])) - lam
                slack += upper[j] * max(excess, 0.0)
    ratio = (gap + slack) / (energy / 2)
    if not (ratio < np.inf and energy < np.inf):  # numbers overflow or vanish
        return np.inf
    return max(ratio, 0.0)
