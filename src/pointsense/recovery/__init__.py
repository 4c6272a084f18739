"""Sparse recovery: solvers of the lasso with certificates, and a differentiable layer around them.

Liftable: needs torch and numpy, and a copy of this folder works under any name. See docs/recovery.md.
"""

from .greedy import omp
from .layer import SparseRecovery
from .lista import LISTA
from .problem import (
    LassoResult,
    duality_gap,
    lam_from_noise,
    lam_max,
    objective,
    relative_gap,
)
from .solve import ConvergenceWarning, lasso, sparse_code

__all__ = [
    "LISTA",
    "ConvergenceWarning",
    "LassoResult",
    "SparseRecovery",
    "duality_gap",
    "lam_from_noise",
    "lam_max",
    "lasso",
    "objective",
    "omp",
    "relative_gap",
    "sparse_code",
]
