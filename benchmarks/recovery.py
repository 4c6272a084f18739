"""The recovery layer against other solvers of the lasso, in one run on one thread.

    python benchmarks/recovery.py                     everything, about 15 minutes; writes docs/results/recovery.json
                                                      and docs/results/recovery.png
    python benchmarks/recovery.py --only speed backward
    python benchmarks/recovery.py --smoke             tiny, writes nothing: to see that all runs

Peers: pip install '.[bench]'; those that are not installed are left out and named.

Problems: D (112, 368) with entries N(0, 1/m), 1 to 8 non-zeros of 30 to 400, 2 % noise. Setting A: lam = 0.4, dense
supports. Setting B: lam = 0.05 lam_max, sparse ones. Every solver is held to a relative duality gap of 1e-6 that is
computed here from its codes in float64; peers with a tolerance get the loosest that reaches it on all the right-hand
sides they are timed with. Times are the least of several rounds in which every solver has its turn.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pointsense.recovery import (
    LISTA,
    debias,
    lam_from_noise,
    lam_max,
    lasso,
    omp,
    relative_gap,
    sparse_code,
)
from pointsense.writing import write_json
from real_data import ROOT, hardware, versions
from recovery_peers import LASSO_PEERS, OMP_PEERS, Peer, installed_version, loosest_tolerance
from recovery_problems import measurements, random_problem, sensing_matrix

AIM = 1e-6
ROWS, SOME_ROWS, ROUNDS = 1728, 96, 5
SETTINGS = ("A", "B")
SIZES = ((56, 184), (112, 368), (224, 736), (448, 1472))
NOISE = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)
PROBLEMS = 10_000
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
SECTIONS = ("speed", "omp", "sizes", "backward", "quality", "robustness")


def weights(setting: str, x: Tensor, D: Tensor) -> Tensor:
    """The weight of every right-hand side, (B,)."""
    return torch.full_like(x[:, 0], 0.4) if setting == "A" else 0.05 * lam_max(x, D)


def nonzero_measurements(D: Tensor, rows: int, noise: float = 0.02) -> Tensor:
    return measurements(D, rows + 1, seed=0, noise=noise)[1:]  # the first is zero


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
    rows: int, some: int, rounds: int, size: tuple[int, int] = (112, 368), everybody: bool = True
) -> list[dict[str, Any]]:
    """Microseconds a right-hand side of every solver in both settings, and its ratio to the fastest of ours."""
    D = sensing_matrix(0, *size)
    x = nonzero_measurements(D, rows)
    lines = []
    for setting in SETTINGS:
        lam = weights(setting, x, D)
        numbers, notes, support = {}, {}, 0.0
        runs: dict[str, Callable[[], Any]] = {}
        for name, options in OURS.items():
            part = slice(0, some if name in SLOW else rows)
            if not everybody and name not in (
                "pointsense auto, compiled",
                "pointsense auto, torch",
                "pointsense fista",
            ):
                continue
            runs[name] = lambda part=part, options=options: lasso(x[part], D, lam[part], tol=AIM, **options)
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


def pursuit(rows: int, some: int, rounds: int, k: int = 8) -> list[dict[str, Any]]:
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
        _add_backward(
            lines,
            setting,
            "LISTA",
            {f"unrolled, {depth} steps": lambda: lista(x[:some])},
            (x, lista.W),
            g[:some],
            1,
        )
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


def acceptance(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures that the layer is held to, with what was measured."""
    lines = []

    def add(what: str, value: float, target: float, least: bool) -> None:
        met = value >= target if least else value <= target
        lines.append({"figure": what, "value": value, "target": target, "least": least, "met": met})

    if "speed" in results:
        times = {(line["setting"], line["solver"]): line["microseconds"] for line in results["speed"]}
        targets = {"compiled": {"B": (50, 2), "A": (8, 1)}, "torch": {"B": (10, None), "A": (1.5, None)}}
        for backend, by_setting in targets.items():
            for setting, (lasso_ratio, spams_ratio) in by_setting.items():
                own = times[setting, f"pointsense auto, {backend}"]
                add(
                    f"{setting}: scikit-learn Lasso / {backend}",
                    times[setting, "scikit-learn Lasso"] / own,
                    lasso_ratio,
                    True,
                )
                if spams_ratio and (setting, "SPAMS") in times:
                    add(f"{setting}: SPAMS / {backend}", times[setting, "SPAMS"] / own, spams_ratio, True)
    if "backward" in results:
        rows = {(line["setting"], line["backend"], line["rule"]): line for line in results["backward"]}
        for backend in ("compiled", "torch"):
            kept, again, paper = (
                {s: rows[s, backend, rule] for s in SETTINGS}
                for rule in ("exact, inverse kept", "exact, solved again", "paper")
            )
            ratio = kept["B"]["backward_microseconds"] / paper["B"]["backward_microseconds"]
            add(f"B: exact / paper backward, {backend}", ratio, 1.2, False)
            for name, line in (("inverse kept", kept["A"]), ("solved again", again["A"])):
                share = line["backward_microseconds"] / line["forward_microseconds"]
                add(f"A: exact backward / forward, {backend}, {name}", share, 0.3, False)
            add(f"B: MiB kept, {backend}", kept["B"]["kept_bytes"] / 2**20, 1, False)
            add(f"A: MiB kept, {backend}, inverse kept", kept["A"]["kept_bytes"] / 2**20, 25, False)
            add(f"A: MiB kept, {backend}, solved again", again["A"]["kept_bytes"] / 2**20, 4, False)
    for line in results.get("robustness", []):
        add(f"share certified, {line['solver']}", line["certified"] / line["problems"], 1, True)
    return lines


def show(title: str, lines: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    print(f"\n{title}\n" + "  ".join(columns))
    for line in lines:
        cells = (line.get(c, "-") for c in columns)
        print("  ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in cells), flush=True)


def plot(results: dict[str, Any], path: Path) -> None:
    """Times by solver, times by size, quality by noise."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.6), layout="constrained")
    bars, sizes, noise = figure.subplots(1, 3, width_ratios=(1.4, 1, 1))
    names = list(dict.fromkeys(line["solver"] for line in results["speed"]))
    for offset, setting in ((-0.2, "A"), (0.2, "B")):
        times = {
            line["solver"]: line["microseconds"] for line in results["speed"] if line["setting"] == setting
        }
        places = [i + offset for i, name in enumerate(names) if name in times]
        bars.barh(
            places, [times[name] for name in names if name in times], height=0.38, label=f"setting {setting}"
        )
    bars.set(
        yticks=range(len(names)), yticklabels=names, xscale="log", xlabel="microseconds a right-hand side"
    )
    bars.invert_yaxis()
    bars.legend()
    for setting, style in (("A", "-"), ("B", "--")):
        for solver in dict.fromkeys(line["solver"] for line in results["sizes"]):
            points = [
                (v["m"], v["microseconds"])
                for v in results["sizes"]
                if (v["setting"], v["solver"]) == (setting, solver)
            ]
            color = f"C{list(dict.fromkeys(line['solver'] for line in results['sizes'])).index(solver)}"
            sizes.plot(
                *zip(*points, strict=True), style, color=color, marker="o", label=f"{solver}, {setting}"
            )
    sizes.set(xscale="log", yscale="log", xlabel="m (n = 3.3 m)", ylabel="microseconds a right-hand side")
    sizes.legend(fontsize=6)
    for decoder in dict.fromkeys(line["decoder"] for line in results["quality"]):
        mine = [v for v in results["quality"] if v["decoder"] == decoder]
        noise.plot([v["noise"] for v in mine], [v["support_f1"] for v in mine], marker="o", label=decoder)
    noise.set(xlabel="noise, relative", ylabel="F1 of the support")
    noise.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def run(sections: Sequence[str], smoke: bool) -> dict[str, Any]:
    rows, some, rounds = (12, 6, 1) if smoke else (ROWS, SOME_ROWS, ROUNDS)
    sizes = SIZES[:1] if smoke else SIZES
    results: dict[str, Any] = {}
    lasso_columns = ("setting", "m", "n", "support", "solver", "rows", "microseconds", "gap", "tolerance")
    if "speed" in sections:
        results["speed"] = speed(rows, some, rounds)
        show("Lasso", results["speed"], lasso_columns)
    if "omp" in sections:
        results["omp"] = pursuit(rows, some, rounds)
        show("Orthogonal matching pursuit", results["omp"], ("solver", "k", "rows", "microseconds", "alike"))
    if "sizes" in sections:
        results["sizes"] = [
            line for size in sizes for line in speed(min(rows, 256), min(some, 24), 2, size, everybody=False)
        ]
        show("Sizes", results["sizes"], lasso_columns)
    if "backward" in sections:
        results["backward"] = backward(rows, rounds)
        columns = (
            "setting",
            "backend",
            "rule",
            "forward_microseconds",
            "backward_microseconds",
            "kept_bytes",
        )
        show("Gradients", results["backward"], (*columns, "cosine_x", "cosine_D"))
    if "quality" in sections:
        results["quality"] = quality(20 if smoke else 500, NOISE[:2] if smoke else NOISE)
        show("Quality", results["quality"], ("noise", "decoder", "support_f1", "relative_error"))
    if "robustness" in sections:
        results["robustness"] = robustness(20 if smoke else PROBLEMS)
        columns = ("solver", "problems", "certified", "finite", "largest_gap", "slowest_seconds", "seconds")
        show("Random problems", results["robustness"], columns)
    results["acceptance"] = acceptance(results)
    show("What the layer is held to", results["acceptance"], ("figure", "value", "target", "met"))
    missing = [peer.name for peer in LASSO_PEERS if peer.version is None]
    if missing:
        print(f"\nnot installed: {', '.join(missing)}")
    results["not_installed"] = missing
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 2 for a wrong command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="tiny, writes nothing")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="parts to run; writes nothing"
    )
    options = parser.parse_args(arguments)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            results = run(options.only, options.smoke)
    finally:
        torch.set_num_threads(threads)
    if not options.smoke and tuple(options.only) == SECTIONS:
        folder = ROOT / "docs" / "results"
        facts = {
            "date": datetime.date.today().isoformat(),
            "versions": versions(),
            "hardware": {**hardware("cpu"), "threads": 1},
        }
        write_json(folder / "recovery.json", {**facts, **results})
        plot(results, folder / "recovery.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
