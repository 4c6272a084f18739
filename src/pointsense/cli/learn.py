"""train, refit, tune: from a data set to models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pointsense.cli.options import (
    ClassNames,
    Data,
    Device,
    EachClass,
    MaxTrainImages,
    Out,
    Overwrite,
    PresetName,
    Radius,
    Resume,
    Seed,
    Settings,
    SplitFile,
    TimeLimit,
    ValFold,
    Weights,
)
from pointsense.cli.words import fail, listed, say


def train(
    data: Data,
    out: Out,
    preset: PresetName = "pointsense",
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON file of settings, on top of its preset or this one; or a model's config.json.",
        ),
    ] = None,
    set_: Settings = None,
    weights: Weights = None,
    radius: Radius = None,
    class_names: ClassNames = None,
    each_class: EachClass = False,
    diameter: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="PX", help="Typical diameter of objects, for predict --diameter."),
    ] = None,
    split_file: SplitFile = None,
    val_fold: ValFold = None,
    selection_fraction: Annotated[
        float,
        typer.Option(
            min=0.01, max=0.9, help="Part of the train images that stopping and threshold are chosen on."
        ),
    ] = 0.2,
    max_train_images: MaxTrainImages = None,
    time_limit: TimeLimit = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a detector on the train images of DATA; the val images are not opened."""
    dataset, radii, settings = _task(
        data, split_file, val_fold, class_names, each_class, radius, preset, config, set_, weights, diameter
    )

    from pointsense.learning import fit

    _say_if_new(out, resume)
    with _shown(device, out, _learned_from(dataset.train[:max_train_images], radii)) as report:
        metrics = fit.train(
            dataset,
            out,
            settings,
            radius={name: px for name, (px, _) in radii.items()},
            selection_fraction=selection_fraction,
            max_train_images=max_train_images,
            time_limit=time_limit,
            seed=seed,
            device=device,
            resume=resume,
            overwrite=overwrite,
            report=report,
        )
    code = metrics["code"]
    print(
        f"code: {code['numbers']} numbers for {code['cells']} {code.get('of', 'cells')} (ratio {code['ratio']:.2f})"
    )
    _tell(out, metrics)


def refit(
    data: Data,
    out: Out,
    model: Annotated[
        Path,
        typer.Option("--model", "-m", metavar="RUN", help="Folder of a finished training on the same data."),
    ],
    split_file: SplitFile = None,
    val_fold: ValFold = None,
    weights: Weights = None,
    time_limit: TimeLimit = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of everything random; that of RUN if not given.")
    ] = None,
    device: Device = "auto",
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train once more as RUN was, on all of its images, those included that RUN chose its threshold on.

    Settings and thresholds are those of RUN: no training image is left to choose on, nor to score the model.
    """
    from pointsense.datasets import load_dataset
    from pointsense.learning import fit

    dataset = load_dataset(data, split_file=split_file, val_fold=val_fold)
    _say_if_new(out, resume)
    with _shown(device, out, f"once more after {model}, with the images that it chose on") as report:
        metrics = fit.refit(
            model,
            dataset,
            out,
            weights=weights or "",
            time_limit=time_limit,
            seed=seed,
            device=device,
            resume=resume,
            overwrite=overwrite,
            report=report,
        )
    _tell(model, metrics)
    print(f"{out}: learned from {len(metrics['train_images'])} images, with the threshold of {model}")


def _tell(out: Path, metrics: dict[str, Any]) -> None:
    """Print for each class F1 on the selection part, and the threshold."""
    classes = metrics["selection"]["classes"]
    for name, one in classes.items():
        of = f" of {name}" if len(classes) > 1 else ""
        print(f"{out}: F1{of} {one['f1']:.3f} on the selection images, threshold {one['threshold']:.3g}")


def tune(
    data: Data,
    out: Out,
    trials: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many in all; the first is the preset as it is.")
    ],
    preset: PresetName = "pointsense",
    set_: Settings = None,
    weights: Weights = None,
    radius: Radius = None,
    class_names: ClassNames = None,
    each_class: EachClass = False,
    split_file: SplitFile = None,
    val_fold: ValFold = None,
    max_train_images: MaxTrainImages = None,
    time_limit: TimeLimit = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a search that was stopped.")] = False,
) -> None:
    """Search settings at random around a preset, scored on a part of the train images."""
    dataset, radii, settings = _task(
        data, split_file, val_fold, class_names, each_class, radius, preset, None, set_, weights, None
    )

    from pointsense.experiments.tune import tune as search

    def told(number: int, drawn: dict[str, Any], outcome: str) -> None:
        said = outcome or ", ".join(f"{name} {value:.4g}" for name, value in drawn.items())
        print(f"trial {number}: {said}", flush=True)

    with _shown(device, out, _learned_from(dataset.train[:max_train_images], radii)) as report:
        rows = search(
            dataset,
            out,
            settings,
            radius={name: px for name, (px, _) in radii.items()},
            trials=trials,
            seed=seed,
            resume=resume,
            report=report,
            told=told,
            max_train_images=max_train_images,
            time_limit=time_limit,
            device=device,
        )
    finished = [row for row in rows if row["selection_f1"] is not None]
    if not finished:
        fail(f"error: no trial came to its end; the last one said: {rows[-1]['problem']}", 1)
    best = max(finished, key=lambda row: row["selection_f1"])
    print(
        f"best of {len(rows)}: trial {best['number']}, F1 {best['selection_f1']:.3f} on the selection images, which "
        "flatters the best of many"
    )
    for folder in dict.fromkeys(row["folder"] for row in (rows[0], best) if row in finished):
        print(f"on the val images: pointsense evaluate {data} --model {out / folder}")


def _learned_from(samples: Any, radii: Any) -> str:
    return f"{len(samples)} train images; match radius {listed(radii)}"


@contextmanager
def _shown(device: str, out: Path, about: str) -> Iterator[Any]:
    """Say what is learned, and yield a `report` that shows the progress; who stops it is told how to go on."""
    from rich.console import Console

    from pointsense.inference.device import pick_device
    from pointsense.learning.progress import shown_progress

    console = Console()
    print(f"device: {pick_device(device)}")
    print(about, flush=True)
    try:
        with shown_progress(console) as report:
            yield report
    except KeyboardInterrupt:
        fail(f"stopped; go on with the same command and --resume, as far as {out} got", 130)


def _say_if_new(out: Path, resume: bool) -> None:
    if resume and not out.exists():
        say(f"note: {out} is not there yet: the training starts at its first step")


def _task(
    data: Path,
    split_file: Path | None,
    val_fold: str | None,
    class_names: list[str] | None,
    each_class: bool,
    radius: list[str] | None,
    preset: str,
    config: Path | None,
    set_: list[str] | None,
    weights: Path | None,
    diameter: float | None,
) -> tuple[Any, Any, Any]:
    """The data set, the match radius of each class with where it is from, and the settings of a training."""
    from pointsense.datasets import load_dataset, radii_of_classes
    from pointsense.errors import UsageError
    from pointsense.model.config import override, parse_settings, read_config
    from pointsense.model.presets import preset as start_from

    dataset = load_dataset(data, split_file=split_file, val_fold=val_fold)
    dataset.to_learn_from()
    if class_names and each_class:
        raise UsageError("--class and --each-class exclude each other: name the classes, or take all")
    if each_class and not dataset.class_names:
        raise UsageError(
            f"--each-class: the points of {data} have no classes; leave it out, or add a column 'class'"
        )
    if class_names and len(set(class_names)) == 1:
        dataset = dataset.only(class_names[0])
    known = dataset.class_names
    names = class_names or (list(known) if each_class or len(known) == 1 else [""])
    radii = radii_of_classes(dataset, names, radius or [])
    given = read_config(config) if config else {}
    settings = override(start_from(given.get("preset", preset)), given)
    settings = override(settings, parse_settings(set_ or []))
    if settings.radius:
        raise UsageError("setting radius: the match radius is the data's; give --radius PX, or CLASS=PX")
    if weights:
        settings = override(settings, {"weights": str(weights)})
    if diameter:
        settings = override(settings, {"diameter": diameter})
    return dataset, radii, settings
