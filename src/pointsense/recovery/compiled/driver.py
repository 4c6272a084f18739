"""Tensors in, tensors out: prepares what the compiled rows share, and splits a batch over torch's threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..problem import GRAM_LIMIT, Problem
from ..supports import ROUGH, Solution, Supports
from .pivots import System
from .pull_back import pull_back_rows
from .rows import omp_rows, solve_rows

ROWS_PER_THREAD = 64


def solve(
    problem: Problem, *, path: bool, max_changes: int, kept: torch.dtype | None, limit: int
) -> Solution:
    """Codes by the active set, or by the homotopy (`path`).

    kept : dtype of the inverses ``(D_p^T D_p)^-1`` to keep, or None. limit : bytes of all of them, above which
    none is kept.
    """
    X, n = problem.X.contiguous().numpy(), problem.D.shape[1]
    projections = (problem.X @ problem.D).numpy()
    start = None if path else problem.start  # the path begins at an empty support
    starts = np.empty((len(X), 0)) if start is None else start.contiguous().numpy()
    lam = problem.lam.contiguous().numpy()
    code, gaps = np.empty((len(X), n)), np.empty(len(X))
    changes, sizes = np.empty(len(X), np.int64), np.empty(len(X), np.int32)
    store = torch.empty(0, dtype=kept or torch.float32).numpy()
    entries = limit // store.itemsize if kept is not None else 0
    systems = _systems(problem.D, problem.upper, problem.positive, len(X))
    parts = _in_threads(
        lambda rows, system: solve_rows(
            system,
            X[rows],
            projections[rows],
            lam[rows],
            starts[rows],
            path,
            max_changes,
            entries * (rows.stop - rows.start) // len(X),
            code[rows],
            gaps[rows],
            changes[rows],
            sizes[rows],
            store,
        ),
        len(X),
        systems,
    )
    members = np.concatenate([p[0] for p in parts])
    wanted = int((sizes.astype(np.int64) * (sizes + 1) // 2).sum())
    inverse = np.concatenate([p[1] for p in parts])
    supports = Supports(
        torch.from_numpy(sizes),
        torch.from_numpy(members),
        torch.from_numpy(inverse) if kept is not None and len(inverse) == wanted else None,
    )
    return Solution(torch.from_numpy(code), torch.from_numpy(gaps), torch.from_numpy(changes), supports)


def omp(X: Tensor, D: Tensor, k: int, tol: float) -> Tensor:
    """Codes of orthogonal matching pursuit; X (B, m) and D (m, n) in float64."""
    code = np.empty((len(X), D.shape[1]))
    projections, lengths = (X @ D).numpy(), D.norm(dim=0).numpy()
    rows_of_X = X.contiguous().numpy()
    _in_threads(
        lambda rows, system: omp_rows(
            system, rows_of_X[rows], projections[rows], lengths, k, tol, code[rows]
        ),
        len(X),
        _systems(D, None, False, len(X)),
    )
    return torch.from_numpy(code)


def pull_back(
    X: Tensor,
    D: Tensor,
    code: Tensor,
    grad: Tensor,
    supports: Supports,
    *,
    exact: bool,
    ridge: float,
    need_D: bool,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """Gradients to X (B, m), D (m, n) or None, and lam (B,), all float64; and the rows left out as singular (B,)."""
    B, (m, n) = len(X), D.shape
    columns = np.ascontiguousarray(D.detach().double().T.numpy())
    inverse = supports.inverse if exact and supports.inverse is not None and ridge == 0 else None
    gram = columns @ columns.T if exact and inverse is None else np.empty((0, 0))
    dX, d_lam, singular = np.zeros((B, m)), np.zeros(B), np.zeros(B, np.bool_)
    ends = np.concatenate([[0], np.cumsum(supports.sizes.numpy(), dtype=np.int64)])
    sizes, members = supports.sizes.numpy(), supports.members.numpy()
    triangles = np.concatenate([[0], np.cumsum(sizes.astype(np.int64) * (sizes + 1) // 2)])
    packed = np.empty(0, np.float32) if inverse is None else inverse.numpy()
    rough = 0.0 if inverse is None else ROUGH[inverse.dtype]
    xs, codes, grads = (v.detach().contiguous().numpy() for v in (X, code, grad))

    def run(rows: slice, _: None) -> Any:
        d_columns = np.zeros((n, m) if need_D else (0, m))
        pull_back_rows(
            columns,
            gram,
            xs[rows],
            codes[rows],
            grads[rows],
            sizes[rows],
            members[ends[rows.start] : ends[rows.stop]],
            packed[triangles[rows.start] : triangles[rows.stop]] if inverse is not None else packed,
            rough,
            exact,
            ridge,
            dX[rows],
            d_columns,
            d_lam[rows],
            singular[rows],
        )
        return d_columns

    # In their order, whichever is done first: sums do not differ from run to run.
    parts = _in_threads(run, B, None)
    dD = torch.from_numpy(sum(parts[1:], parts[0]).T) if need_D else None
    return torch.from_numpy(dX), dD, torch.from_numpy(d_lam), torch.from_numpy(singular)


def _systems(D: Tensor, upper: Tensor | None, positive: bool, B: int) -> Callable[[], System]:
    """Makes the `System` of a thread: the whole Gram matrix shared, or one of its own that fills as it is needed."""
    m, n = D.shape
    columns = np.ascontiguousarray(D.T.numpy())
    bounds = np.full(n, np.inf) if upper is None else upper.contiguous().numpy()
    everything = n <= GRAM_LIMIT and n <= 8 * B
    shared = (D.T @ D).numpy() if everything else None
    support = min(m, n) + 3
    room = n if n <= GRAM_LIMIT else max(support, n // 32)

    def make() -> System:
        if shared is not None:
            every = np.arange(n)
            return System(columns, shared, every, np.append(every, 0), bounds, upper is not None, positive)
        return System(
            columns,
            np.empty((room, n)),
            np.full(n, -1),
            np.append(np.full(room, -1), 0),
            bounds,
            upper is not None,
            positive,
        )

    return make


def _in_threads(work: Callable[[slice, Any], Any], B: int, make: Callable[[], Any] | None) -> list[Any]:
    """`work` on slices of the rows, in order, each thread with what `make` gives it."""
    threads = max(1, min(torch.get_num_threads(), B // ROWS_PER_THREAD))
    edges = np.linspace(0, B, threads + 1).astype(int)
    slices = [slice(int(a), int(b)) for a, b in pairwise(edges)]
    things = [make() if make else None for _ in slices]
    if threads == 1:
        return [work(slices[0], things[0])]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, slices, things))
