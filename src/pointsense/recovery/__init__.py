"""Sparse recovery: solvers of the lasso with certificates, and a differentiable layer around them.

Liftable: needs torch and numpy (and numba, for speed, where it is installed); a copy of this folder works under
any name. See docs/recovery.md.
"""

from .certificate import duality_gap, lam_max, objective, relative_gap
from .greedy import omp
from .layer import SparseRecovery
from .lista import LISTA
from .noise import debias, lam_from_noise, weights_from_noise
from .problem import LassoResult, Status
from .solve import ConvergenceWarning, lasso, sparse_code

__all__ = [
    "LISTA",
    "ConvergenceWarning",
    "LassoResult",
    "SparseRecovery",
    "Status",
    "debias",
    "duality_gap",
    "lam_from_noise",
    "lam_max",
    "lasso",
    "objective",
    "omp",
    "relative_gap",
    "sparse_code",
    "weights_from_noise",
]
