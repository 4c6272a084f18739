"""The page of ablations: of the paper's code by itself, and of the count in the default's label."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from pointsense import __version__
from pointsense.datasets import Dataset, load_dataset, match_radius
from pointsense.datasets.synthetic import RADIUS_PX, make_synthetic
from pointsense.errors import DataError
from pointsense.evaluation import evaluate
from pointsense.evaluation.predictions import cases_of, found_by_model
from pointsense.experiments.code_ablations import LARGE, Ablation, code_ablations
from pointsense.inference.detector import Detector
from pointsense.learning.course import Progress
from pointsense.learning.fit import train
from pointsense.model.config import override
from pointsense.model.presets import SMALL, preset
from pointsense.reporting.curves import draw_lines
from pointsense.writing import replacing, write_json, write_text

SEEDS = 3

WORDS = (
    "Codes of random points are measured, disturbed by Gaussian noise, recovered and read; no network and no image is "
    "in the tables but the last. The code is the paper's, with these changes: candidates are merged within a match "
    "radius, not 40 px; points are at least 2.5 radii apart; what was chosen on other patches is told. A network's "
    "errors need not be like independent noise."
)


def count_label(
    out: Path,
    dataset: Dataset | None,
    *,
    minutes: float,
    seed: int,
    device: str,
    report: Callable[[Progress], None] | None,
) -> Ablation:
    """The package's default, trained with and without a count in its label; without a data set on synthetic cells."""
    out = out / f"count-seed{seed}"
    if dataset is None:
        dataset = load_dataset(make_synthetic(out / "data", seed=seed))
        config, radius, images = (
            override(preset("pointsense"), SMALL),
            RADIUS_PX,
            "synthetic images, easy ones",
        )
    else:
        config, radius, images = (
            preset("pointsense"),
            match_radius(dataset)[0],
            f"images of {dataset.root.name}",
        )
    lines: dict[str, list[float]] = {}
    for beta in (config.beta, 0.0):
        name = f"β = {beta:g}"
        lines |= {f"{score}, {name}": [] for score in ("F1", "count MAE", "steps")}
        for number in range(SEEDS):
            run = out / f"beta{beta:g}-{number}"
            metrics = train(
                dataset,
                run,
                override(config, {"beta": beta}),
                radius=radius,
                time_limit=minutes / (2 * SEEDS),
                seed=seed + number,
                device=device,
                resume=True,
                report=report,
            )
            found = found_by_model(dataset.val, Detector.load(run, device=device))
            scores = evaluate(cases_of(dataset.val, found), radius).overall
            lines[f"F1, {name}"].append(scores.f1)
            lines[f"count MAE, {name}"].append(scores.count_mae)
            lines[f"steps, {name}"].append(float(metrics["steps"]))
    return Ablation(
        "The count in the default's label",
        f"The package's default, whose count is the sum of its mass map, trained on {len(dataset.train)} {images}, and "
        f"scored on {len(dataset.val)} others within {radius:g} px.",
        "score",
        "seed",
        [str(seed + number) for number in range(SEEDS)],
        lines,
    )


def ablate(
    out: Path | str,
    dataset: Dataset | None = None,
    *,
    minutes: float,
    seed: int = 0,
    device: str = "auto",
    patches: int = LARGE.patches,
    report: Callable[[Progress], None] | None = None,
    told: Callable[[str], None] | None = None,
) -> str:
    """All tables, written as `ablations.md`, `.json` and `.png`; the Markdown is returned.

    Parameters
    ----------
    out : path
        Trainings that are there are gone on with; what needs none is computed again, which takes minutes.
    dataset : Dataset, optional
        To train on with and without a count in the label; synthetic cells unless given.
    minutes : float
        Limit of the trainings together.
    seed : int
    device : str
        Of the trainings: auto, cpu, cuda, cuda:N or mps.
    patches : int
        How many are drawn for each number.
    report, told : callable, optional
        Given the progress of each training, and the title of each table that is done.

    Raises
    ------
    DataError
        If the data set has no images to train on, or none to score on.
    """
    if dataset is not None and not (dataset.train and dataset.val):
        raise DataError(
            f"{dataset.root} has {len(dataset.train)} train and {len(dataset.val)} val images, expected some of each: "
            "write them to split.csv"
        )
    out = Path(out)
    tables = []
    for table in code_ablations(patches, seed):
        tables.append(table)
        if told:
            told(f"done: {table.title}")
    with replacing(out / "ablations.png") as temporary:
        temporary.write_bytes(draw_lines([_panel(table) for table in tables]))
    tables.append(count_label(out, dataset, minutes=minutes, seed=seed, device=device, report=report))
    objects = patches * LARGE.points
    text = "\n\n".join(
        [
            "# Ablations",
            WORDS,
            f"A number of these tables is of {patches} patches ({objects} objects, but for other k), so that "
            f"differences below about .1 are noise. Seed {seed}.",
            "![The tables but the last as curves](ablations.png)",
            *(table.markdown() for table in tables),
            "Chosen for each number: in ablations.json.",
        ]
    )
    content = {
        "version": __version__,
        "date": datetime.date.today().isoformat(),
        "patches": patches,
        "seed": seed,
        "tables": [asdict(table) for table in tables],
    }
    write_json(out / "ablations.json", content)
    write_text(out / "ablations.md", text + "\n")
    return text + "\n"


def _panel(table: Ablation) -> tuple[str, str, Sequence[str], dict[str, list[float]]]:
    lines = {
        name if table.row == "code" else f"{table.row} {name}": line for name, line in table.lines.items()
    }
    return table.title, table.column, table.columns, lines
