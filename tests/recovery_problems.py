"""Random lasso problems of the paper's size, with what breaks solvers among them."""

from __future__ import annotations

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


def measurements(D: Tensor, count: int, seed: int, noise: float = 0.02) -> Tensor:
    """Measured codes of 1 to 8 non-zeros of 30 to 400 px, with relative noise; the first is zero: (B, m)."""
    generator = torch.Generator().manual_seed(1000 + seed)
    m, n = D.shape
    code = torch.zeros(count, n, dtype=torch.float64)
    for row in code:
        k = int(torch.randint(1, min(9, n + 1), (1,), generator=generator))
        row[torch.randperm(n, generator=generator)[:k]] = 30 + 370 * torch.rand(
            k, generator=generator, dtype=torch.float64
        )
    x = code @ D.T
    level = noise * x.norm(dim=1, keepdim=True) / m**0.5
    x = x + level * torch.randn(count, m, generator=generator, dtype=torch.float64)
    x[0] = 0
    return x
