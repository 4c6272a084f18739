"""Random lasso problems of the paper's size, with what breaks solvers among them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

M, N = 112, 368


def sensing_matrix(seed: int, m: int = M, n: int = N) -> Tensor:
    """iid N(0, 1/m); odd seeds have duplicate, opposite and zero columns, every fourth is +-1/sqrt(m)."""
    generator = torch.Generator().manual_seed(seed)
    D = torch.randn(m, n, generator=generator, dtype=torch.float64) / m**0.5
    if seed % 4 == 3:
        D = torch.sign(D) / m**0.5
    if seed % 2:
        D[:, 10:20] = D[:, 30:40]
        D[:, 50:55] = -D[:, 60:65]
        D[:, 70:75] = 0
    return D


def measurements(
    D: Tensor, count: int, seed: int, noise: float = 0.02, nonzeros: tuple[int, int] = (1, 8)
) -> Tensor:
    """Measured codes of so many non-zeros of 30 to 400 px, with relative noise; the first is zero: (B, m)."""
    generator = torch.Generator().manual_seed(1000 + seed)
    m, n = D.shape
    code = torch.zeros(count, n, dtype=torch.float64)
    for row in code:
        k = int(torch.randint(nonzeros[0], min(nonzeros[1], n) + 1, (1,), generator=generator))
        row[torch.randperm(n, generator=generator)[:k]] = 30 + 370 * torch.rand(
            k, generator=generator, dtype=torch.float64
        )
    x = code @ D.T
    level = noise * x.norm(dim=1, keepdim=True) / m**0.5
    x = x + level * torch.randn(count, m, generator=generator, dtype=torch.float64)
    x[0] = 0
    return x


KINDS = ("gauss", "sign", "smooth", "parallel", "integers", "low rank", "scales")


def random_problem(seed: int) -> tuple[Tensor, Tensor, float]:
    """One right-hand side x (m,), a matrix D (m, n) and a weight, of any size and often degenerate.

    Columns may be equal, opposite, zero, nearly parallel or of a low rank, their lengths from 1e-3 to 1e3; x exact,
    noisy, zero, noise alone, or small integers (ties), in units from 1e-6 to 1e6; lam from 0 to above lam_max.
    """
    rng = np.random.default_rng(seed)
    m = int(rng.choice([1, 2, 3, 5, 8, 16, 30, 60, 112]))
    n = int(rng.choice([1, 2, 3, 6, 10, 25, 60, 120, 200, 368]))
    kind = rng.choice(KINDS)
    D = rng.standard_normal((m, n))
    if kind == "sign":
        D = np.sign(D)
    elif kind == "smooth" and n >= 19:
        kernel = np.exp(-0.5 * (np.arange(-9, 10) / rng.choice([1, 2, 3])) ** 2)
        D = np.stack([np.convolve(row, kernel, "same") for row in D])
    elif kind == "parallel":
        D = rng.choice([0.9, 0.99, 0.999]) * D[:, :1] + 0.1 * D
    elif kind == "integers":
        D = rng.integers(-1, 2, (m, n)).astype(float)
    elif kind == "low rank":
        rank = max(1, min(m, n) // 2)
        D = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n))
    elif kind == "scales":
        D = D * 10.0 ** rng.uniform(-3, 3, n)
    degenerate = rng.random()
    if degenerate < 0.25 and n > 3:
        D[:, n // 3], D[:, n // 2] = D[:, 0], -D[:, 0]
    elif degenerate < 0.4:
        D[:, ::3] = 0
    elif degenerate < 0.5:
        D[:, n // 2 :] = D[:, : n - n // 2]
    k = int(rng.integers(0, min(n, max(1, m // 2)) + 1))
    code = np.zeros(n)
    code[rng.permutation(n)[:k]] = rng.uniform(30, 400, k) * rng.choice([-1, 1], k)
    x = D @ code
    x = x + rng.choice([0, 0, 0.02, 0.1, 0.5]) * np.linalg.norm(x) / m**0.5 * rng.standard_normal(m)
    special = rng.random()
    if kind == "integers" and special < 0.5:
        x = rng.integers(-3, 4, m).astype(float)
    elif 0.5 <= special < 0.52:
        x = 0 * x
    elif 0.52 <= special < 0.57:
        x = rng.standard_normal(m)
    x = x * 10.0 ** rng.choice([0, 0, 0, -6, 6])
    fraction = rng.choice([0, 1e-6, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.5, 0.9, 1.0, 1.5])
    return torch.from_numpy(x), torch.from_numpy(D), float(fraction * np.abs(x @ D).max())
