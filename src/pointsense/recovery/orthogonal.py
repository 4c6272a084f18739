"""The active set by orthogonal factors, for what the Gram matrix is too ill-conditioned for.

Squaring D squares its condition: the inverse of D_p^T D_p loses columns that lie within 3e-6 of the span of others,
and with them what they explain of x. A QR factorisation of D_p itself resolves 1e-13. It costs one a change of the
support, a right-hand side at a time: a rescue, no method.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .problem import Problem

Array = NDArray[np.float64]

DEPENDENT = 1e-13  # distance to the span of the support, relative, below which a column counts as in it
ENTER = 1e-13  # violation of the conditions of optimality, relative to the largest |D^T x|, that counts


def orthogonal_active_set(problem: Problem, max_changes: int) -> tuple[Tensor, Tensor]:
    """Codes (B, n) and changes of the support (B,) of a problem in float64, on the CPU."""
    D = problem.D.cpu().numpy()
    n = D.shape[1]
    upper = np.full(n, np.inf) if problem.upper is None else problem.upper.cpu().numpy()
    code, changes = np.zeros((len(problem.X), n)), np.zeros(len(problem.X), dtype=np.int64)
    bounded = problem.positive or problem.upper is not None
    for b, x in enumerate(problem.X.cpu().numpy()):
        if problem.lam[b] == 0 and not bounded:  # plain least squares
            code[b] = np.linalg.lstsq(D, x)[0]
            continue
        with np.errstate(over="ignore", invalid="ignore"):  # the certificate tells
            changes[b] = _solve(x, D, float(problem.lam[b]), upper, problem.positive, max_changes, code[b])
    return torch.from_numpy(code).to(problem.X), torch.from_numpy(changes).to(problem.X.device)


def _solve(x: Array, D: Array, lam: float, upper: Array, positive: bool, max_changes: int, a: Array) -> int:
    """Fill a (n,), zero at first; returns the changes of the support."""
    lengths = np.linalg.norm(D, axis=0)
    top = np.abs(x @ D).max()
    support: list[int] = []
    signs = np.zeros(D.shape[1])
    for change in range(max_changes):
        _minimise(x, D, lam, upper, a, support, signs)
        c = (x - D @ a) @ D
        missed = (c if positive else np.abs(c)) - lam
        missed = np.where(a != 0, lam - np.sign(a) * c, missed)
        missed[support] = -np.inf
        j = int(missed.argmax())
        if missed[j] <= ENTER * top:
            return change
        rested = a[j] != 0
        signs[j] = np.sign(a[j]) if rested else np.sign(c[j])
        heading = -signs[j] if rested else signs[j]
        while True:
            Q, R = np.linalg.qr(D[:, support])
            along = Q.T @ D[:, j]
            off = D[:, j] - Q @ along
            correction = Q.T @ off
            distance = float(np.linalg.norm(off - Q @ correction))
            dependent = distance <= DEPENDENT * lengths[j] or len(support) >= min(D.shape)
            direction = -heading * np.linalg.solve(R, along + correction) if support else np.zeros(0)
            step = min(upper[j], np.inf if dependent else missed[j] / distance**2)
            step, first = _first_bound(a[support], direction, signs[support], upper[support], step)
            if not np.isfinite(step):
                return change  # rounding: a direction without curvature has no end
            a[support] += step * direction
            a[j] += heading * step
            if first >= 0:
                _rest(a, support.pop(first), signs, upper)
            if first < 0 or not dependent:
                break
        if upper[j] <= step:
            a[j] = 0.0 if rested else signs[j] * upper[j]
        elif not dependent:
            support.append(j)
    return max_changes


def _minimise(
    x: Array, D: Array, lam: float, upper: Array, a: Array, support: list[int], signs: Array
) -> None:
    """Go to the minimiser on the support; what reaches a bound on the way leaves."""
    while support:
        Q, R = np.linalg.qr(D[:, support])
        right = np.linalg.solve(R.T, lam * signs[support])
        direction = np.linalg.solve(R, Q.T @ (x - D @ a) - right)
        step, first = _first_bound(a[support], direction, signs[support], upper[support], 1.0)
        a[support] += step * direction
        if first < 0:
            return
        _rest(a, support.pop(first), signs, upper)


def _first_bound(a: Array, direction: Array, signs: Array, upper: Array, step: float) -> tuple[float, int]:
    """How far, at most `step`, a may move along the direction, and what stops it, or -1."""
    size, change = signs * a, signs * direction
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = np.where(change < 0, np.maximum(size, 0) / -change, np.inf)
        limit = np.where((size <= 0) & (change <= 0), 0.0, limit)
        limit = np.where(change > 0, np.maximum(upper - size, 0) / change, limit)
    if len(limit) == 0 or limit.min() > step:
        return step, -1
    return float(limit.min()), int(limit.argmin())


def _rest(a: Array, j: int, signs: Array, upper: Array) -> None:
    """Put column j to the bound that it is at."""
    a[j] = signs[j] * upper[j] if 2 * signs[j] * a[j] > upper[j] else 0.0
