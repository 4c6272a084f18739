"""models, demo, reproduce: what comes with the package, and what was published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pointsense import __version__
from pointsense.cli.options import (
    Out,
    Overwrite,
    Seed,
)


def list_models() -> None:
    """Names to give to --model, with what each finds, at which size, and what it was made of."""
    from pointsense.inference.bundled import bundled_models

    for model in bundled_models():
        print(
            f"{model.name}: {', '.join(model.classes)}; typical diameter {model.diameter:g} px. {model.summary}"
        )


def demo(out: Out, seed: Seed = 0, overwrite: Overwrite = False) -> None:
    """Make a small synthetic set, train on it, score the result and write report.html."""
    from pointsense.writing import claim_folder

    claim_folder(out, overwrite=overwrite)

    from rich.console import Console

    from pointsense.demo import MINUTES, run_demo
    from pointsense.learning.progress import shown_progress

    print(f"synthetic cells to {out}, then at most {MINUTES:g} minutes of training", flush=True)
    with shown_progress(Console()) as report:
        result = run_demo(out, seed=seed, report=report)
    print(f"report: {result.page}")
    print(f"LoG F1 {result.log_f1:.2f}")
    print(f"F1 {result.f1:.2f}")


def reproduce(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="agreement: of two labellings of TUPAC16.")
    ],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the download.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write all scores to FILE.")
    ] = None,
) -> None:
    """Make what was published on a contest again, from its data."""
    from rich.console import Console

    from pointsense.errors import UsageError
    from pointsense.experiments import tupac16_agreement
    from pointsense.writing import write_json

    if experiment != "agreement":
        raise UsageError(f"unknown experiment '{experiment}'; use agreement")
    report = tupac16_agreement(data)
    print(f"TUPAC16's alternative labels, scored against the original ones: {len(report.cases)} cases")
    console = Console()
    console.width = max(console.width, 100)
    console.print(report.as_table())
    print(f"F1 {report.overall.f1:.3f}")
    if json_file is not None:
        write_json(json_file, {"experiment": experiment, "version": __version__} | report.to_dict())
