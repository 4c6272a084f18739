"""Orthogonal matching pursuit (Pati, Rezaiifar, Krishnaprasad 1993), the greedy alternative to the lasso."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor

from . import compiled
from .problem import DEPENDENT, check_number, check_system


def omp(x: Tensor, D: Tensor, k: int, *, tol: float = 0.0, backend: str = "auto") -> Tensor:
    """Least-squares code on at most k greedily chosen columns.

    Each step takes the column with the largest cosine to the residual and solves least squares on all columns
    chosen so far.

    Parameters
    ----------
    x : Tensor, (..., m)
    D : Tensor, (m, n)
        Zero columns are never chosen, nor those in the span of the chosen ones (to 3e-6 of their length).
    k : int
        Largest number of non-zeros.
    tol : float
        A right-hand side is finished once ``|x - D a| <= tol |x|``.
    backend : {"auto", "compiled", "torch"}
        As for `lasso`.

    Returns
    -------
    Tensor, (..., n)
        In the dtype of x; computed in float64, without gradient.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type, shape or value.
    """
    check_system(x, D)
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 0:
        raise ValueError(f"k must be a number of non-zeros, 0 or more, got {k!r}")
    check_number("tol", tol, above=False)
    rows, matrix, most = x.detach().double().reshape(-1, len(D)), D.detach().double(), min(int(k), *D.shape)
    with torch.no_grad():
        if compiled.serves(backend, x):
            from .compiled.driver import omp as solve

            code = solve(rows, matrix, most, tol)
        else:
            code = _omp(rows, matrix, most, tol)
    return code.to(x.dtype).reshape(*x.shape[:-1], D.shape[1])


def _omp(X: Tensor, D: Tensor, k: int, tol: float) -> Tensor:
    """Gram-Schmidt form: Q (B, m, k) spans the chosen columns ``D_p = Q R``, R (B, k, k)."""
    B, n = len(X), D.shape[1]
    lengths = D.norm(dim=0)
    Q, R = X.new_zeros(B, len(D), k), torch.eye(k, dtype=X.dtype, device=X.device).repeat(B, 1, 1)
    chosen = torch.zeros(B, k, dtype=torch.long, device=X.device)
    taken = torch.zeros(B, n, dtype=torch.bool, device=X.device)
    residual, size = X.clone(), X.norm(dim=-1)
    live = size > 0
    for j in range(k):
        live = live & (residual.norm(dim=-1) > tol * size)
        cosine = (residual @ D).abs() / lengths.clamp_min(torch.finfo(X.dtype).tiny)
        cosine = cosine.masked_fill(taken, 0)
        strength, column = cosine.max(dim=-1)
        live = live & (strength > 1e-14 * size)  # else nothing but rounding is left
        q = D.T[column]
        along = X.new_zeros(B, k)
        for _ in range(2):  # twice is enough (Giraud and others 2005)
            shadow = (q[:, None, :] @ Q)[:, 0]
            q, along = q - (Q @ shadow[..., None])[..., 0], along + shadow
        left = q.norm(dim=-1)
        live = live & (left.square() > DEPENDENT * lengths[column].square())
        if not bool(live.any()):
            break
        q = torch.where(live[:, None], q / left.clamp_min(torch.finfo(X.dtype).tiny)[:, None], 0)
        Q[:, :, j] = q
        R[live, :, j] = along[live]
        R[live, j, j] = left[live]
        chosen[live, j] = column[live]
        taken[live, column[live]] = True
        residual = residual - (q * residual).sum(-1, keepdim=True) * q
    target = (X[:, None, :] @ Q)[:, 0]  # zero where a row stopped early, and so is its coefficient
    values = torch.linalg.solve_triangular(R, target[..., None], upper=True)[..., 0]
    return X.new_zeros(B, n).scatter_add_(1, chosen, values)
