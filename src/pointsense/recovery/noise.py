"""What noise has to do with the lasso: the weight that silences it, and the bias that the weight leaves."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .problem import check_system
from .systems import solve_on_support


def lam_from_noise(sigma: float | Tensor, D: Tensor) -> Tensor:
    """Weight that keeps white noise out of the support: ``sigma * max_i |D_i| * sqrt(2 ln n)``.

    Parameters
    ----------
    sigma : float or Tensor
        Standard deviation of the noise of one entry of ``x``, in the unit of ``x``.
    D : Tensor, (m, n)

    Returns
    -------
    Tensor
        Of the shape of `sigma`. The largest of the n correlations of pure noise with the columns exceeds it with
        a probability of about ``1 / sqrt(pi ln n)`` at most, 0.2 for n = 368 columns of one length, and far less
        where few are the longest (the universal threshold of Donoho and Johnstone 1994).
    """
    longest = torch.linalg.vector_norm(D, dim=0).amax()
    return sigma * longest * math.sqrt(2 * math.log(D.shape[1]))


def weights_from_noise(D: Tensor) -> Tensor:
    """Column lengths relative to the largest, for `weights`: then each column resists noise by as much. (n,).

    With ``lam = lam_from_noise(sigma, D)`` the weight of column i is ``sigma |D_i| sqrt(2 ln n)``. A column of
    zeros, which never enters, gets 1.
    """
    lengths = torch.linalg.vector_norm(D, dim=0)
    return torch.where(lengths > 0, lengths / lengths.amax(), 1)


def debias(code: Tensor, x: Tensor, D: Tensor, *, threshold: float | Tensor = 0.0) -> Tensor:
    """Least squares on the entries above a threshold: takes back by how much lam shrinks a code.

    Parameters
    ----------
    code : Tensor, (..., n)
        Of `lasso`, for example.
    x : Tensor, (..., m)
    D : Tensor, (m, n)
    threshold : float or Tensor, broadcast to (..., n)
        Entries of ``|code|`` up to it become 0.

    Returns
    -------
    Tensor, (..., n)
        In the dtype of `code`, without gradient; of minimum norm where the columns left are dependent. Signs can
        turn: an entry that needs the lasso's bias to keep its sign was not in the signal.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or shape.
    """
    check_system(x, D)
    if not isinstance(code, Tensor):
        raise TypeError(f"code must be a torch.Tensor, got {type(code).__name__}")
    if code.shape != (*x.shape[:-1], D.shape[1]):
        raise ValueError(f"code must be of shape {(*x.shape[:-1], D.shape[1])}, got {tuple(code.shape)}")
    with torch.no_grad():
        support = (code.abs() > threshold).reshape(-1, D.shape[1])
        D64, X = D.double(), x.double().reshape(-1, len(D))
        return solve_on_support(D64, support, X @ D64)[0].to(code.dtype).reshape(code.shape)
