"""predict, evaluate: points in images, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pointsense import __version__
from pointsense.cli.options import (
    ClassNames,
    Data,
    Device,
    Diameter,
    Out,
    Overwrite,
    Precision,
    Radius,
    SplitFile,
    Threshold,
    Tile,
    ValFold,
    Views,
)
from pointsense.cli.words import counted, listed, say


def predict(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images, and folders of images.")],
    model: Annotated[
        Path,
        typer.Option(
            "--model", "-m", metavar="MODEL", help="Folder of a trained model, or a name of models list."
        ),
    ],
    out: Out,
    format_: Annotated[str, typer.Option("--format", help="csv, geojson, or both: csv,geojson.")] = "csv",
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Also draw the points: NAME.overlay.png.")
    ] = False,
    threshold: Threshold = None,
    diameter: Diameter = None,
    views: Views = None,
    precision: Precision = None,
    tile: Tile = 1024,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Find points in images; each gets a table NAME.csv (y,x,score,class,votes,spread) in DIR.

    How many points each image has is written to predict.counts.csv, how they were found to predict.json.
    """
    from pointsense.inference.folder import parse_diameter, parse_formats, plan_jobs, predict_files
    from pointsense.inference.record import Record

    formats = parse_formats(format_)
    least = _thresholds(threshold)
    px = None if diameter is None else parse_diameter(diameter)
    jobs = plan_jobs(paths, out, overwrite=overwrite)

    from pointsense.inference.detector import Detector

    detector = Detector.load(model, device=device, views=views, precision=precision)
    detector.zoom_of(detector.known_diameter if px == "auto" else px)  # fails once, not for each image
    how = {"thresholds": detector.thresholds(least), "diameter": px, "tile": tile}
    print(f"device: {detector.device}, {detector.precision}", flush=True)
    record = Record(out, detector, model, {"version": __version__, **how})
    if gone := record.begin(jobs):
        others = ", ..." if gone[3:] else ""
        print(f"deleted the results of images that are no longer there: {', '.join(gone[:3])}{others}")
    failed = points = 0
    try:
        for outcome in predict_files(
            detector,
            jobs,
            formats=formats,
            threshold=least,
            diameter=px,
            tile=tile,
            draw=_overlay_of(detector) if overlay else None,
        ):
            record.add(outcome)
            if outcome.detections is None:
                failed += 1
                say(f"error: {outcome.problem}")
            else:
                points += len(outcome.detections)
                size = "" if outcome.diameter is None else f", diameter {outcome.diameter:.3g} px"
                print(f"{outcome.job.image}: {counted(len(outcome.detections), 'point')}{size}", flush=True)
    finally:
        record.write()  # of what was done, where the user stops it
    print(f"{len(jobs) - failed} of {len(jobs)} images done: {out}")
    if not points and failed < len(jobs):
        print("no image has a point; if some should: another --diameter? a lower --threshold?")
    if failed:
        raise typer.Exit(1)


def evaluate(
    data: Data,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", "-m", metavar="MODEL", help="Folder of a trained model, or a name of models list."
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of CSVs written by predict, in place of --model."),
    ] = None,
    radius: Radius = None,
    protocol: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="one-to-one, greedy or duplicate-tolerant; or a challenge, with its radius: icpr2012, icpr2012-8um, "
            "mitos14, amida13, tupac16, midog, crchisto; or rho, the radius of the smallest object.",
        ),
    ] = "one-to-one",
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Also compare with the CSVs of another detector on the same images."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    class_names: ClassNames = None,
    split_file: SplitFile = None,
    val_fold: ValFold = None,
    threshold: Threshold = None,
    diameter: Diameter = None,
    views: Views = None,
    precision: Precision = None,
    tile: Tile = 1024,
    device: Device = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write all scores to FILE.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="Also write a page (HTML) of the scores, curves and worst mistakes.",
        ),
    ] = None,
) -> None:
    """Score a model, or points already found, on the val images of DATA."""
    from dataclasses import asdict

    from rich.console import Console

    from pointsense.datasets import load_dataset, radii_of_classes
    from pointsense.errors import UsageError
    from pointsense.evaluation import predictions as found_by
    from pointsense.evaluation.challenges import resolve
    from pointsense.evaluation.sources import FolderSource, ModelSource, compared, scored
    from pointsense.inference.folder import parse_diameter
    from pointsense.writing import claim_folder, write_json

    if (model is None) == (predictions is None):
        raise UsageError("evaluate needs either --model RUN or --predictions DIR")
    for option, file, suffixes in (("--report", page, (".html", ".htm")), ("--json", json_file, (".json",))):
        if file is not None and file.suffix.lower() not in suffixes:
            raise UsageError(f"{option} is {file}, expected the name of a {suffixes[0]} file")
        if file is not None and file.is_dir():
            raise UsageError(f"{option} is {file}, which is a folder; give the name of a file")
        if file is not None:
            claim_folder(file.parent, overwrite=True)
    for option, value in (("--diameter", diameter), ("--views", views), ("--precision", precision)):
        if value is not None and model is None:
            raise UsageError(f"{option} is for --model: points already found are scored as they are")
    least = _thresholds(threshold)
    size = None if diameter is None else parse_diameter(diameter)
    dataset = load_dataset(data, split_file=split_file, val_fold=val_fold)
    rule, of_challenge = resolve(protocol, dataset)
    if of_challenge and all("=" in one for one in radius or []):
        radius = [str(of_challenge), *(radius or [])]
    samples = found_by.samples_of(dataset, split)
    if against is not None and len(samples) < 2:
        raise UsageError(f"--against needs two or more images to compare on, and {split} of {data} has one")
    other = None if against is None else found_by.found_in_folder(samples, against)
    what = {"data": str(data), "split": split, "source": str(model or predictions), "version": __version__}
    source: ModelSource | FolderSource
    if model is not None:
        from pointsense.inference.detector import Detector
        from pointsense.learning.run_folder import warn_if_learned_from

        detector = Detector.load(model, device=device, views=views, precision=precision)
        source = ModelSource(detector, least, diameter=size, tile=tile)
        what["precision"] = detector.precision
        print(f"device: {detector.device}, {detector.precision}", flush=True)
        warn_if_learned_from(model, [sample.name for sample in samples])
    else:
        assert predictions is not None
        source = FolderSource(predictions, samples, least, dataset)
    names = found_by.classes_of(dataset, source.known, class_names or [])
    radii = radii_of_classes(dataset, names, radius or [], source.radii)
    if other is not None:
        found_by.warn_if_without_class(other, names, dataset, str(against))
    told = {
        name: (px, _where_from(px, how, protocol, of_challenge, size)) for name, (px, how) in radii.items()
    }
    print(f"{len(samples)} {split} images; match radius {listed(told)}", flush=True)

    parts = scored(dataset, split, source, {name: px for name, (px, _) in radii.items()}, rule)
    scores = {part.name: what | {"class": part.name} | part.report.to_dict() for part in parts}
    console = Console(highlight=False, markup=False)  # names are no markup
    console.width = max(console.width, 100)
    for part in parts:
        if part.name:
            console.print(f"class {part.name}")
        console.print(part.report.as_table())
        if other is not None:
            difference = compared(dataset, split, part, other)
            scores[part.name]["difference"] = {"against": str(against), **asdict(difference)}
            print(f"{difference.words(str(against))}\n")
    for part in parts:
        print(f"F1{f' of {part.name}' if len(parts) > 1 else ''} {part.report.overall.f1:.3f}")
    if json_file is not None:
        write_json(json_file, scores if len(scores) > 1 else next(iter(scores.values())))
    if page is not None:
        _write_page(page, f"{model or predictions} on {split} of {data}", samples, parts, source)
        print(f"report: {page}")


def _where_from(
    px: float, how: str, protocol: str, of_challenge: float | None, size: float | str | None
) -> str:
    """Where a match radius comes from, in words."""
    from pointsense.datasets.radius import OF_MODEL

    if px == of_challenge:
        return f"of --protocol {protocol}"
    return f"{how}, for objects of {size:g} px" if how == OF_MODEL and isinstance(size, float) else how


def _write_page(page: Path, title: str, samples: Sequence[Any], parts: Sequence[Any], source: Any) -> None:
    """The page of scores and mistakes, with the codes of one window where a model has any."""
    from pointsense.evaluation.sources import ModelSource
    from pointsense.images import read_image
    from pointsense.reporting.code_section import code_section
    from pointsense.reporting.mistakes import write_mistakes

    paths = {sample.name: sample.path for sample in samples}
    more = []
    if isinstance(source, ModelSource) and source.detector.has_codes:
        first, detector = parts[0], source.detector
        most = max(first.candidates, key=lambda case: len(case.truth))
        image = read_image(paths[most.name])
        size = source.diameter
        if size == "auto":
            size = detector.estimated_diameter(detector.as_input(image), source.tile)
        k = source.known.index(first.name) if first.name in source.known else 0
        more = [code_section(detector, image, most.truth, most.name, k=k, zoom=detector.zoom_of(size))]
    write_mistakes(page, title, parts, lambda name: read_image(paths[name]), more)


def _overlay_of(detector: Any) -> Any:
    from pointsense.reporting.overlay import write_overlay

    def draw(path: Path, image: Any, found: Any, size: float) -> None:
        radii = {kind.name: kind.radius * size for kind in detector.classes}
        write_overlay(path, image, found.points, found.classes, known=[*radii], radius=radii)

    return draw


def _thresholds(given: Sequence[str] | None) -> dict[str, float]:
    """Least scores by class, "" for all others."""
    from pointsense.datasets.by_class import parse_by_class

    return parse_by_class(given or [], "--threshold", "a number, or CLASS=T")
