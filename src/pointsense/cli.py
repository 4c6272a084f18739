"""The command line: verbs only. What a verb needs is imported when it runs, so that --help answers at once."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from pointsense import __version__
from pointsense.errors import PointsenseError

app = typer.Typer(
    name="pointsense",
    help="Cells, nuclei and mitoses as points in microscopy images. Points are (y, x) in pixels; (0, 0) is the "
    "centre of the first pixel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="Folder with images/ and points.csv (image,y,x[,class]), or train/ and val/ with a.tif and a.csv; or "
        "NAME:DIR of convert's names.",
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write to.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files of the same names in DIR.")]
Radius = Annotated[
    list[str] | None,
    typer.Option(
        "--radius",
        metavar="[CLASS=]PX",
        help="Match radius in image pixels, of all or of a class; else from dataset.json, else estimated.",
    ),
]
ClassNames = Annotated[
    list[str] | None,
    typer.Option(
        "--class", metavar="NAME", help="Use the points of this class only; several: each by itself."
    ),
]
SplitFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="CSV (image,split or image,fold) in place of split.csv.")
]
ValFold = Annotated[int | None, typer.Option(metavar="K", help="The fold of --split-file that is val.")]
PresetName = Annotated[
    str,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="pointsense; mitoses (rare); nuclei (of many sizes); the paper's cnncs, ecnncs-1, ecnncs-2.",
    ),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting, on top of the preset.")
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="The backbone's pretrained weights (safetensors)."),
]
EachClass = Annotated[
    bool, typer.Option("--each-class", help="Tell all classes of DATA apart; else all points are one kind.")
]
MaxTrainImages = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Only the first N train images by name.")
]
TimeLimit = Annotated[
    float | None, typer.Option(min=0.01, metavar="MIN", help="Stop each training after so many minutes.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Threshold = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        "-t",
        metavar="[CLASS=]T",
        help="Least score, of all or of a class; else the model's own.",
    ),
]
Diameter = Annotated[
    str | None,
    typer.Option(
        metavar="PX|auto",
        help="Typical diameter of the objects, auto to try several; else as in the training images.",
    ),
]
Tile = Annotated[
    int,
    typer.Option("--tile", "--tile-size", min=64, metavar="PX", help="Side of what is predicted at once."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]


@app.callback(invoke_without_command=True)
def pointsense(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        print(f"pointsense {__version__}")
        raise typer.Exit


@app.command()
def train(
    data: Data,
    out: Out,
    preset: PresetName = "pointsense",
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON file of settings, on top of the preset.")
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
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training that was stopped.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a detector on the train images of DATA; the val images are not opened."""
    dataset, radii, settings = _task(
        data, split_file, val_fold, class_names, each_class, radius, preset, config, set_, weights, diameter
    )

    from rich.console import Console

    from pointsense.inference.detector import pick_device
    from pointsense.learning import fit
    from pointsense.learning.progress import shown_progress

    console = Console()
    print(f"device: {pick_device(device)}")
    print(f"{len(dataset.train)} train images; match radius {_listed(radii)}", flush=True)
    try:
        with shown_progress(console) as report:
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
    except KeyboardInterrupt:
        _fail(f"stopped; go on with the same command and --resume, as far as {out} got", 130)
    selection, code = metrics["selection"], metrics["code"]
    print(
        f"code: {code['numbers']} numbers for {code['cells']} cells of a window (ratio {code['ratio']:.2f})"
    )
    for name, one in selection["classes"].items():
        of = f" of {name}" if len(radii) > 1 else ""
        print(f"{out}: F1{of} {one['f1']:.3f} on the selection images, threshold {one['threshold']:.3g}")


def _task(
    data: Path,
    split_file: Path | None,
    val_fold: int | None,
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
    settings = override(start_from(preset), read_config(config) if config else {})
    settings = override(settings, parse_settings(set_ or []))
    if weights:
        settings = override(settings, {"weights": str(weights)})
    if diameter:
        settings = override(settings, {"diameter": diameter})
    return dataset, radii, settings


@app.command()
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

    from rich.console import Console

    from pointsense.experiments.tune import tune as search
    from pointsense.inference.detector import pick_device
    from pointsense.learning.progress import shown_progress

    print(f"device: {pick_device(device)}")
    print(f"{len(dataset.train)} train images; match radius {_listed(radii)}", flush=True)

    def told(number: int, drawn: dict[str, Any], outcome: str) -> None:
        said = outcome or ", ".join(f"{name} {value:.4g}" for name, value in drawn.items())
        print(f"trial {number}: {said}", flush=True)

    try:
        with shown_progress(Console()) as report:
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
    except KeyboardInterrupt:
        _fail(f"stopped; go on with the same command and --resume, as far as {out} got", 130)
    finished = [row for row in rows if row["selection_f1"] is not None]
    best = max(finished, key=lambda row: row["selection_f1"])
    print(
        f"best of {len(rows)}: trial {best['number']}, F1 {best['selection_f1']:.3f} on the selection images, which "
        "flatters the best of many"
    )
    for folder in dict.fromkeys([rows[0]["folder"], best["folder"]]):
        print(f"on the val images: pointsense evaluate {data} --model {out / folder}")


@app.command()
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

    detector = Detector.load(model, device=device)
    detector.zoom_of(detector.known_diameter if px == "auto" else px)  # fails once, not for each image
    how = {"thresholds": detector.thresholds(least), "diameter": px, "tile": tile}
    print(f"device: {detector.device}", flush=True)
    record = Record(out, detector, model, {"version": __version__, **how})
    failed = 0
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
                _say(f"error: {outcome.problem}")
            else:
                size = "" if outcome.diameter is None else f", diameter {outcome.diameter:.3g} px"
                print(f"{outcome.job.image}: {_counted(len(outcome.detections), 'point')}{size}", flush=True)
    finally:
        record.write()  # of what was done, where the user stops it
    print(f"{len(jobs) - failed} of {len(jobs)} images done: {out}")
    if failed:
        raise typer.Exit(1)


def _overlay_of(detector: Any) -> Any:
    from pointsense.reporting.overlay import write_overlay

    radius = min(kind.radius for kind in detector.classes)
    return lambda path, image, found, size: write_overlay(
        path, image, found.points, found.classes, radius=radius * size
    )


@app.command()
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
    protocol: Annotated[str, typer.Option(help="one-to-one, greedy or duplicate-tolerant.")] = "one-to-one",
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    class_names: ClassNames = None,
    split_file: SplitFile = None,
    val_fold: ValFold = None,
    threshold: Threshold = None,
    diameter: Diameter = None,
    tile: Tile = 1024,
    device: Device = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write all scores to FILE.")
    ] = None,
) -> None:
    """Score a model, or points already found, on the val images of DATA."""
    from rich.console import Console

    from pointsense import evaluation
    from pointsense.datasets import load_dataset, radii_of_classes
    from pointsense.errors import UsageError
    from pointsense.evaluation import predictions as found_by
    from pointsense.inference.folder import parse_diameter
    from pointsense.writing import write_json

    if (model is None) == (predictions is None):
        raise UsageError("evaluate needs either --model RUN or --predictions DIR")
    if protocol not in evaluation.PROTOCOLS:
        raise UsageError(f"unknown --protocol '{protocol}'; use one of {', '.join(evaluation.PROTOCOLS)}")
    least = _thresholds(threshold)
    if diameter is not None and model is None:
        raise UsageError("--diameter is for --model: points already found are scored as they are")
    px = None if diameter is None else parse_diameter(diameter)
    dataset = load_dataset(data, split_file=split_file, val_fold=val_fold)
    samples = found_by.samples_of(dataset, split)
    of_model: dict[str, float] = {}
    if model is not None:
        from pointsense.inference.detector import Detector

        detector = Detector.load(model, device=device)
        of_model = {kind.name: kind.radius for kind in detector.classes}
        known = list(of_model)
        print(f"device: {detector.device}", flush=True)
    else:
        assert predictions is not None
        found = found_by.found_in_folder(samples, data, predictions, threshold=least)
        known = found_by.class_names_of(found)
    names = found_by.classes_of(dataset, known, class_names or [])
    radii = radii_of_classes(dataset, names, radius or [], of_model)
    print(f"{len(samples)} {split} images; match radius {_listed(radii)}", flush=True)
    if model is not None:
        found = found_by.found_by_model(samples, detector, threshold=least, diameter=px, tile=tile)
    console = Console()
    console.width = max(console.width, 100)
    reports = {}
    for name, (px, _) in radii.items():
        of_class = found_by.samples_of(dataset.only(name) if name else dataset, split)
        cases = found_by.cases_of(of_class, found, name if len(of_model) != 1 else "")
        reports[name] = evaluation.evaluate(cases, px, protocol=protocol)
        if name:
            console.print(f"class {name}")
        console.print(reports[name].as_table())
    for name, report in reports.items():
        print(f"F1{f' of {name}' if len(radii) > 1 else ''} {report.overall.f1:.3f}")
    if json_file is not None:
        what = {
            "data": str(data),
            "split": split,
            "source": str(model or predictions),
            "version": __version__,
        }
        scores = {name: what | {"class": name} | report.to_dict() for name, report in reports.items()}
        write_json(json_file, scores if len(scores) > 1 else next(iter(scores.values())))


@app.command()
def check(data: Data, radius: Radius = None, split_file: SplitFile = None, val_fold: ValFold = None) -> None:
    """Look for what would spoil a training: exit code 1 for errors, 0 for warnings alone."""
    from pointsense import datasets

    radii = datasets.parse_radii(radius or [])
    findings = datasets.check(
        data, split_file=split_file, val_fold=val_fold, radius=min(radii.values(), default=None)
    )
    for finding in findings:
        print(f"{finding.level}: {finding.message}")
    errors = sum(finding.level == "error" for finding in findings)
    print(f"{data}: {_counted(errors, 'error')}, {_counted(len(findings) - errors, 'warning')}")
    if errors:
        raise typer.Exit(1)


@app.command()
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


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a download, or of an export.")],
    name: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="NAME",
            help="icpr2012, mitos14, amida13, tupac16, tupac16-alternative, midog, crchisto, vgg, coco, voc, qupath, "
            "cvat or napari.",
        ),
    ],
    out: Out,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the images are, if elsewhere.")
    ] = None,
    scale: Annotated[
        float, typer.Option(help="Size of the images in sizes of the labelled ones: 0.5 for shrunken copies.")
    ] = 1.0,
    um_per_px: Annotated[
        float | None, typer.Option(metavar="UM", help="Pixel size, where it is not that of the download.")
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="Link to the images instead of copying them.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Bring what was downloaded from a contest, or exported by a tool, to images/ and points.csv."""
    from collections import Counter

    from pointsense.datasets.convert import write_dataset
    from pointsense.datasets.official import read_official
    from pointsense.errors import DataError, UsageError
    from pointsense.writing import claim_folder

    claim_folder(out, overwrite=overwrite)
    if {source.resolve(), (images or source).resolve()} & {out.resolve(), *out.resolve().parents}:
        raise UsageError(f"--out {out} lies in the folder that is read; give another")
    reading = read_official(name, source, images=images, scale=scale, um_per_px=um_per_px)
    if reading.problems:
        more = len(reading.problems) - 1
        raise DataError(reading.problems[0] + f" (and {more} more)" * (more > 0))
    for note in reading.notes:
        print(f"note: {note}")
    write_dataset(reading.dataset, out, link=link, overwrite=overwrite)
    samples = reading.dataset.samples
    kinds = Counter(kind for sample in samples for kind in sample.classes)
    listed = ", ".join(f"{count} {kind or 'points'}" for kind, count in sorted(kinds.items())) or "no points"
    print(f"{_counted(len(samples), 'image')}, {listed}: {out}")


models = typer.Typer(help="Models that come with the package.", no_args_is_help=True)
app.add_typer(models, name="models")


@models.command("list")
def list_models() -> None:
    """Names to give to --model, with what each finds, at which size, and what it was made of."""
    from pointsense.inference.bundled import bundled_models

    for model in bundled_models():
        print(
            f"{model.name}: {', '.join(model.classes)}; typical diameter {model.diameter:g} px. {model.summary}"
        )


@app.command()
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


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; whatever a user or a full disk can cause ends in one sentence on stderr."""
    _log_to_stderr()
    try:
        app(args=None if arguments is None else list(arguments), prog_name="pointsense")
    except PointsenseError as error:
        _fail(f"error: {error}", error.exit_code)
    except MemoryError:
        _fail("error: not enough memory; take smaller images, a smaller --tile or a smaller batch", 1)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        remedy = "; free some and try again" if error.errno == errno.ENOSPC else ""
        _fail(f"error: {error.strerror or error}{place}{remedy}", 1)
    raise SystemExit(0)


def _thresholds(given: Sequence[str] | None) -> dict[str, float]:
    """Least scores by class, "" for all others."""
    from pointsense.datasets.by_class import parse_by_class

    return parse_by_class(given or [], "--threshold", "a number, or CLASS=T")


def _log_to_stderr() -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            _say(f"{record.levelname.lower()}: {record.getMessage()}")

    log = logging.getLogger("pointsense")
    if not log.handlers:
        log.addHandler(Handler(logging.WARNING))


def _listed(radii: Mapping[str, tuple[float, str]]) -> str:
    """Radii by class and where they come from, in words."""
    return ", ".join(
        f"{name} " * (len(radii) > 1) + f"{px:g} px ({how})" for name, (px, how) in radii.items()
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _fail(message: str, code: int) -> NoReturn:
    _say(message)
    raise SystemExit(code)
