"""Equations (5)-(9) over rows of right-hand sides (derivations: `pointsense.recovery.gradients`)."""

from __future__ import annotations

import numpy as np

from .compiler import allocating, compiled

SINGULAR = 1e-12  # Cholesky pivots below this fraction of their diagonal entry count as zero


@compiled
def _multiply_packed(inverse, at, k, g, u):
    """``u = M g`` from the lower triangle of M that begins at `at`."""
    for i in range(k):
        u[i] = 0.0
    for i in range(k):
        total, gi = 0.0, g[i]
        for t in range(i):
            total += inverse[at + t] * g[t]
            u[t] += inverse[at + t] * gi
        u[i] += total + inverse[at + i] * gi
        at += i + 1


@compiled
def _cholesky_solve(gram, members, k, ridge, g, L, u):
    """``u = (D_p^T D_p + ridge I)^-1 g``; whether the matrix is regular."""
    for i in range(k):
        row = gram[members[i]]
        for t in range(i + 1):
            L[i, t] = row[members[t]]
        L[i, i] += ridge
    for i in range(k):
        for t in range(i):
            total = L[i, t]
            for s in range(t):
                total -= L[i, s] * L[t, s]
            L[i, t] = total / L[t, t]
        pivot = own = L[i, i]
        for s in range(i):
            pivot -= L[i, s] * L[i, s]
        if not pivot > SINGULAR * own:
            return False
        L[i, i] = np.sqrt(pivot)
    for i in range(k):
        total = g[i]
        for s in range(i):
            total -= L[i, s] * u[s]
        u[i] = total / L[i, i]
    for i in range(k - 1, -1, -1):
        u[i] /= L[i, i]
        for s in range(i):
            u[s] -= L[i, s] * u[i]
    return True


@allocating
def pull_back_rows(
    columns, gram, X, code, grad, sizes, members, inverse, rough, exact, ridge, dX, d_columns, d_lam, singular
):
    """Gradients of the rows' codes; `d_columns` (n, m) is added to, what follows grad is as for `solve_rows`.

    gram : (n, n), for the exact rule where no inverse is kept (`inverse` empty).
    rough : share of g by which D_p^T D_p u may miss it.
    singular (B,) : written to, also where rounding has left too little of the inverse; such rows are left out.
    """
    n, m = columns.shape
    largest = 0
    for b in range(len(X)):
        largest = max(largest, sizes[b])
    L = np.empty((largest, largest)) if exact and len(inverse) == 0 else np.empty((0, 0))
    g, u, along, residual = np.empty(largest), np.empty(largest), np.empty(m), np.empty(m)
    first, at = 0, 0
    for b in range(len(X)):
        k = sizes[b]
        p = members[first : first + k]
        first += k
        for i in range(k):
            g[i] = grad[b, p[i]]
            u[i] = g[i]
        singular[b] = False
        if exact and len(inverse) > 0:
            _multiply_packed(inverse, at, k, g, u)
            at += k * (k + 1) // 2
        elif exact and not _cholesky_solve(gram, p, k, ridge, g, L, u):
            singular[b] = True
            continue
        d_lam[b] = 0.0
        for t in range(m):
            along[t] = 0.0
            residual[t] = X[b, t]
        for i in range(k):
            column, ui = columns[p[i]], u[i]
            for t in range(m):
                along[t] += ui * column[t]
            d_lam[b] -= ui if code[b, p[i]] > 0 else -ui
        if exact and len(inverse) > 0:
            bound = 0.0
            for i in range(k):
                bound = max(bound, rough * abs(g[i]))
            for i in range(k):
                total, column = -g[i], columns[p[i]]
                for t in range(m):
                    total += along[t] * column[t]
                if not abs(total) <= bound:  # also where M overflows
                    singular[b] = True
            if singular[b]:
                continue
        for t in range(m):
            dX[b, t] = along[t]
        if len(d_columns) == 0:
            continue
        for j in range(n):
            a = np.float64(code[b, j])
            if a != 0.0:
                column, row = columns[j], d_columns[j]
                for t in range(m):
                    residual[t] -= a * column[t]
                    row[t] -= a * along[t]
        for i in range(k):
            row, ui = d_columns[p[i]], u[i]
            for t in range(m):
                row[t] += ui * residual[t]
