"""What `recovery.py` measures: times, gradients, recovery from noise, and certificates of random problems."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pointsense.recovery import LISTA, debias, lam_from_noise, lam_max, lasso, omp, relative_gap, sparse_code
from recovery_peers import LASSO_PEERS, OMP_PEERS, Peer, installed_version, loosest_tolerance
from recovery_problems import measurements, random_problem, sensing_matrix

AIM = 1e-6
SETTINGS = ("A", "B")
SIZES = ((56, 184), (112, 368), (224, 736), (448, 1472))
NONZEROS = (1, 4, 16, 32, 64)
NOISE = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)
OURS = {
    "pointsense auto, compiled": {"method": "auto", "backend": "compiled"},
    "pointsense homotopy, compiled": {"method": "homotopy", "backend": "compiled"},
    "pointsense auto, torch": {"method": "auto", "backend": "torch"},
    "pointsense homotopy, torch": {"method": "homotopy", "backend": "torch"},
    "pointsense fista": {"method": "fista"},
    "pointsense dal": {"method": "dal"},
}
SLOW = ("pointsense fista", "pointsense dal")
FEW = (
    "pointsense auto, compiled",
    "pointsense auto, torch",
    "pointsense fista",
    "scikit-learn Lasso",
    "SPAMS",
)


def weights(setting: str, x: Tensor, D: Tensor) -> Tensor:
    """The weight of every right-hand side, (B,)."""
    return torch.full_like(x[:, 0], 0.4) if setting == "A" else 0.05 * lam_max(x, D)


def nonzero_measurements(D: Tensor, rows: int, nonzeros: tuple[int, int] = (1, 8)) -> Tensor:
    return measurements(D, rows + 1, seed=0, nonzeros=nonzeros)[1:]  # the first is zero


def least_times(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Seconds of each run, the least of some rounds in turn."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def speed(
    rows: int,
    some: int,
    rounds: int,
    size: tuple[int, int] = (112, 368),
    nonzeros: tuple[int, int] = (1, 8),
    everybody: bool = True,
) -> list[dict[str, Any]]:
    """Microseconds a right-hand side of every solver, or of the few that stand for them, in both settings."""
    D = sensing_matrix(0, *size)
    x = nonzero_measurements(D, rows, nonzeros)
    lines = []
    for setting in SETTINGS:
        lam = weights(setting, x, D)
        numbers, notes, support = {}, {}, 0.0
        runs: dict[str, Callable[[], Any]] = {}
        for name, options in OURS.items():
            part = slice(0, some if name in SLOW else rows)
            if not (everybody or name in FEW):
                continue
            runs[name] = partial(lasso, x[part], D, lam[part], tol=AIM, **options)
            result = runs[name]()
            code = result.code.double()
            numbers[name] = len(code)
            notes[name] = {
                "gap": float(relative_gap(code, x[part], D, lam[part]).max()),
                "unsolved": int((~result.converged).sum()),
            }
            support = support or float((code != 0).sum(-1).double().mean())
        for peer in LASSO_PEERS:
            if peer.version is None or not (everybody or peer.name in FEW):
                continue
            part = slice(0, rows if peer.fast else some)
            run, notes[peer.name] = _peer_run(peer, x[part], D, lam[part])
            if run is not None:
                runs[peer.name], numbers[peer.name] = run, len(x[part])
        times = least_times(runs, rounds)
        for name, seconds in times.items():
            lines.append(
                {
                    "setting": setting,
                    "m": size[0],
                    "n": size[1],
                    "nonzeros": list(nonzeros),
                    "support": support,
                    "solver": name,
                    "rows": numbers[name],
                    "microseconds": 1e6 * seconds / numbers[name],
                    **notes[name],
                }
            )
    return lines


def _peer_run(
    peer: Peer, x: Tensor, D: Tensor, lam: Tensor
) -> tuple[Callable[[], Any] | None, dict[str, Any]]:
    arrays = [v.numpy() for v in (x, D, lam)]

    def gap_of(code: np.ndarray) -> float:
        return float(relative_gap(torch.from_numpy(np.ascontiguousarray(code)), x, D, lam).max())

    tol = loosest_tolerance(peer, *arrays, gap_of, AIM)
    if np.isnan(tol):
        return None, {}

    def run() -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return peer.solve(*arrays, tol)

    return run, {"gap": gap_of(run()), "tolerance": tol, "version": peer.version}


def pursuit(rows: int, rounds: int, k: int = 8) -> list[dict[str, Any]]:
    """Microseconds a right-hand side of orthogonal matching pursuit, on columns of length 1."""
    D = sensing_matrix(0)
    D = D / D.norm(dim=0)
    x = nonzero_measurements(D, rows)
    runs: dict[str, Callable[[], Any]] = {}
    for backend in ("compiled", "torch"):
        runs[f"pointsense omp, {backend}"] = partial(omp, x, D, k, backend=backend)
    wanted = runs["pointsense omp, torch"]()
    lines = []
    for name, (solve, package) in OMP_PEERS.items():
        if installed_version(package) is not None:
            runs[name] = partial(solve, x.numpy(), D.numpy(), k)
    for name, run in runs.items():
        code = torch.as_tensor(run())
        alike = float(((code - wanted).abs().amax(-1) < 1e-6).double().mean())
        lines.append({"solver": name, "k": k, "rows": rows, "alike": alike})
    for line, seconds in zip(lines, least_times(runs, rounds).values(), strict=True):
        line["microseconds"] = 1e6 * seconds / rows
    return lines


def backward(rows: int, rounds: int, depth: int = 100) -> list[dict[str, Any]]:
    """Times of the gradients to x and D in float32, and what autograd keeps for them besides inputs and output."""
    D = sensing_matrix(0).float().requires_grad_()
    x = nonzero_measurements(sensing_matrix(0), rows).float().requires_grad_()
    g = torch.randn(rows, D.shape[1], generator=torch.Generator().manual_seed(0))
    lines = []
    for setting in SETTINGS:
        lam = weights(setting, x.detach(), D.detach())
        for backend in ("compiled", "torch"):
            rules = {
                "exact, inverse kept": {"backward": "exact"},
                "exact, solved again": {"backward": "exact", "keep_inverse": False},
                "paper": {"backward": "paper"},
            }
            forwards = {
                name: partial(sparse_code, x, D, lam, backend=backend, **options)
                for name, options in rules.items()
            }
            _add_backward(lines, setting, backend, forwards, (x, D), g, rounds)
        lista = LISTA(D.detach(), float(lam.mean()), steps=depth)
        some = max(1, rows // 8)
        unrolled = {f"unrolled, {depth} steps": partial(lista, x[:some])}
        _add_backward(lines, setting, "LISTA", unrolled, (x, lista.W), g[:some], 1)
    return lines


def _add_backward(
    lines: list[dict[str, Any]],
    setting: str,
    backend: str,
    forwards: dict[str, Callable[[], Tensor]],
    leaves: tuple[Tensor, Tensor],
    g: Tensor,
    rounds: int,
) -> None:
    codes, kept, grads = {}, {}, {}
    for name, forward in forwards.items():
        storages: dict[int, int] = {}

        def pack(tensor: Tensor, storages: dict[int, int] = storages) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            codes[name] = forward()
        for known in (*leaves, codes[name]):
            storages.pop(known.untyped_storage().data_ptr(), None)
        kept[name] = sum(storages.values())
        grads[name] = torch.autograd.grad(codes[name], leaves, g, retain_graph=True)
    first = least_times(forwards, rounds)
    runs = {
        name: partial(torch.autograd.grad, code, leaves, g, retain_graph=True) for name, code in codes.items()
    }
    second = least_times(runs, rounds)
    exact = grads.get("exact, inverse kept")
    for name in forwards:
        line = {
            "setting": setting,
            "backend": backend,
            "rule": name,
            "rows": len(g),
            "forward_microseconds": 1e6 * first[name] / len(g),
            "backward_microseconds": 1e6 * second[name] / len(g),
            "kept_bytes": kept[name],
        }
        if exact is not None:
            cosine = torch.nn.functional.cosine_similarity
            line["cosine_x"], line["cosine_D"] = (
                float(cosine(a.flatten().double(), b.flatten().double(), dim=0))
                for a, b in zip(grads[name], exact, strict=True)
            )
        lines.append(line)


def quality(rows: int, noises: Sequence[float]) -> list[dict[str, Any]]:
    """How well supports and values come back from noise: F1 of the support, error relative to the signal."""
    D = sensing_matrix(0)
    m, n = D.shape
    generator = torch.Generator().manual_seed(1)
    truth = torch.zeros(rows, n, dtype=torch.float64)
    for row in truth:
        k = int(torch.randint(1, 9, (1,), generator=generator))
        row[torch.randperm(n, generator=generator)[:k]] = (
            30 + 370 * torch.rand(k, generator=generator).double()
        )
    clean = truth @ D.T
    lines = []
    for noise in noises:
        sigma = noise * clean.norm(dim=-1, keepdim=True) / m**0.5
        x = clean + sigma * torch.randn(rows, m, generator=generator, dtype=torch.float64)
        by_noise = lam_from_noise(sigma[:, 0], D).clamp_min(1e-6)
        bound = {"positive": True}
        codes = {
            "lasso, lam = 0.4": lasso(x, D, 0.4).code,
            "lasso, lam = 0.05 lam_max": lasso(x, D, 0.05 * lam_max(x, D)).code,
            "lasso, lam by noise": lasso(x, D, by_noise).code,
            "the same, positive": lasso(x, D, by_noise, **bound).code,
        }
        codes["the same, positive, debiased"] = debias(codes["the same, positive"], x, D)
        codes["omp, 8 columns"] = omp(x, D, 8)
        for name, code in codes.items():
            found, wanted = code.abs() > 15, truth != 0  # half of the least value
            hits = (found & wanted).sum()
            lines.append(
                {
                    "noise": noise,
                    "decoder": name,
                    "support_f1": float(2 * hits / (found.sum() + wanted.sum())),
                    "relative_error": float(((code - truth).norm(dim=-1) / truth.norm(dim=-1)).median()),
                }
            )
    return lines


def robustness(problems: int) -> list[dict[str, Any]]:
    """How many of the random problems each exact method certifies."""
    lines = []
    for name, options in list(OURS.items())[:4]:
        start, failed, slowest, worst, finite = time.perf_counter(), [], 0.0, 0.0, True
        for seed in range(problems):
            x, D, lam = random_problem(seed)
            before = time.perf_counter()
            result = lasso(x, D, lam, tol=AIM, **options)
            slowest = max(slowest, time.perf_counter() - before)
            worst = max(worst, float(result.duality_gap))
            finite &= bool(torch.isfinite(result.code).all())
            if not bool(result.converged):
                failed.append(seed)
        lines.append(
            {
                "solver": name,
                "problems": problems,
                "certified": problems - len(failed),
                "failed_seeds": failed,
                "largest_gap": worst,
                "finite": finite,
                "slowest_seconds": slowest,
                "seconds": time.perf_counter() - start,
            }
        )
    return lines
