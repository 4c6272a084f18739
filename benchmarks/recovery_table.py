"""The tables of docs/recovery.md from docs/results/recovery.json; `benchmarks/table.py` writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pointsense.reporting.markdown import markdown

Lines = list[dict[str, Any]]

OURS = "pointsense auto, compiled"


def render(result: dict[str, Any]) -> str:
    """All tables, with a line on where they come from."""
    versions, hardware = result["versions"], result["hardware"]
    origin = (
        f"Measured on {result['date']} on {hardware['threads']} thread of {hardware['cpu']}, torch "
        f"{versions['torch']}, NumPy {versions['numpy']}, commit {versions['commit']}. Not installed, and so not "
        f"measured: {', '.join(result['not_installed']) or 'nothing'}. No GPU was at hand."
    )
    parts = [
        origin,
        "**Lasso, 112 x 368**: microseconds a right-hand side, and how many times that of the first line. Support "
        f"{support(result['speed'], 'B'):.1f} in B, {support(result['speed'], 'A'):.1f} in A.",
        speed_table(result["speed"]),
        "**Other sizes**: microseconds a right-hand side, B / A. (!): the gap of 1e-6 was not reached.",
        sweep_table(result["sizes"], "size", lambda line: f"{line['m']} x {line['n']}"),
        "**Other numbers of non-zeros**, 112 x 368: microseconds a right-hand side, B / A.",
        sweep_table(result["nonzeros"], "non-zeros", lambda line: str(line["nonzeros"][0])),
        f"**Orthogonal matching pursuit**, k = {result['omp'][0]['k']}, columns of length 1. `alike`: share of codes "
        "equal to ours within 1e-6.",
        omp_table(result["omp"]),
        "**Gradients to x and D, float32.** `kept`: tensors for the backward pass besides inputs and output. "
        "`cos`: cosine to the exact gradients to x and D.",
        gradient_table(result["backward"]),
        "**What noise does**: F1 of the support (entries above 15) / median relative error of the code.",
        quality_table(result["quality"]),
        "**Random problems**, often degenerate, to a relative gap of 1e-6.",
        robustness_table(result["robustness"]),
        "**What the layer is held to.**",
        acceptance_table(result["acceptance"]),
    ]
    return "\n\n".join(parts)


def support(lines: Lines, setting: str) -> float:
    """Mean number of non-zeros of the solutions."""
    return next(line["support"] for line in lines if line["setting"] == setting)


def speed_table(lines: Lines) -> str:
    """A line a solver, settings B and A beside each other."""
    times = {(line["setting"], line["solver"]): line for line in lines}
    rows = []
    for name in dict.fromkeys(line["solver"] for line in lines):
        cells = []
        for setting in ("B", "A"):
            line = times.get((setting, name))
            unit = times[setting, OURS]["microseconds"]
            cells += (
                ["-", "-"]
                if line is None
                else [figure(line["microseconds"]), f"{line['microseconds'] / unit:.1f}"]
            )
        version = next(
            (line["version"] for line in lines if line["solver"] == name and "version" in line), ""
        )
        rows.append((name + (f" {version}" if version else ""), *cells))
    return markdown(("solver", "B", "times", "A", "times"), rows)


def sweep_table(lines: Lines, title: str, place: Callable[[dict[str, Any]], str]) -> str:
    """A line a place of the sweep, a column a solver."""
    solvers = list(dict.fromkeys(line["solver"] for line in lines))
    times = {
        (place(line), line["solver"], line["setting"]): figure(line["microseconds"]) + missed(line)
        for line in lines
    }
    supports = {(place(line), line["setting"]): line["support"] for line in lines}
    rows = []
    for at in dict.fromkeys(map(place, lines)):
        cells = [
            " / ".join(times.get((at, solver, setting), "-") for setting in ("B", "A")) for solver in solvers
        ]
        rows.append((at, f"{supports[at, 'B']:.0f} / {supports[at, 'A']:.0f}", *cells))
    return markdown((title, "support", *solvers), rows)


def omp_table(lines: Lines) -> str:
    rows = [(line["solver"], figure(line["microseconds"]), f"{line['alike']:.2f}") for line in lines]
    return markdown(("solver", "microseconds", "alike"), rows)


def gradient_table(lines: Lines) -> str:
    header = ("setting", "backend", "rule", "forward", "backward", "kept, MiB", "cos x", "cos D")
    rows = [
        (
            line["setting"],
            line["backend"],
            line["rule"],
            figure(line["forward_microseconds"]),
            figure(line["backward_microseconds"]),
            f"{line['kept_bytes'] / 2**20:.2f}"
            + ("" if line["rows"] == lines[0]["rows"] else f" for {line['rows']}"),
            *(f"{line[key]:.2f}" if key in line else "-" for key in ("cosine_x", "cosine_D")),
        )
        for line in lines
    ]
    return markdown(header, rows)


def quality_table(lines: Lines) -> str:
    noises = list(dict.fromkeys(line["noise"] for line in lines))
    cells = {
        (line["decoder"], line["noise"]): f"{line['support_f1']:.3f} / {line['relative_error']:.3f}"
        for line in lines
    }
    decoders = list(dict.fromkeys(line["decoder"] for line in lines))
    rows = [(decoder, *(cells[decoder, noise] for noise in noises)) for decoder in decoders]
    return markdown(("decoder", *(f"{100 * noise:.0f} %" for noise in noises)), rows)


def robustness_table(lines: Lines) -> str:
    rows = [
        (
            line["solver"],
            f"{line['certified']} of {line['problems']}",
            f"{line['largest_gap']:.1e}",
            f"{line['slowest_seconds']:.1f}",
        )
        for line in lines
    ]
    return markdown(("solver", "certified", "largest gap", "slowest, s"), rows)


def acceptance_table(lines: Lines) -> str:
    rows = [
        (
            line["figure"],
            f"{line['value']:.3g}",
            f"{'at least' if line['least'] else 'at most'} {line['target']:g}",
            "yes" if line["met"] else "no",
        )
        for line in lines
    ]
    return markdown(("figure", "measured", "target", "met"), rows)


def missed(line: dict[str, Any] | None) -> str:
    """A mark at the time of a solver whose codes are not all within the relative gap of 1e-6."""
    return " (!)" if line is not None and line["gap"] > 1e-6 else ""


def figure(value: float | None) -> str:
    """Three digits, or a dash."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
