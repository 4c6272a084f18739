"""A table of the paper, with its rows as they were published and ours trained anew on what data there is."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pointsense import __version__
from pointsense.datasets import Dataset, Sample
from pointsense.evaluation import Case, Report, evaluate
from pointsense.evaluation.challenges import CHALLENGES, radius_px, rho_px
from pointsense.evaluation.predictions import cases_of, found_by_model
from pointsense.experiments.boxes import detect_boxes
from pointsense.experiments.published import TABLES, Table
from pointsense.inference.detector import Detector, pick_device
from pointsense.learning.course import Progress
from pointsense.learning.fit import train
from pointsense.learning.selection import draw_selection
from pointsense.model.config import Config, override
from pointsense.model.presets import preset
from pointsense.peers.faster_rcnn import backbone_of
from pointsense.reporting.markdown import markdown
from pointsense.writing import write_json, write_text

BOXES = "Faster R-CNN"
OURS = {
    "CNNCS": "cnncs",
    "ECNNCS-1": "ecnncs-1",
    "ECNNCS-2": "ecnncs-2",
    BOXES: "mitoses",
    "pointsense": "mitoses",
}
"""Rows that are trained, and their presets: boxes are learned on the crops, for the steps and from the backbone of the
package's own row, the last."""

MITOSIS_UM = 8.0
"""Side of the boxes: the diameter of a mitotic figure."""

HELD_BACK = 0.2
"""Share of the images to score on, where the data do not divide them."""


@dataclass(frozen=True)
class Row:
    """A row of ours: the scores, also within the paper's rho where that is known, and how it was trained."""

    method: str
    report: Report
    within_rho: Report | None
    backbone: str
    steps: int
    minutes: float
    selection_f1: float


def systems(table: Table, encoder: dict[str, Any]) -> dict[str, Config]:
    """The configurations of the rows that are trained: the paper's with its settings for the table.

    `encoder` are settings in place of the presets' own.
    """
    configs = {}
    for method, name in OURS.items():
        own = preset(name)
        of_paper = table.settings if own.head == "global" else {}
        if not own.alpha:  # without the L1 term
            of_paper = {key: value for key, value in of_paper.items() if key != "alpha"}
        configs[method] = override(own, of_paper | encoder)
    return configs


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
    challenge = CHALLENGES[table.challenge]
    radius = radius_px(table.challenge, dataset)
    samples = tuple(sample.with_look_alikes_apart() for sample in dataset.samples)
    dataset, where = divided(replace(dataset, samples=samples))
    rows = []
    configs = systems(table, encoder)
    share = minutes / len(configs)
    rho = rho_px(dataset) if dataset.smallest_radius_px else None

    def found(method: str, config: Config) -> tuple[list[Case], dict[str, Any], str, float]:
        """What a row's detector finds, how it was trained, its backbone, and its F1 on the selection part."""
        run = out / method.lower().replace(" ", "-")
        if method == BOXES:
            cases, facts = detect_boxes(
                dataset,
                run,
                config,
                radius=radius,
                box=MITOSIS_UM * radius / challenge.radius_um,
                protocol=challenge.protocol,
                minutes=share,
                seed=seed,
                device=device,
                report=report,
            )
            return cases, facts, backbone_of(config), facts["selection_f1"]
        metrics = train(
            dataset,
            run,
            config,
            radius=radius,
            time_limit=share,
            seed=seed,
            device=device,
            resume=True,
            report=report,
        )
        detector = Detector.load(run, device=device)
        cases = cases_of(dataset.val, found_by_model(dataset.val, detector))
        return cases, metrics, config.backbone, metrics["selection"]["f1"]

    for method, config in configs.items():
        if told:
            told(f"{method}: at most {share:.3g} minutes of training")
        began = time.monotonic()
        cases, facts, backbone, selection_f1 = found(method, config)
        scored = evaluate(cases, radius, protocol=challenge.protocol)
        within_rho = evaluate(cases, rho, protocol=challenge.protocol) if rho else None
        rows.append(
            Row(method, scored, within_rho, backbone, facts["steps"], facts["seconds"] / 60, selection_f1)
        )
        if told:
            told(
                f"{method}: F1 {scored.overall.f1:.3f} ({(time.monotonic() - began) / 60:.1f} minutes in all)"
            )
    text = _markdown(name, table, rows, where, radius, rho, seed)
    write_json(
        out / f"{name}.json",
        {
            "table": name,
            "version": __version__,
            "date": datetime.date.today().isoformat(),
            "device": str(pick_device(device)),
            "published": [asdict(row) for row in table.rows],
            "published_on": table.scored_on,
            "scored_on": where,
            "protocol": challenge.protocol,
            "radius_px": radius,
            "rho_px": rho,
            "seed": seed,
            "ours": {
                row.method: {
                    "settings": configs[row.method].model_dump(),
                    "backbone": row.backbone,
                    "steps": row.steps,
                    "minutes": row.minutes,
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


def _markdown(
    name: str, table: Table, rows: list[Row], where: str, radius: float, rho: float | None, seed: int
) -> str:
    def shown(value: float | None) -> str:
        return "" if value is None or value != value else f"{value:.3f}"

    challenge = CHALLENGES[table.challenge]
    header = (
        "method",
        "",
        "precision",
        "recall",
        "F1 [95%]",
        "F1 within ρ",
        "encoder",
        "steps",
        "minutes",
        "selection F1",
    )
    cells = [
        (one.method, "published", shown(one.precision), shown(one.recall), shown(one.f1), *[""] * 5)
        for one in table.rows
    ]
    for row in rows:
        scores, interval = row.report.overall, row.report.f1_interval
        spread = "" if interval is None else f" [{interval.low:.3f}, {interval.high:.3f}]"
        cells.append(
            (
                row.method,
                "ours",
                shown(scores.precision),
                shown(scores.recall),
                shown(scores.f1) + spread,
                "" if row.within_rho is None else shown(row.within_rho.overall.f1),
                row.backbone,
                str(row.steps),
                f"{row.minutes:.1f}",
                shown(row.selection_f1),
            )
        )
    parts = [
        f"# {name.replace('table', 'Table ')}: {table.title}",
        f"Published rows are the paper's, of {table.scored_on}. Ours are scored on {where}, {challenge.protocol} "
        f"within {radius:.3g} px ({challenge.radius_um:g} um), thresholds and stopping from a part of the other "
        f"images, seed {seed}: **the two kinds of rows are of different images, and do not compare.**"
        + ("" if rho is None else f" ρ, the radius of the smallest object, is {rho:.3g} px."),
        markdown(header, cells),
    ]
    if groups := sorted({group for row in rows for group in row.report.groups}):
        by_group = [(group, *(shown(row.report.groups[group].f1) for row in rows)) for group in groups]
        parts.append(markdown(("F1 by group", *(row.method for row in rows)), by_group))
    return "\n\n".join(parts) + "\n"
