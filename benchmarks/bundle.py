"""Train the models that come with the package, score them on `val`, and put them where the package finds them.

    python benchmarks/bundle.py nuclei        train on dsb2018, score, write src/pointsense/bundled/nuclei
    python benchmarks/bundle.py blood         train on bccd; without --overwrite none is made again
    python benchmarks/bundle.py --rescore nuclei blood      choose and score again what is there, without training

The sets lie in the folder named by --data or by the environment variable POINTSENSE_DATA; only their `train` rows
are learned from. Scores go to docs/results/bundled-NAME.json and, in short, into the model's card.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cell import begin, made_of, predicting
from command import in_one_sentence
from decoders import PROTOCOL, brief
from pointsense.datasets import Dataset, load_dataset
from pointsense.datasets.division import draw_selection
from pointsense.errors import UsageError
from pointsense.evaluation import evaluate
from pointsense.evaluation.predictions import cases_of, found_by_model
from pointsense.images import read_image
from pointsense.inference.bundled import FOLDER
from pointsense.inference.detector import Detector
from pointsense.learning.fit import FRACTION, train
from pointsense.learning.progress import plain_lines
from pointsense.learning.run_folder import LEARNED_FROM
from pointsense.learning.selection import Selection
from pointsense.model.config import override
from pointsense.writing import write_json, write_text
from provenance import ROOT, hardware, versions
from real_data_table import f1_cell
from tasks import WEIGHTS, configured, data_folder, views_of

TRAINING = (
    "train_images", "selection_f1", "preset", "parameters", "steps", "training_seconds", "seed", "settings", "trained"
)  # fmt: skip
"""What a JSON file says of the training."""

SIDE = 1000
"""px: of the image whose prediction is timed."""


@dataclass(frozen=True)
class Bundle:
    """What a bundled model is made of, and what its card says.

    `settings` change the `preset`; `radius` is by class; `diameter` is the typical diameter of objects in the training
    images, px.
    """

    folder: str
    radius: dict[str, float]
    diameter: float
    summary: str
    data: str
    licence: str
    limits: str
    preset: str = "pointsense"
    settings: dict[str, Any] = field(default_factory=dict)


BUNDLES = {
    "nuclei": Bundle(
        "dsb2018",
        {"nucleus": 6.0},
        18,
        "Nuclei in fluorescence and, less surely, in H&E and bright field, grey or RGB.",
        "Kaggle 2018 Data Science Bowl, stage1_train with the community's mask fixes, centroids of the masks "
        "(Caicedo et al., Nat Methods 16, 2019)",
        "CC0-1.0, as the data; the encoder began with ImageNet weights of MobileNetV2 (Apache-2.0)",
        "Mostly 2-D cultures: 303 of the 372 training images are fluorescence, 60 are stained tissue, 9 are bright "
        "field. Nuclei much larger or smaller than 18 px (see --diameter), confocal stacks and electron microscopy "
        "were not seen. Test images may be crops of fields that were learned from. Not for diagnosis.",
        "nuclei",
        WEIGHTS | {"steps": 6000, "checks": 8},
    ),
    "blood": Bundle(
        "bccd",
        {"RBC": 25.0, "WBC": 45.0, "Platelets": 15.0},
        100,
        "Red cells, white cells and platelets in stained blood smears, RGB.",
        "BCCD (Shenggan 2018; images by cosmicad and akshaylamba), centres of the boxes",
        "MIT, as the data",
        "One laboratory, one stain, x100. Red cells that overlap or are cut by the border are often not annotated in "
        "the data: the model has learned to leave some of them out, and of those that it finds beyond the annotations "
        "many are right. Not for diagnosis.",
        settings={"patch": 256, "batch": 4, "steps": 4000, "zoom": 1.25},  # white cells are large
    ),
}


def score(detector: Detector, dataset: Dataset) -> tuple[dict[str, Any], float]:
    """Reports on `val` by class, and the median seconds of an image."""
    found, seconds = {}, []
    for sample in dataset.val:
        begin = time.perf_counter()
        found |= found_by_model([sample], detector)
        seconds.append(time.perf_counter() - begin)
    reports = {}
    for kind in detector.classes:
        samples = (dataset.only(kind.name) if kind.name in dataset.class_names else dataset).val
        report = evaluate(cases_of(samples, found, kind.name), kind.radius, protocol=PROTOCOL)
        reports[kind.name] = brief(report) | {"radius_px": kind.radius, "threshold": kind.threshold}
    return reports, float(np.median(seconds))


def large_image_seconds(detector: Detector, dataset: Dataset) -> float:
    """Seconds for an image of `SIDE` x `SIDE` px, the first `val` image side by side; the better of two runs."""
    first = read_image(dataset.val[0].path)
    image = np.broadcast_to(first, (*first.shape[:2], 3))
    tiled = np.tile(image, (-(-SIDE // image.shape[0]), -(-SIDE // image.shape[1]), 1))[:SIDE, :SIDE]
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        detector.predict(np.ascontiguousarray(tiled))
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def card(name: str, bundle: Bundle, detector: Detector, result: dict[str, Any]) -> str:
    """README.md of a bundled model."""
    rows = "\n".join(
        f"| {kind} | {one['radius_px']:g} | {one['threshold']:g} | {f1_cell(one)} "
        f"| {one['overall']['precision']:.3f} | {one['overall']['recall']:.3f} |"
        for kind, one in result["classes"].items()
    )
    kinds = "\n".join(
        f"| {kind} in {group} | {part['images']} | {part['f1']:.3f} |"
        for kind, one in result["classes"].items()
        for group, part in one["groups"].items()
    )
    by_kind = f"\n| class and kind of image | images | F1 |\n|---|---|---|\n{kinds}\n" * bool(kinds)
    levels = "each image is stretched between its own 1 and 99.8 percentiles"
    if detector.contract.levels == "fixed":
        levels = "black and white are those of the training images"
    return f"""# {name}

{bundle.summary}

    pointsense predict IMAGES --model {name} --out DIR

- typical diameter of an object in the training images: {bundle.diameter:g} px; give that of yours with `--diameter PX`
- input: {detector.contract.channels} channels, grey and RGB are converted into each other; {levels}
- {result["parameters"]:,} parameters, stored in half precision
- data: {bundle.data}; {result["train_images"]} images of its `train` part
- licence of the weights: {bundle.licence}

Scores on {result["val_images"]} test images, used neither to train nor to choose thresholds
({PROTOCOL} matching, bootstrap over groups where there are any, else images, {result["date"]},
`python benchmarks/bundle.py {name}`):

| class | radius px | threshold | F1 [95%] | precision | recall |
|---|---|---|---|---|---|
{rows}
{by_kind}
**Limits.** {bundle.limits}
"""


def make(name: str, data: Path, runs: Path, minutes: float, seed: int, overwrite: bool) -> dict[str, Any]:
    """Train a model, put it where the package finds it, and say how it was trained."""
    bundle, run, folder = BUNDLES[name], runs / f"bundled-{name}", FOLDER / name
    config = configured(bundle.preset, bundle.settings | {"diameter": bundle.diameter}, data)
    dataset = load_dataset(data / bundle.folder)
    begin(run, overwrite)
    metrics = train(
        dataset,
        run,
        config,
        radius=bundle.radius,
        time_limit=minutes,
        seed=seed,
        resume=True,
        report=plain_lines(Console()),
    )
    made = json.loads(made_of(run).read_text()) if made_of(run).is_file() else {}
    folder.mkdir(parents=True, exist_ok=True)
    detector = Detector.load(run)
    file = Path(config.weights).name  # its path is of no use elsewhere
    detector.config = override(detector.config, {"weights": file})
    detector.save(folder, half=True)
    return {
        "train_images": len(dataset.train),
        "selection_f1": {kind: one["f1"] for kind, one in metrics["selection"]["classes"].items()},
        "parameters": metrics["parameters"],
        "steps": metrics["steps"],
        "training_seconds": metrics["seconds"],
        "seed": seed,
        "preset": bundle.preset,
        "settings": bundle.settings,
        "trained": versions() | made,
    }


def choose_again(name: str, data: Path, training: dict[str, Any]) -> dict[str, Any]:
    """Choose views, readings and thresholds of a shipped model anew, on the selection part of its training."""
    bundle, folder = BUNDLES[name], FOLDER / name
    views = views_of(configured(bundle.preset, bundle.settings, data))
    dataset, detector = load_dataset(data / bundle.folder), predicting(Detector.load(folder), views)
    names = [kind.name for kind in detector.classes]
    _, samples = draw_selection(dataset.train, FRACTION, training["seed"], dataset.val, names)
    images = [read_image(sample.path) for sample in samples]
    chosen = Selection(samples, images, detector.classes).settle(detector)
    detector.save(folder, half=True)
    scores = {kind: one.threshold.f1 for kind, one in zip(names, chosen, strict=True)}
    return training | {"selection_f1": scores}


def describe(name: str, data: Path, path: Path, training: dict[str, Any]) -> None:
    """Score a model as it is shipped; write its card and the JSON file `path`."""
    bundle, folder = BUNDLES[name], FOLDER / name
    detector, dataset = Detector.load(folder), load_dataset(data / bundle.folder)
    classes, seconds = score(detector, dataset)
    result = {
        "bundled": name,
        "protocol": PROTOCOL,
        "classes": classes,
        "val_images": len(dataset.val),
        **training,
        "seconds_per_image": seconds,
        "seconds_1000_px": large_image_seconds(detector, dataset),
        "bytes": (folder / "model.safetensors").stat().st_size,
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
        "hardware": hardware(str(detector.device)),
    }
    write_json(folder / LEARNED_FROM, sorted(sample.name for sample in dataset.train))
    write_text(folder / "README.md", card(name, bundle, detector, result))
    write_json(path, result)
    for kind, one in classes.items():
        print(f"{name}: F1 of {kind} {one['overall']['f1']:.3f}")


def training_in(path: Path) -> dict[str, Any]:
    """How the model that a JSON file describes was trained.

    Raises
    ------
    UsageError
        If there is none.
    """
    if not path.is_file():
        raise UsageError(f"--rescore needs {path}, of the training; make the model without it")
    stored = json.loads(path.read_text(encoding="utf-8"))
    return {key: stored[key] for key in TRAINING if key in stored}


@in_one_sentence
def main(arguments: Sequence[str] | None = None) -> int:
    """Make the models that are named; 0, or the exit code of what went wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(BUNDLES))
    parser.add_argument("--data", type=Path, help="folder of the sets [POINTSENSE_DATA]")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "results", help="folder of the JSON files"
    )
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the trainings")
    parser.add_argument("--minutes", type=float, default=40.0, help="limit of each training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overwrite", action="store_true", help="train again what is there")
    parser.add_argument("--rescore", action="store_true", help="choose and score again, without training")
    asked = parser.parse_args(arguments)
    data = data_folder(asked.data)
    for name in asked.names:
        if name not in BUNDLES:
            raise UsageError(f"unknown model '{name}'; the models are {', '.join(BUNDLES)}")
        path = asked.out / f"bundled-{name}.json"
        if asked.rescore:
            training = choose_again(name, data, training_in(path))
        else:
            training = make(name, data, asked.runs, asked.minutes, asked.seed, asked.overwrite)
        describe(name, data, path, training)
    return 0


if __name__ == "__main__":
    sys.exit(main())
