"""Sensing matrices D, and how many entries of a signal their measurements can hold."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from pointsense.errors import UsageError

Kind = Literal["gaussian", "smoothed", "filtered", "fourier"]


class CapacityWarning(UserWarning):
    """A point set is too dense for the code that shall hold it."""


def sensing_matrix(
    m: int,
    n: int,
    kind: Kind = "gaussian",
    *,
    sigma: float = 2.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Sensing matrix D, a pure function of its arguments.

    - "gaussian" (the paper): entries iid N(0, 1/m). Codes of neighbouring bins are unrelated.
    - "smoothed": the rows are convolved with a Gaussian of `sigma` bins, so that the code changes
      continuously with the position and a network can learn it.
    - "filtered": additionally, the rows are filtered by |frequency|^(1/2). By Parseval's identity of the
      Radon transform, projections measured in this way keep the inner products of the (smoothed) images
      they come from: on sets of separated points the code is close to an isometry.
    - "fourier": what "filtered" tends to for many measurements, with few. The Gram matrix of its columns depends on
      their distance alone, so that its eigenvectors are cosines and sines: here those of the m / 2 lowest
      frequencies, weighted by the filter. Not random.

    Parameters
    ----------
    m, n : int
        Measurements and bins of an axis.
    kind : {"gaussian", "smoothed", "filtered", "fourier"}
    sigma : float
        Standard deviation of the Gaussian kernel in bins; "gaussian" does not use it.
    seed : int
        Of the random kinds.
    dtype : torch.dtype

    Returns
    -------
    Tensor, shape (m, n)
        The columns' norms are 1 on average (in expectation of their squares for "gaussian").

    Raises
    ------
    UsageError
        If a size is not positive, sigma negative or the kind unknown.
    """
    if m < 1 or n < 1:
        raise UsageError(f"a sensing matrix needs at least 1 measurement and 1 bin, found {m} x {n}")
    if kind not in get_args(Kind):
        raise UsageError(f"unknown sensing matrix {kind!r}; use {', '.join(get_args(Kind))}")
    if not sigma >= 0:
        raise UsageError(f"sigma, the width of the smoothing in bins, cannot be negative, found {sigma}")
    # Drawn in float64 on the CPU whatever the dtype: the same numbers everywhere.
    generator = torch.Generator().manual_seed(seed)
    if kind == "gaussian":
        return gaussian_columns(m, n, generator).to(dtype)
    if kind == "fourier":
        D = _fourier_rows(m, n, sigma)
    else:
        # Filtering is periodic; noise of twice the length keeps the two ends of the axis apart and all columns
        # alike.
        noise = gaussian_columns(m, 2 * n, generator)
        frequency = torch.fft.rfftfreq(2 * n, dtype=torch.float64)
        response = (_gaussian if kind == "smoothed" else _filter)(frequency, sigma)
        D = torch.fft.irfft(torch.fft.rfft(noise) * response, n=2 * n)[:, :n]
    return (D / torch.linalg.vector_norm(D, dim=0).mean()).to(dtype)


def _fourier_rows(m: int, n: int, sigma: float) -> Tensor:
    """Cosine and sine of 1, 2, ... turns over the axis, from its middle, as weighted by the filter: (m, n), float64."""
    number = torch.arange(m)
    frequency = ((number // 2 + 1) / n).double()[:, None]
    phase = 2 * math.pi * frequency * (torch.arange(n, dtype=torch.float64) - (n - 1) / 2)
    rows = torch.where((number % 2 == 0)[:, None], phase.cos(), phase.sin())
    return rows * _filter(frequency, sigma)


def _filter(frequency: Tensor, sigma: float) -> Tensor:
    """|f|^(1/2) times the transform of a Gaussian; f in cycles a bin."""
    return frequency.sqrt() * _gaussian(frequency, sigma)


def _gaussian(frequency: Tensor, sigma: float) -> Tensor:
    return torch.exp(-2 * (math.pi * sigma * frequency) ** 2)


def gaussian_columns(m: int, n: int, generator: torch.Generator) -> Tensor:
    """Entries iid N(0, 1/m), shape (m, n), float64."""
    return torch.randn(m, n, generator=generator, dtype=torch.float64) / math.sqrt(m)


def measure(signal: Tensor, D: Tensor) -> Tensor:
    """The dense code x = D a of each axis and channel.

    Parameters
    ----------
    signal : Tensor, shape (..., n)
    D : Tensor, shape (m, n)

    Returns
    -------
    Tensor, shape (..., m)
    """
    return signal @ D.T


def capacity(m: int, n: int) -> int:
    """Entries k of a signal of length n that m Gaussian measurements hold: the largest with 2 k ln(n/k) <= m.

    The leading term of the number of measurements at which l1 minimisation brings back every k-sparse signal
    with high probability [1]_; a guide, on the safe side without noise. Twice k cannot exceed m, or two
    signals would share a code.

    References
    ----------
    .. [1] V. Chandrasekaran, B. Recht, P. Parrilo, A. Willsky, "The convex geometry of linear inverse
       problems", Foundations of Computational Mathematics 12 (2012), proposition 3.10.

    Examples
    --------
    >>> capacity(112, 369)
    18
    """
    if m >= n:
        return n
    k = 0
    while 2 * (k + 1) <= m and 2 * (k + 1) * math.log(n / (k + 1)) <= m:
        k += 1
    return k
