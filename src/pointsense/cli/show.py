"""models, settings, demo, reproduce: what comes with the package, and what was published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pointsense import __version__
from pointsense.cli.options import (
    Device,
    Images,
    Out,
    Overwrite,
    PixelSize,
    PresetName,
    Scale,
    Seed,
    Settings,
    Weights,
)


def list_models() -> None:
    """Names to give to --model, with what each finds and at which size."""
    from pointsense.inference.bundled import bundled_models

    for model in bundled_models():
        print(
            f"{model.name}: {', '.join(model.classes)}; typical diameter {model.diameter:g} px. {model.summary}"
        )


def settings(preset: PresetName = "pointsense") -> None:
    """All that --set changes: name, value in the preset, and what it is."""
    from rich.console import Console
    from rich.table import Table

    from pointsense.model.config import Config
    from pointsense.model.presets import preset as start_from

    table = Table(box=None, pad_edge=False)
    for column in ("setting", "value", "what it is"):
        table.add_column(column, overflow="fold", no_wrap=column == "setting")
    for name, value in start_from(preset).model_dump().items():
        table.add_row(name, str(value), Config.model_fields[name].description or "")
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(
        "(global, spatial, projection; grid, random): it has an effect only with that head or sampling"
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
        str,
        typer.Argument(
            metavar="EXPERIMENT",
            help="table2 to table7, of the paper; ablations, of its code; agreement, of two labellings of TUPAC16.",
        ),
    ],
    out: Out,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Folder of the contest's data, as it is downloaded; for ablations a data set to train on, if any.",
        ),
    ] = None,
    images: Images = None,
    scale: Scale = 1.0,
    um_per_px: PixelSize = None,
    budget: Annotated[
        float, typer.Option(min=0.01, metavar="MIN", help="Minutes of training, for all rows together.")
    ] = 240,
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="A model of timm in place of each row's own.")
    ] = None,
    weights: Weights = None,
    set_: Settings = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Make what was published again, from a contest's data, or of the code itself; what is in --out is gone on with."""
    from functools import partial

    from rich.console import Console

    from pointsense.datasets import load_dataset
    from pointsense.datasets.official import FORMATS, read_official
    from pointsense.errors import UsageError
    from pointsense.experiments import tables, tupac16_agreement
    from pointsense.experiments.ablations import ablate
    from pointsense.experiments.published import TABLES
    from pointsense.learning.progress import shown_progress
    from pointsense.model.config import parse_settings
    from pointsense.writing import write_json

    console = Console(highlight=False, markup=False)  # names are no markup
    if experiment == "ablations":
        if images or scale != 1 or um_per_px or encoder or weights or set_:
            raise UsageError("of the options, ablations know --data, --budget, --seed and --device alone")
        dataset = load_dataset(data) if data else None
        with shown_progress(console) as report_progress:
            told = partial(print, flush=True)
            print(
                ablate(
                    out, dataset, minutes=budget, seed=seed, device=device, report=report_progress, told=told
                )
            )
        print(f"{out / experiment}.md")
        return
    if experiment not in (*TABLES, "agreement"):
        raise UsageError(
            f"unknown experiment '{experiment}'; use {', '.join(TABLES)}, ablations or agreement"
        )
    if data is None:
        form = FORMATS[TABLES[experiment].contest if experiment in TABLES else "tupac16-alternative"]
        raise UsageError(
            f"{experiment} is made from data to be had from {form.obtain}; give their folder with --data"
        )
    if experiment == "agreement":
        report = tupac16_agreement(data)
        print(f"TUPAC16's alternative labels, scored against the original ones: {len(report.cases)} cases")
        console.width = max(console.width, 100)
        console.print(report.as_table())
        print(f"F1 {report.overall.f1:.3f}")
        write_json(out / "agreement.json", {"version": __version__} | report.to_dict())
        return
    reading = read_official(TABLES[experiment].contest, data, images=images, scale=scale, um_per_px=um_per_px)
    dataset = reading.sound()
    for note in reading.notes:
        print(f"note: {note}")
    given = {"backbone": encoder, "weights": weights and str(weights)}
    settings = {key: value for key, value in given.items() if value} | parse_settings(set_ or [])
    with shown_progress(console) as report_progress:
        text = tables.reproduce(
            experiment,
            dataset,
            out,
            minutes=budget,
            encoder=settings,
            seed=seed,
            device=device,
            report=report_progress,
            told=partial(print, flush=True),
        )
    print(text)
    print(f"{out / experiment}.md")
