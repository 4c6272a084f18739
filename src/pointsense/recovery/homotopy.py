"""Homotopy (LARS with the lasso's drops): the exact solution path from lam_max down to lam.

Osborne, Presnell, Turlach 2000; Efron, Hastie, Johnstone, Tibshirani 2004. On a support p with signs s the
solution is linear in the weight l, ``a_p = u - l w`` with ``u = G^-1 D_p^T x``, ``w = G^-1 s_p`` and
``G = D_p^T D_p``, and so are the correlations ``c = D^T (x - D a) = P + l Q``. The path is followed from one
change of the support to the next. Where changes coincide (ties, duplicate columns, a column that leaves as
another joins) the new direction solves a small least-squares problem, non-negative over the tied columns, by
the method of Lawson and Hanson; that is what keeps the path from cycling.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .problem import GRAM_LIMIT

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

TIE = 1e-10  # relative distance to the weight below which a correlation counts as tied
DEPENDENT = 1e-13  # relative Cholesky pivot below which a column counts as dependent on the support
PATH_END = 1e-13  # weight, relative to lam_max, that counts as zero


def homotopy(
    X: Tensor, D: Tensor, lam: Tensor, start: Tensor | None, tol: float, max_iter: int
) -> tuple[Tensor, Tensor]:
    """Exact solution of every right-hand side, in float64 on the CPU; `start` and `tol` are not used.

    Parameters
    ----------
    X : Tensor, (B, m)
    D : Tensor, (m, n)
    lam : Tensor, (B,)
    max_iter : int
        Changes of the support after which a path is left unfinished, at the weight reached.

    Returns
    -------
    code : Tensor, (B, n)
    iterations : Tensor, (B,), int64
        Linear pieces of the path.
    """
    path = _Path(D.double().cpu().numpy())
    weights = lam.double().cpu().numpy()
    code = np.zeros((len(X), D.shape[1]))
    iterations = np.zeros(len(X), dtype=np.int64)
    for i, x in enumerate(X.double().cpu().numpy()):
        code[i], iterations[i] = path.follow(x, float(weights[i]), max_iter)
    return torch.from_numpy(code).to(X), torch.from_numpy(iterations).to(X.device)


class _Path:
    """Solution paths of one sensing matrix."""

    def __init__(self, D: Array) -> None:
        self.columns = np.ascontiguousarray(D.T)  # (n, m): a column of D per row
        n = len(self.columns)
        self.gram = self.columns @ self.columns.T if n <= GRAM_LIMIT else None

    def follow(self, x: Array, target: float, max_iter: int) -> tuple[Array, int]:
        """Code at the weight `target`, and the number of linear pieces that lead to it."""
        correlation = projection = self.columns @ x
        lam = top = float(np.abs(projection).max())
        support, values = np.empty(0, dtype=np.intp), np.empty(0)
        code = np.zeros(len(projection))
        iteration = 0
        while lam > target and iteration < max_iter:
            iteration += 1
            signs = np.sign(correlation)
            tied = np.abs(correlation) >= lam * (1 - TIE)
            tied[support] = False
            right = np.stack([signs, projection], axis=1)
            support, w, u = self._direction(support, np.flatnonzero(tied), right)
            active = self.columns[support]
            P = self.columns @ (x - u @ active)
            Q = self.columns @ (w @ active)
            leaves = _leave_weights(u, w, signs[support], lam)
            P_off, Q_off = np.delete(P, support), np.delete(Q, support)
            joins = _join_weights(P_off, Q_off, np.delete(np.where(tied, signs, 0), support), lam)
            event = max(joins, leaves.max(initial=0.0))
            if event <= max(target, PATH_END * top):
                lam = target
                values = u - lam * w
                error = active @ (x - values @ active) - lam * signs[support]
                values = values + self._solve(support, error[:, None])[:, 0]  # iterative refinement
                break
            lam = event
            stay = leaves < lam * (1 - TIE)
            correlation = P + lam * Q
            correlation[support] = lam * signs[support]
            support, values = support[stay], (u - lam * w)[stay]
        code[support] = values
        return code, iteration

    def _direction(self, support: Indices, tied: Indices, right: Array) -> tuple[Indices, Array, Array]:
        """Support below the present weight, with its w and u: tied columns may only grow from zero.

        w minimises ``1/2 |D w|^2 - s^T w`` over the support and the tied columns, the latter with
        ``s_i w_i >= 0`` (then and only then no correlation exceeds the weight as it falls).
        """
        signs = right[:, 0]
        if len(tied) == 1:  # the common case: one factorisation tells
            joined = np.append(support, tied)
            line = self._solve_independent(joined, right[joined])
            if line is not None and line[-1, 0] * signs[tied[0]] > 0:
                return joined, line[:, 0], line[:, 1]
            tied = tied[:0]
        free = len(support)
        line = self._solve(support, right[support])
        growth = np.zeros(
            free
        )  # of the moving columns; used for the tied ones, which follow the first `free`
        dependent: list[int] = []
        for _ in range(3 * len(tied)):  # finite without rounding; the bound is for rounding
            idle = np.setdiff1d(tied, [*support, *dependent])
            rate = signs[idle] * (self.columns[idle] @ (line[:, 0] @ self.columns[support]))
            if rate.min(initial=np.inf) >= 1 - TIE:
                break
            entering = idle[rate.argmin()]
            trial, trial_growth = np.append(support, entering), np.append(growth, 0.0)
            while True:
                trial_line = self._solve_independent(trial, right[trial])
                if trial_line is None:
                    dependent.append(int(entering))
                    break
                wanted = signs[trial] * trial_line[:, 0]
                short = wanted <= 0
                short[:free] = False
                if not short.any():
                    support, growth, line = trial, wanted, trial_line
                    break
                # Go as far as no tied column turns negative; the first one to reach zero stops moving.
                step = np.full(len(trial), np.inf)
                step[short] = trial_growth[short] / (trial_growth[short] - wanted[short])
                last = int(step.argmin())
                trial_growth = np.delete(trial_growth + step[last] * (wanted - trial_growth), last)
                trial = np.delete(trial, last)
        return support, line[:, 0], line[:, 1]

    def _gram(self, support: Indices) -> Array:
        if self.gram is not None:
            return self.gram[support[:, None], support]
        active = self.columns[support]
        return active @ active.T

    def _solve_independent(self, support: Indices, right: Array) -> Array | None:
        """``G^-1 right``; None where the columns are linearly dependent."""
        if len(support) == 0:
            return right
        G = self._gram(support)
        factor, info = torch.linalg.cholesky_ex(torch.from_numpy(G))
        if int(info) or (factor.diagonal().numpy() ** 2 <= DEPENDENT * G.diagonal()).any():
            return None
        return torch.cholesky_solve(torch.from_numpy(right), factor).numpy()

    def _solve(self, support: Indices, right: Array) -> Array:
        """The same, with the minimum-norm solution where the columns are dependent."""
        line = self._solve_independent(support, right)
        if line is None:
            line = np.linalg.pinv(self._gram(support), rcond=DEPENDENT, hermitian=True) @ right
        return line


def _leave_weights(u: Array, w: Array, signs: Array, lam: float) -> Array:
    """Weight in [0, lam] at which each entry of the support reaches zero; 0 if it does not."""
    shrinking = signs * w < 0
    return np.where(shrinking, np.clip(u / np.where(shrinking, w, 1), 0, lam), 0)


def _join_weights(P: Array, Q: Array, tied_signs: Array, lam: float) -> float:
    """Largest weight below lam at which a correlation ``P + l Q`` reaches l or -l; 0 if none does."""
    with np.errstate(divide="ignore", invalid="ignore"):
        upper = np.where(tied_signs > 0, 0, P / (1 - Q))  # a tied correlation leaves its own bound
        lower = np.where(tied_signs < 0, 0, -P / (1 + Q))
    both = np.concatenate([upper, lower])
    return float(both[(both > 0) & (both < lam)].max(initial=0.0))
