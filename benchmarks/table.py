"""Write the tables of docs/results.md and docs/recovery.md from docs/results/*.json, between two marks.

python benchmarks/table.py            write them
python benchmarks/table.py --check    exit 1 where a page is not what the JSON files say
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import recovery_table
from pointsense.writing import write_text
from real_data import TASKS, VARIANTS, result_name
from recovery_table import markdown

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
VARIANT_NAMES = {"code": "pointsense", "heatmap": "heat map"}
MISSING = "missing"
DECODERS = ("full", "codes", "maxima")

Result = dict[str, Any]


def read_results(folder: Path) -> dict[str, Result | None]:
    """Results by name, in the order of the tasks; None where a task of the comparison has no file."""
    expected = [result_name(name, variant) for name in TASKS for variant in VARIANTS]
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
    }
    ours = {stem: result for stem, result in found.items() if result.get("set") in TASKS}
    results = {stem: ours.get(stem) for stem in expected} | ours
    order = {name: place for place, name in enumerate(TASKS)}
    return dict(sorted(results.items(), key=lambda item: order[set_of(item[0])]))


def set_of(stem: str) -> str:
    """The task that the file name `stem` belongs to."""
    return max((name for name in TASKS if stem == name or stem.startswith(f"{name}-")), key=len)


def render(results: dict[str, Result | None]) -> str:
    """The tables, as Markdown."""
    parts = [
        ("Scores on the `val` images", scores_table(results)),
        ("The same codes read by three decoders", decoders_table(results)),
        ("What it took", cost_table(results)),
    ]
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in parts)


def scores_table(results: dict[str, Result | None]) -> str:
    """F1 with its interval and what stands behind it, a line a set and variant, and for other radii."""
    header = (
        "set",
        "trained on",
        "val",
        "radius px",
        "F1 [95%]",
        "precision",
        "recall",
        "error px",
        "count MAE",
    )
    rows = []
    for stem, result in results.items():
        if result is None:
            rows.append(missing_row(stem, header))
            continue
        val = f"{result['val_images']} images, {result['val_points']} points"
        by_radius = {f"{result['radius_px']:g}": result["decoders"][result["decoder"]]} | result[
            "other_radii"
        ]
        rows += [
            (result["set"], network(result), val, radius, *scores_cells(scores))
            for radius, scores in by_radius.items()
        ]
        if (difference := difference_to(results, stem)) is not None:
            rows.append((result["set"], "difference", "", f"{result['radius_px']:g}", difference, *[""] * 4))
    notes = [
        f"- {name}: split by {task.split}" + f"; {task.note}" * bool(task.note)
        for name, task in TASKS.items()
    ]
    return "\n".join([markdown(header, rows), "", *notes])


def scores_cells(scores: Result) -> tuple[str, ...]:
    """F1 with its interval, precision, recall, localisation error and count error of one report."""
    overall = scores["overall"]
    return (
        f1_cell(scores),
        *(number(overall[key], 3) for key in ("precision", "recall")),
        *(number(overall[key], 2) for key in ("error_mean", "count_mae")),
    )


def decoders_table(results: dict[str, Result | None]) -> str:
    """F1 of each decoder, each with a blur and a threshold from the selection part of `train`."""
    header = ("set", "trained on", "radius px", *DECODERS, "code numbers / map cells")
    rows = []
    for result in filter(None, results.values()):
        cells = [
            f1_cell(result["decoders"][name]) if name in result["decoders"] else "-" for name in DECODERS
        ]
        ratio = number((result["code"] or {}).get("ratio"), 2)
        rows.append((result["set"], network(result), f"{result['radius_px']:g}", *cells, ratio))
    return markdown(header, rows)


def cost_table(results: dict[str, Result | None]) -> str:
    """Training and prediction time, and on what."""
    header = ("set", "trained on", "steps", "training min", "s / image", "on", "seed", "date", "version")
    rows = []
    for result in filter(None, results.values()):
        training, machine = result["training"], result["hardware"]
        on = machine.get("gpu") or f"{machine['threads']} threads, {machine['cpu']}"
        build = result["versions"].get("commit") or result["versions"]["pointsense"]
        minutes = number(training["seconds"] / 60, 1)
        seconds = number(result["seconds_per_image"], 2)
        cells = (str(training["steps"]), minutes, seconds, on, str(result["seed"]), result["date"], build)
        rows.append((result["set"], network(result), *cells))
    return markdown(header, rows)


def difference_to(results: dict[str, Result | None], stem: str) -> str | None:
    """F1 of a code result minus that of its heat map, with a paired 95% bootstrap interval over images."""
    ours, theirs = results[stem], results.get(f"{stem}-heatmap")
    if ours is None or theirs is None or set(ours["images"]) != set(theirs["images"]):
        return None
    counts = np.array([[ours["images"][name], theirs["images"][name]] for name in sorted(ours["images"])])
    draws = np.random.default_rng(0).integers(0, len(counts), size=(1000, len(counts)))
    tp, fp, fn = np.moveaxis(np.concatenate([counts[draws].sum(axis=1), counts.sum(axis=0)[None]]), -1, 0)
    f1 = 2 * tp / np.maximum(2 * tp + fp + fn, 1)
    gain = f1[:, 0] - f1[:, 1]
    low, high = np.percentile(gain[:-1], [2.5, 97.5])
    return f"{gain[-1]:+.3f} [{low:+.3f}, {high:+.3f}]"


def network(result: Result) -> str:
    """What the network was trained on: the code, the heat map, or another variant by its name."""
    name = VARIANT_NAMES.get(result["variant"], result["variant"])
    return name + f", seed {result['seed']}" * (result["seed"] != 0)


def f1_cell(scores: Result) -> str:
    """F1 with its bootstrap interval."""
    interval = scores["f1_interval"]
    f1 = number(scores["overall"]["f1"], 3)
    return f1 if interval is None else f"{f1} [{interval['low']:.3f}, {interval['high']:.3f}]"


def number(value: float | None, digits: int) -> str:
    """`value` with so many digits, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def missing_row(stem: str, header: Sequence[str]) -> tuple[str, ...]:
    """The line of a result that is not there."""
    name = set_of(stem)
    variant = stem.removeprefix(name).removeprefix("-") or "code"
    return (name, VARIANT_NAMES[variant], MISSING, *[""] * (len(header) - 3))


def with_tables(page: str, tables: str) -> str:
    """The page with `tables` between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or only look whether they are up to date."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the pages and of results/")
    parsed = parser.parse_args(arguments)
    pages = {"results.md": render(read_results(parsed.docs / "results"))}
    recovery = parsed.docs / "results" / "recovery.json"
    if recovery.is_file():
        pages["recovery.md"] = recovery_table.render(json.loads(recovery.read_text(encoding="utf-8")))
    return max(update(parsed.docs / name, tables, parsed.check) for name, tables in pages.items())


def update(page: Path, tables: str, check: bool) -> int:
    """Put the tables into a page, or only look whether they are there; exit code."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        print(
            f"error: {page} lacks the marks {BEGIN} and {END}; write them where the tables go",
            file=sys.stderr,
        )
        return 1
    wanted = with_tables(text, tables)
    if check:
        if text != wanted:
            print(f"{page} is not what its JSON files say; run python benchmarks/table.py", file=sys.stderr)
        return int(text != wanted)
    write_text(page, wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
