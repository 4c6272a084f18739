"""The recovery layer against other solvers of the lasso, in one run on one thread.

    python benchmarks/recovery.py                     everything, about 15 minutes; writes docs/results/recovery.json
                                                      and docs/results/recovery.png
    python benchmarks/recovery.py --only speed backward
    python benchmarks/recovery.py --plot              draws recovery.png again from recovery.json
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
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pointsense.writing import write_json
from provenance import ROOT, hardware, versions
from recovery_measures import (
    FEW,
    NOISE,
    NONZEROS,
    SETTINGS,
    SIZES,
    backward,
    pursuit,
    quality,
    robustness,
    speed,
)
from recovery_peers import LASSO_PEERS

ROWS, SOME_ROWS, ROUNDS, PROBLEMS = 1728, 96, 5, 10_000
SECTIONS = ("speed", "omp", "sizes", "nonzeros", "backward", "quality", "robustness")


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

    figure = Figure(figsize=(14, 5.2), layout="constrained")
    bars, sizes, noise = figure.subplots(1, 3, width_ratios=(1.4, 1, 1))
    names = list(dict.fromkeys(line["solver"] for line in results["speed"]))
    for offset, setting in ((-0.2, "A"), (0.2, "B")):
        times = {
            line["solver"]: line["microseconds"] for line in results["speed"] if line["setting"] == setting
        }
        places = [i + offset for i, name in enumerate(names) if name in times]
        lengths = [times[name] for name in names if name in times]
        bars.barh(places, lengths, height=0.38, label=f"setting {setting}")
    bars.set(yticks=range(len(names)), yticklabels=names, xscale="log", xlim=(1, None))
    bars.set(xlabel="microseconds a right-hand side", title="lasso, 112 x 368")
    bars.invert_yaxis()
    bars.legend()
    for setting, style in (("A", "-"), ("B", "--")):
        for solver in FEW:
            mine = [v for v in results["sizes"] if (v["setting"], v["solver"]) == (setting, solver)]
            if mine:
                place, color = (
                    [[v[key] for v in mine] for key in ("m", "microseconds")],
                    f"C{FEW.index(solver)}",
                )
                sizes.plot(*place, style, color=color, marker="o", label=f"{solver}, {setting}")
    rows = sorted({line["m"] for line in results["sizes"]})
    sizes.set(xscale="log", yscale="log", xlabel="m (n = 3.3 m)", title="microseconds by size")
    sizes.set_xticks(rows, rows)
    sizes.minorticks_off()
    sizes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    for decoder in dict.fromkeys(line["decoder"] for line in results["quality"]):
        mine = [v for v in results["quality"] if v["decoder"] == decoder]
        noise.plot([v["noise"] for v in mine], [v["support_f1"] for v in mine], marker="o", label=decoder)
    noise.set(xlabel="noise, relative", title="F1 of the support")
    noise.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
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
        results["omp"] = pursuit(rows, rounds)
        show("Orthogonal matching pursuit", results["omp"], ("solver", "k", "rows", "microseconds", "alike"))
    few = {"rows": min(rows, 256), "some": min(some, 24), "rounds": 2 * rounds, "everybody": False}
    if "sizes" in sections:
        results["sizes"] = [line for size in sizes for line in speed(**few, size=size)]
        show("Sizes", results["sizes"], lasso_columns)
    if "nonzeros" in sections:
        numbers = NONZEROS[:1] if smoke else NONZEROS
        results["nonzeros"] = [line for k in numbers for line in speed(**few, nonzeros=(k, k))]
        show("Non-zeros", results["nonzeros"], ("nonzeros", *lasso_columns))
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
    parser.add_argument("--plot", action="store_true", help="draw the JSON file again")
    options = parser.parse_args(arguments)
    folder = ROOT / "docs" / "results"
    if options.plot:
        plot(json.loads((folder / "recovery.json").read_text(encoding="utf-8")), folder / "recovery.png")
        return 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            results = run(options.only, options.smoke)
    finally:
        torch.set_num_threads(threads)
    if not options.smoke and tuple(options.only) == SECTIONS:
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
