"""The tables of scores from docs/results/*.json; `benchmarks/table.py` writes them into the pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from methods import ABLATED, METHODS, Method
from pointsense.evaluation.bootstrap import draws, grouped
from pointsense.evaluation.cases import f1_of
from pointsense.reporting.markdown import markdown
from results import Cell, Result, result_name
from tasks import FAMILIES, TASKS

MISSING = "missing"
OURS, BASELINE, PAPERS_BASELINE = "code", "heatmap", "cnncs-repaired"
BESIDE = ("code", "stains0", "stains0-look0", "faster-rcnn")
"""What the paper's systems are shown beside."""

DRAWS = 1000


def scores_page(results: dict[Cell, Result]) -> str:
    """The tables of ours and of other detectors."""
    return sections(
        ("Scores on the `val` images", scores_table(results, is_own, OURS, BASELINE) + f"\n\n{notes()}"),
        ("The same trainings read otherwise", scores_table(results, is_reading, BASELINE)),
        ("The same codes read by three decoders", decoders_table(results)),
    )


def papers_page(results: dict[Cell, Result]) -> str:
    """The table of the paper's systems."""
    return sections(("The paper's systems", scores_table(results, is_of_the_paper, PAPERS_BASELINE)))


def choices_page(results: dict[Cell, Result]) -> str:
    """The table of single choices."""
    return sections(("One choice changed", ablation_table(results)))


def sections(*parts: tuple[str, str]) -> str:
    """Tables under their titles, as Markdown."""
    return "\n\n".join(f"## {title}\n\n{table}" for title, table in parts)


def glance_table(results: dict[Cell, Result]) -> str:
    """Mean F1 of ours and of the other detectors on each set of which there is any result, and how large it is.

    It is the mean over folds of the means over seeds; where folds are missing it says so.
    """
    names = [name for name, method in METHODS.items() if name in (OURS, BASELINE, method.peer)]
    rows = []
    for family, tasks in FAMILIES.items():
        f1s = [mean_over_folds(family, name, results) for name in names]
        if any(method == OURS and task in tasks for task, method, _ in results):
            task = TASKS[tasks[0]]
            own = {cell[0]: one for cell, one in results.items() if cell[0] in tasks and cell[1] == OURS}
            images, points = (sum(one[key] for one in own.values()) for key in ("val_images", "val_points"))
            rows.append(
                (
                    f"{family}: {task.objects}" + f" ({task.note})" * bool(task.note),
                    f"{images} ({points})",
                    f"{task.radius:g} px",
                    *f1s,
                )
            )
    header = ("images", "tested (objects)", "within", *(METHODS[name].title for name in names))
    return markdown(header, rows)


def mean_over_folds(family: str, name: str, results: dict[Cell, Result]) -> str:
    """Mean F1 over folds of the means over seeds, and the folds where it is not all of them; a dash without any."""
    by_fold: dict[str, list[float]] = {}
    for (task, method, _), one in results.items():
        if task in FAMILIES[family] and method == name:
            by_fold.setdefault(task, []).append(one["scores"]["overall"]["f1"])
    if not by_fold:
        return number(None, 3)
    mean = number(float(np.mean([np.mean(f1s) for f1s in by_fold.values()])), 3)
    part = ", ".join(task.removeprefix(f"{family}-") for task in by_fold)
    return mean + f" ({part})" * (len(by_fold) < len(FAMILIES[family]))


def methods_of(family: str, results: dict[Cell, Result]) -> dict[str, Method]:
    """The methods that the comparison asks for on a family, and those that have results there all the same."""
    tasks = FAMILIES[family]
    asked = {
        name: m for name, m in METHODS.items() if not m.ablates and (not m.families or family in m.families)
    }
    others = {name for task, name, _ in results if task in tasks and name not in METHODS}
    return asked | {name: METHODS.get(name, Method(name)) for name in sorted(others)}


def wanted(name: str, method: Method, family: str, results: dict[Cell, Result]) -> list[Cell]:
    """The cells of a method on a family: those that are asked for, and those that are there all the same."""
    asked = {(task, name, seed) for task, seed in method.cells() if task in FAMILIES[family]}
    return sorted(asked | {cell for cell in results if cell[0] in FAMILIES[family] and cell[1] == name})


def is_own(name: str, method: Method) -> bool:
    """Whether a method has trainings of its own, and is none of the paper's."""
    return method.refit or not (method.trained_as or method.preset)


def is_reading(name: str, method: Method) -> bool:
    """Whether a method is another way to predict with trained models."""
    return bool(method.trained_as) and not method.refit


def is_of_the_paper(name: str, method: Method) -> bool:
    """Whether a method is one of the paper's systems, or shown beside them."""
    return bool(method.preset) or name in BESIDE


def scores_table(results: dict[Cell, Result], belongs: Callable[[str, Method], bool], *baselines: str) -> str:
    """Mean F1 of some methods on each family over folds and seeds, beside baselines' on the same images."""
    header = ("set", "method", "trainings", "radius px", "F1", "seeds")
    header += tuple(f"to {METHODS[baseline].title} [95%]" for baseline in baselines)
    header += ("precision", "recall", "error px", "count MAE")
    rows = []
    for family in FAMILIES:
        methods = methods_of(family, results)
        if not set(baselines) & set(methods):
            continue
        for name, method in methods.items():
            if not belongs(name, method):
                continue
            cells = wanted(name, method, family, results)
            there = [results[cell] for cell in cells if cell in results]
            trainings = f"{len(there)} of {len(cells)}"
            if not there:
                rows.append((family, method.title, MISSING, *[""] * (len(header) - 3)))
                continue
            fold = f" ({FAMILIES[family][0].removeprefix(family + '-')} alone)" * (
                method.first_fold and len(FAMILIES[family]) > 1
            )
            for radius, scores in by_radius(there).items():
                main = radius == f"{there[0]['radius_px']:g}"
                besides = baselines if belongs is is_of_the_paper else method.beside or baselines
                differences = [difference_to(name, cells, results, one) if main else "" for one in besides]
                rows.append(
                    (
                        family,
                        method.title + fold,
                        trainings,
                        radius,
                        *scores_cells(scores, there, differences),
                    )
                )
    return markdown(header, rows)


def notes() -> str:
    """Where each family's `val` images come from, a line each."""
    lines = [
        f"- {name}: split by {task.split}" + f"; {task.note}" * bool(task.note)
        for name, task in ((family, TASKS[tasks[0]]) for family, tasks in FAMILIES.items())
    ]
    return "\n".join(lines)


def ablation_table(results: dict[Cell, Result]) -> str:
    """What is gained or lost with one choice changed, on `val` and on the selection part it is chosen by."""
    header = (
        "set",
        "changed",
        "trainings",
        "F1",
        "to the first row [95%]",
        "selection F1",
        "to the first row",
    )
    header += ("count MAE",)
    rows = []
    for task, base in ABLATED.items():
        changed = [name for name, method in METHODS.items() if name == "code" or task in method.ablates]
        for name in dict.fromkeys([base, *changed]):
            method = METHODS[name]
            cells = sorted(cell for cell in results if cell[:2] == (task, name))
            there = [results[cell] for cell in cells]
            if not there:
                rows.append((task, method.title, MISSING, *[""] * 5))
                continue
            mean = {
                key: float(np.mean([one["scores"]["overall"][key] for one in there]))
                for key in ("f1", "count_mae")
            }
            chosen_by = float(np.mean([one["training"]["f1"] for one in there]))
            gain = difference_to(name, cells, results, base)
            pairs = [(one, results.get((task, base, one["seed"]))) for one in there if name != base]
            ahead = [one["training"]["f1"] - first["training"]["f1"] for one, first in pairs if first]
            rows.append(
                (
                    task,
                    method.title,
                    str(len(there)),
                    number(mean["f1"], 3),
                    gain,
                    number(chosen_by, 3),
                    f"{np.mean(ahead):+.3f}" if ahead else "",
                    number(mean["count_mae"], 2),
                )
            )
    return markdown(header, rows)


def by_radius(there: Sequence[Result]) -> dict[str, list[Result]]:
    """The reports of several results at each match radius that all of them have."""
    radii = {f"{there[0]['radius_px']:g}": [result["scores"] for result in there]}
    for radius in there[0]["other_radii"]:
        if all(radius in result["other_radii"] for result in there):
            radii[radius] = [result["other_radii"][radius] for result in there]
    return radii


def scores_cells(
    scores: Sequence[Result], there: Sequence[Result], differences: Sequence[str]
) -> tuple[str, ...]:
    """Mean F1, its range over seeds, the differences, then mean precision, recall, error and count error."""

    def mean(key: str, digits: int) -> str:
        values = [one["overall"][key] for one in scores if one["overall"][key] is not None]
        return number(float(np.mean(values)) if values else None, digits)

    by_seed: dict[int, list[float]] = {}
    for one, result in zip(scores, there, strict=True):
        by_seed.setdefault(result["seed"], []).append(one["overall"]["f1"])
    means = [float(np.mean(values)) for values in by_seed.values()]
    seeds = f"{min(means):.3f} to {max(means):.3f}" if len(means) > 1 else "one"
    rates = (mean("precision", 3), mean("recall", 3), mean("error_mean", 2), mean("count_mae", 2))
    return (mean("f1", 3), seeds, *differences, *rates)


def difference_to(name: str, cells: Sequence[Cell], results: dict[Cell, Result], baseline: str) -> str:
    """Mean F1 minus that of another method in the same folds and seeds, with a paired 95% interval.

    Groups of images, or images where there are few groups, are drawn anew in each fold, the same ones for all methods
    and seeds.
    """
    pairs = []
    for task, _, seed in cells:
        ours, theirs = results.get((task, name, seed)), results.get((task, baseline, seed))
        if ours and theirs and name != baseline and set(ours["images"]) == set(theirs["images"]):
            pairs.append((task, ours, theirs))
    if not pairs:
        return ""
    gains = []
    for task, ours, theirs in pairs:
        images = sorted(ours["images"])
        counts, _ = grouped(
            np.array([[one["images"][image] for one in (ours, theirs)] for image in images]),
            [ours["image_groups"].get(image) for image in images],
        )
        drawn = counts[draws(len(counts), DRAWS, list(TASKS).index(task))]
        f1 = f1_of(np.concatenate([counts.sum(axis=0)[None], drawn.sum(axis=1)]))
        gains.append(f1[:, 0] - f1[:, 1])
    gain = np.mean(gains, axis=0)
    low, high = np.percentile(gain[1:], [2.5, 97.5])
    return f"{gain[0]:+.3f} [{low:+.3f}, {high:+.3f}]"


def decoders_table(results: dict[Cell, Result]) -> str:
    """Mean F1 of each decoder of the default, each with a blur and a threshold from the selection part."""
    header = ("set", "radius px", "full", "codes", "maxima", "numbers / cells of a window", "of an image")
    rows = []
    for family, tasks in FAMILIES.items():
        there = [one for cell, one in results.items() if cell[0] in tasks and cell[1] == "code"]
        if not there:
            continue
        f1s = [np.mean([one["scores"]["overall"]["f1"] for one in there])]
        for decoder in ("codes", "maxima"):
            f1s.append(np.mean([one["other_decoders"][decoder]["overall"]["f1"] for one in there]))
        ratios = [number((there[0]["code"] or {}).get(key), 2) for key in ("ratio", "total_ratio")]
        rows.append((family, f"{there[0]['radius_px']:g}", *(number(float(f1), 3) for f1 in f1s), *ratios))
    return markdown(header, rows)


def cells_table(results: dict[Cell, Result]) -> str:
    """One line for each training: its F1 with the interval, its time, and on what, by which commit and when.

    Date and commit are of the training, where the file has them, else of the last scoring.
    """
    header = ("set", "method", "seed", "F1 [95%]", "count MAE", "steps", "training min", "s / image", "on")
    rows = []
    for (task, name, seed), result in sorted(results.items(), key=lambda item: place(item[0])):
        training, scores = result["training"], result["scores"]
        machine = training.get("hardware", result["hardware"])
        on = machine.get("gpu") or f"{machine['threads']} threads, {machine['cpu']}"
        build = training.get("commit") or result["versions"].get("commit") or result["versions"]["pointsense"]
        rows.append(
            (
                task,
                METHODS.get(name, Method(name)).title,
                str(seed),
                f1_cell(scores),
                number(scores["overall"]["count_mae"], 2),
                str(training["steps"]),
                number(training["seconds"] / 60, 1),
                number(result["seconds_per_image"], 2),
                f"{on}; {training.get('date', result['date'])}, {build}",
            )
        )
    return markdown(header, rows)


def place(cell: Cell) -> tuple[int, int, str, int]:
    """Where a cell stands in the tables."""
    task, name, seed = cell
    known = list(METHODS)
    return list(TASKS).index(task), known.index(name) if name in known else len(known), name, seed


def f1_cell(scores: Result) -> str:
    """F1 with its bootstrap interval."""
    interval = scores["f1_interval"]
    f1 = number(scores["overall"]["f1"], 3)
    return f1 if interval is None else f"{f1} [{interval['low']:.3f}, {interval['high']:.3f}]"


def number(value: float | None, digits: int) -> str:
    """`value` with so many digits, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def missing(results: dict[Cell, Result]) -> list[str]:
    """Names of the files that the comparison asks for and that are not there."""
    cells = [(task, name, seed) for name, method in METHODS.items() for task, seed in method.cells()]
    return [result_name(*cell) for cell in sorted(cells, key=place) if cell not in results]
