"""A table of the paper, with its rows as they were published and ours trained anew on what data there is."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pointsense import __version__
from pointsense.datasets import Dataset, Sample
from pointsense.datasets.division import draw_selection
from pointsense.evaluation.challenges import CHALLENGES, radius_px, rho_px
from pointsense.experiments.published import TABLES, Table
from pointsense.experiments.rows import BOXES, MITOSIS_UM, Row, Setup, systems
from pointsense.learning.course import Progress
from pointsense.learning.training import starts_given
from pointsense.reporting.markdown import markdown
from pointsense.writing import write_json, write_text

LITERAL_WORDS = (
    "CNNCS and ECNNCS are the paper's as far as it states them; why they find little, or nothing, is told in "
    "docs/theory.md (*Where we depart from the paper*), and docs/results/paper.md has them repaired."
)
LEFT_OUT = (
    f"{BOXES} is left out: it starts from a backbone of timm with pretrained weights, and none is asked for."
)
BOXES_WORDS = (
    f"Our {BOXES} has a feature pyramid on the backbone, boxes of {MITOSIS_UM:g} um around the points, and one view; "
    "the package's own row averages several and looks twice. The paper's is another network."
)

HELD_BACK = 0.2
"""Share of the images to score on, where the data do not divide them."""


def divided(dataset: Dataset) -> tuple[Dataset, str]:
    """The data set with images to score on, as "val", and in words which they are.

    Its own test images, or val images, where it has some; else a fifth by group, the same at each call.

    Raises
    ------
    DataError
        If it cannot be divided.
    """
    for name in ("test", "val"):
        if scored := dataset.split(name):
            keep = dataset.train + [replace(sample, split="val") for sample in scored]
            return replace(dataset, samples=tuple(keep)), f"the data's {name} images ({_groups(scored)})"
    _, scored = draw_selection(dataset.samples, HELD_BACK, 0)
    names = {sample.name for sample in scored}
    samples = tuple(
        replace(sample, split="val" if sample.name in names else "train") for sample in dataset.samples
    )
    return replace(dataset, samples=samples), f"a part of the training images ({_groups(scored)})"


def _groups(samples: list[Sample]) -> str:
    groups = sorted({sample.group for sample in samples})
    shown = ", ".join(groups[:8]) + ", ..." * (len(groups) > 8)
    return f"{len(samples)} images, of {shown}"


def reproduce(
    name: str,
    dataset: Dataset,
    out: Path | str,
    *,
    minutes: float,
    encoder: dict[str, Any],
    seed: int = 0,
    device: str = "auto",
    report: Callable[[Progress], None] | None = None,
    told: Callable[[str], None] | None = None,
) -> str:
    """Train and score our rows of a table, and write it as `NAME.md` and `NAME.json`.

    What is in `out` already is gone on with.

    Parameters
    ----------
    name : str
        One of `published.TABLES`.
    dataset : Dataset
        Of the table's data; it must know the pixel size.
    out : path
        Folder of the table, and of the run folders.
    minutes : float
        Limit of all trainings together, shared alike.
    encoder : dict
        Settings in place of the presets' own, such as backbone and weights.
    seed, device
        For `train`.
    report, told : callable, optional
        Given the progress of each training, and a line on each row.

    Returns
    -------
    str
        The table, as Markdown.

    Raises
    ------
    UsageError
        If the pixel size is not known.
    DataError
        If the data cannot be divided.
    """
    out, table = Path(out), TABLES[name]
    challenge = CHALLENGES[table.contest]
    radius = radius_px(table.contest, dataset)
    rho = rho_px(dataset) if dataset.smallest_radius_px else None
    samples = tuple(sample.with_look_alikes_apart() for sample in dataset.samples)
    dataset, where = divided(replace(dataset, samples=samples))
    configs = systems(table, encoder)
    if left_out := not starts_given(configs[BOXES]):
        del configs[BOXES]
    say = told or (lambda line: None)
    if left_out:
        say(LEFT_OUT)
    setup = Setup(dataset, out, challenge, radius, rho, minutes / len(configs), seed, device, report)
    rows = []
    for method, config in configs.items():
        say(f"{method}: at most {setup.minutes:.3g} minutes of training")
        began = time.monotonic()
        rows.append(row := setup.row(method, config))
        taken = (time.monotonic() - began) / 60
        say(f"{method}: F1 {row.report.overall.f1:.3f} ({taken:.1f} minutes in all)")
    text = _markdown(name, table, rows, where, setup, left_out)
    write_json(
        out / f"{name}.json",
        {
            "table": name,
            "version": __version__,
            "date": datetime.date.today().isoformat(),
            "published": [asdict(row) for row in table.rows],
            "published_on": table.scored_on,
            "scored_on": where,
            "protocol": challenge.protocol,
            "radius_px": radius,
            "rho_px": rho,
            "seed": seed,
            "minutes_a_row": setup.minutes,
            "hardware": setup.where,
            "ours": {
                row.method: {
                    "settings": row.settings,
                    "training": row.facts,
                    "selection_f1": row.selection_f1,
                    **row.report.to_dict(),
                    "within_rho": None if row.within_rho is None else row.within_rho.to_dict()["overall"],
                }
                for row in rows
            },
        },
    )
    write_text(out / f"{name}.md", text)
    return text


def _markdown(name: str, table: Table, rows: list[Row], where: str, setup: Setup, left_out: bool) -> str:
    def shown(value: float | None) -> str:
        return "" if value is None or value != value else f"{value:.3f}"

    challenge, rho = setup.challenge, setup.rho
    header = ["method", "", "precision", "recall", "F1 [95%]", *["F1 within ρ"] * bool(rho)]
    header += ["backbone", "steps", "minutes", "selection F1"]
    cells = [
        [one.method, "published", shown(one.precision), shown(one.recall), shown(one.f1)]
        + [""] * (len(header) - 5)
        for one in table.rows
    ]
    for row in rows:
        scores, interval = row.report.overall, row.report.f1_interval
        spread = "" if interval is None else f" [{interval.low:.3f}, {interval.high:.3f}]"
        cells.append(
            [row.method, "ours", shown(scores.precision), shown(scores.recall), shown(scores.f1) + spread]
            + ([shown(row.within_rho.overall.f1)] if row.within_rho else [])
            + [row.settings["backbone"], str(row.facts["steps"]), f"{row.facts['seconds'] / 60:.1f}"]
            + [shown(row.selection_f1)]
        )
    parts = [
        f"# {name.replace('table', 'Table ')}: {table.title}",
        f"Published rows are the paper's, of {table.scored_on}. Ours are scored on {where}, {challenge.protocol} "
        f"within {setup.radius:.3g} px ({challenge.radius_um:g} um), thresholds and stopping from a part of the other "
        f"images, seed {setup.seed}: **the two kinds of rows are of different images, and do not compare.** Each of "
        f"ours had at most {setup.minutes:.3g} minutes of training on {setup.where}; the encoder of the paper's "
        "systems is ResNet-152.",
        f"{LITERAL_WORDS} {LEFT_OUT if left_out else BOXES_WORDS}",
    ]
    if rho:
        parts.append(
            f"ρ, the radius of the smallest object, is {rho:.3g} px: one-to-one within it, with the same thresholds."
        )
    parts.append(markdown(header, cells))
    if groups := sorted({group for row in rows for group in row.report.groups}):
        by_group = [(group, *(shown(row.report.groups[group].f1) for row in rows)) for group in groups]
        parts.append(markdown(("F1 by group", *(row.method for row in rows)), by_group))
    return "\n\n".join(parts) + "\n"
