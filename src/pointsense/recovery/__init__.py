"""Sparse recovery: solvers of the lasso with certificates, and a differentiable layer around them.

Liftable: needs torch and numpy, imports nothing else of the package. See docs/recovery.md.
"""

from pointsense.recovery.greedy import omp
from pointsense.recovery.layer import SparseRecovery
from pointsense.recovery.lista import LISTA
from pointsense.recovery.problem import (
    LassoResult,
    duality_gap,
    lam_from_noise,
    lam_max,
    objective,
    relative_gap,
)
from pointsense.recovery.solve import ConvergenceWarning, lasso, sparse_code

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
