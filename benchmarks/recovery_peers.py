"""Other people's solvers of the lasso, each as a function of the same problem; those not installed are left out.

Every function takes x (B, m), D (m, n), lam (B,) and a tolerance, and returns codes (B, n), all NumPy float64. What
a library can be given once for all right-hand sides (the Gram matrix, memory order) is prepared outside the loop.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Solve = Callable[[Array, Array, Array, float], Array]

TOLERANCES = tuple(10.0**-k for k in range(1, 13))


def installed_version(package: str) -> str | None:
    """None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Peer:
    """A solver of somebody else.

    Attributes
    ----------
    name : str
    solve : callable
    package : str
        What has to be installed.
    exact : bool
        It has no tolerance.
    fast : bool
        Quick enough for all right-hand sides; others get some of them.
    """

    name: str
    solve: Solve
    package: str
    exact: bool = False
    fast: bool = False

    @property
    def version(self) -> str | None:
        """None where it is not installed."""
        return installed_version(self.package)


def _fit_each(make: Callable[..., Any], x: Array, D: Array, lam: Array, **options: Any) -> Array:
    """Fit an estimator to each right-hand side; these divide the data term by the number of rows."""
    columns, code = np.asfortranarray(D), np.empty((len(x), D.shape[1]))
    for i, row in enumerate(x):
        code[i] = make(lam[i] / len(row), fit_intercept=False, **options).fit(columns, row).coef_
    return code


def _sklearn_lasso(x: Array, D: Array, lam: Array, tol: float, gram: bool = False) -> Array:
    from sklearn.linear_model import Lasso

    return _fit_each(Lasso, x, D, lam, tol=tol, max_iter=100_000, precompute=D.T @ D if gram else False)


def _sklearn_lasso_gram(x: Array, D: Array, lam: Array, tol: float) -> Array:
    return _sklearn_lasso(x, D, lam, tol, gram=True)


def _sparse_encode(x: Array, D: Array, lam: Array, algorithm: str, **options: Any) -> Array:
    from sklearn.decomposition import sparse_encode

    gram, code = D.T @ D, np.empty((len(x), D.shape[1]))
    if np.ptp(lam) == 0:
        return sparse_encode(x, D.T, gram=gram, algorithm=algorithm, alpha=lam[0], n_jobs=1, **options)
    for i, row in enumerate(x):
        encoded = sparse_encode(
            row[None], D.T, gram=gram, algorithm=algorithm, alpha=lam[i], n_jobs=1, **options
        )
        code[i] = encoded[0]
    return code


def _sparse_encode_lars(x: Array, D: Array, lam: Array, tol: float) -> Array:
    return _sparse_encode(x, D, lam, "lasso_lars", max_iter=10_000)


def _sparse_encode_cd(x: Array, D: Array, lam: Array, tol: float) -> Array:
    """Its tolerance cannot be set: 1e-4 of scikit-learn's own scale."""
    return _sparse_encode(x, D, lam, "lasso_cd", max_iter=100_000)


def _spams(x: Array, D: Array, lam: Array, tol: float) -> Array:
    import spams

    # One weight for all: x / lam with a weight of 1 has the code a / lam.
    scaled = np.asfortranarray((x / lam[:, None]).T)
    code = spams.lasso(scaled, np.asfortranarray(D), lambda1=1.0, mode=spams.PENALTY, numThreads=1)
    return np.asarray(code.todense()).T * lam[:, None]


def _celer(x: Array, D: Array, lam: Array, tol: float) -> Array:
    from celer import Lasso

    return _fit_each(Lasso, x, D, lam, tol=tol, max_iter=1000)


def _skglm(x: Array, D: Array, lam: Array, tol: float) -> Array:
    from skglm import Lasso

    return _fit_each(Lasso, x, D, lam, tol=tol, max_iter=1000)


def _pytorch_lasso(x: Array, D: Array, lam: Array, tol: float) -> Array:
    import torch
    from lasso.linear import sparse_encode

    unit = lam[:, None]  # one weight for all, as above
    code = sparse_encode(
        torch.from_numpy(x / unit),
        torch.from_numpy(D),
        alpha=1.0,
        algorithm="ista",
        fast=True,
        tol=tol,
        maxiter=10_000,
    )
    return code.numpy() * unit


LASSO_PEERS = (
    Peer("scikit-learn Lasso", _sklearn_lasso, "scikit-learn"),
    Peer("scikit-learn Lasso, Gram matrix", _sklearn_lasso_gram, "scikit-learn"),
    Peer("scikit-learn sparse_encode, lars", _sparse_encode_lars, "scikit-learn", exact=True),
    Peer("scikit-learn sparse_encode, cd", _sparse_encode_cd, "scikit-learn", exact=True),
    Peer("SPAMS", _spams, "spams-bin", exact=True, fast=True),
    Peer("celer", _celer, "celer"),
    Peer("skglm", _skglm, "skglm"),
    Peer("pytorch-lasso FISTA", _pytorch_lasso, "pytorch-lasso"),
)


def _spams_omp(x: Array, D: Array, k: int) -> Array:
    import spams

    code = spams.omp(np.asfortranarray(x.T), np.asfortranarray(D), L=k, numThreads=1)
    return np.asarray(code.todense()).T


def _sklearn_omp(x: Array, D: Array, k: int) -> Array:
    from sklearn.linear_model import orthogonal_mp_gram

    return orthogonal_mp_gram(D.T @ D, D.T @ x.T, n_nonzero_coefs=k).T


#: Solvers by orthogonal matching pursuit, of columns of length 1, and their packages.
OMP_PEERS: dict[str, tuple[Callable[[Array, Array, int], Array], str]] = {
    "scikit-learn orthogonal_mp_gram": (_sklearn_omp, "scikit-learn"),
    "SPAMS omp": (_spams_omp, "spams-bin"),
}


def loosest_tolerance(
    peer: Peer, x: Array, D: Array, lam: Array, gap_of: Callable[[Array], float], aim: float
) -> float:
    """The largest tolerance with which the recomputed gap of every code is within `aim`; NaN if none is."""
    if peer.exact:
        return 0.0
    for tol in TOLERANCES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if gap_of(peer.solve(x, D, lam, tol)) <= aim:
                return tol
    return float("nan")
