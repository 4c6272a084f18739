"""Train on real image sets, score on their `val` images, write one JSON a set and variant.

    python benchmarks/real_data.py                              every set of TASKS, the default preset
    python benchmarks/real_data.py vgg_cells bccd               these; bccd stands for bccd-WBC and bccd-RBC
    python benchmarks/real_data.py icpr2012 --variant heatmap   the same network, trained on a heat map
    python benchmarks/real_data.py --rescore                    the trained models that are there, decoded anew
    python benchmarks/real_data.py --smoke                      a tiny synthetic set, to see that all runs

The sets lie in the folder named by --data or by the environment variable POINTSENSE_DATA. What has a JSON is
skipped; an interrupted training goes on where it was. `benchmarks/table.py` makes the table of docs/results.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pointsense.datasets import Dataset, Sample, load_dataset
from pointsense.datasets.synthetic import RADIUS_PX, make_synthetic
from pointsense.errors import PointsenseError, UsageError
from pointsense.evaluation import Case, Report, best_threshold, evaluate
from pointsense.images import read_image
from pointsense.model.config import override, parse_settings
from pointsense.model.presets import preset
from pointsense.writing import write_json

if TYPE_CHECKING:
    from pointsense.inference.decode import Decoder
    from pointsense.inference.detector import Detector
    from pointsense.learning.fit import Progress
    from pointsense.model.config import Config

ROOT = Path(__file__).resolve().parents[1]
PROTOCOL = "one-to-one"
REPORT_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Task:
    """One row of the results: what to train on, and how detections are matched.

    `radius` and `other_radii` are match radii in image pixels; the model is trained for the first, and its
    detections are scored at all of them. `settings` change the default preset; in them {data} is the folder
    of the sets. `split_file` and `val_fold` are those of `load_dataset`, within the set.
    """

    folder: str
    radius: float
    class_name: str = ""
    split_file: str | None = None
    val_fold: int | None = None
    minutes: float = 15.0
    other_radii: tuple[float, ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""

    def load(self, data: Path) -> Dataset:
        """The set with the split and the class of this task."""
        folder = data / self.folder
        split_file = None if self.split_file is None else folder / self.split_file
        dataset = load_dataset(folder, split_file=split_file, val_fold=self.val_fold)
        return dataset.only(self.class_name) if self.class_name else dataset

    @property
    def split(self) -> str:
        """Where the `val` images come from, in words."""
        if self.split_file is None:
            return "split.csv"
        return self.split_file if self.val_fold is None else f"fold {self.val_fold} of {self.split_file}"


# Mitoses are rare, the fields large and the slides few: an encoder that has seen images before, more doubt about the
# stain, and the mean of four rotations.
MITOSES: dict[str, Any] = {
    "backbone": "mobilenetv2_100",
    "weights": "{data}/weights/mobilenetv2_100.safetensors",
    "weights_origin": "tensorflow",
    "steps": 1800,
    "jitter": 0.2,
    "learning_rate": 1e-3,
    "backbone_learning_rate": 3e-4,
    "views": 4,
}
MICROMETRES_8 = 32.6  # px at 0.2456 um/px: the other radius that the contest's page names

TASKS = {
    "vgg_cells": Task("vgg_cells", 5, note="simulated"),
    "bccd-WBC": Task("bccd", 45, class_name="WBC"),
    "bccd-RBC": Task("bccd", 25, class_name="RBC", note="incomplete labels"),
    "crchisto": Task("crchisto", 6, note="patients unknown: may be in both halves"),
    "icpr2012-fold0": Task(
        "icpr2012",
        20,
        split_file="folds.csv",
        val_fold=0,
        minutes=60,
        other_radii=(MICROMETRES_8,),
        settings=MITOSES,
        note="every slide in both halves, as in the contest",
    ),
    "icpr2012-A04": Task(
        "icpr2012",
        20,
        minutes=60,
        other_radii=(MICROMETRES_8,),
        settings=MITOSES,
        note="a slide never seen",
    ),
}

VARIANTS: dict[str, dict[str, Any]] = {"code": {}, "heatmap": {"target": "heatmap"}}
"""What is compared: the default, and the plain heat map on the same encoder, steps, views and scorer."""

SMOKE = Task(
    "synthetic",
    RADIUS_PX,
    settings={"steps": 6, "batch": 2, "patch": 64, "width": 8, "checks": 1},
)


def select_tasks(names: Sequence[str]) -> dict[str, Task]:
    """The tasks that are named, or whose folder is; all for no name.

    Raises
    ------
    UsageError
        If a name is neither; the message lists those that are.
    """
    for name in names:
        if not any(name in (key, task.folder) for key, task in TASKS.items()):
            raise UsageError(f"unknown set '{name}'; the sets are {', '.join(TASKS)}")
    return {key: task for key, task in TASKS.items() if not names or {key, task.folder} & set(names)}


def result_name(name: str, variant: str = "code", seed: int = 0) -> str:
    """Stem of the result's file: the set, then the variant and the seed where they are not the default."""
    return name + f"-{variant}" * (variant != "code") + f"-seed{seed}" * (seed != 0)


def train_or_resume(
    task: Task, dataset: Dataset, run: Path, request: dict[str, Any], data: Path, overwrite: bool
) -> dict[str, Any]:
    """Train into `run`, or go on with what is there; return its metrics.

    Raises
    ------
    UsageError
        If the folder holds a training with other settings.
    """
    from pointsense.learning.fit import train

    asked = run.with_name(f"{run.name}.request.json")
    begun = run.is_dir() and any(run.iterdir()) and not overwrite
    if begun and (not asked.is_file() or json.loads(asked.read_text()) != request):
        raise UsageError(
            f"{run} holds a training with other settings; give --overwrite, or another --variant"
        )
    write_json(asked, request)
    settings = {
        key: value.replace("{data}", str(data)) if isinstance(value, str) else value
        for key, value in request["settings"].items()
    }
    return train(
        dataset,
        run,
        override(preset("pointsense"), settings),
        radius=task.radius,
        class_name=task.class_name,
        time_limit=request["minutes"],
        seed=request["seed"],
        resume=not overwrite,
        overwrite=overwrite,
        report=progress_printer(),
    )


def progress_printer() -> Callable[[Progress], None]:
    """A `report` for `train`: a line for every new score of the selection part, else every half minute."""
    last, shown = time.monotonic(), None

    def report(progress: Progress) -> None:
        nonlocal last, shown
        if progress.selection_f1 == shown and time.monotonic() - last < REPORT_SECONDS:
            return
        last, shown = time.monotonic(), progress.selection_f1
        said = f"  step {progress.step}/{progress.steps}, loss {progress.loss:.4g}"
        said += "" if shown is None else f", selection F1 {shown:.3f}"
        print(f"{said}, {progress.seconds_left:.0f} s left", flush=True)

    return report


class Read:
    """Images with what the network makes of them, computed once for all decoders."""

    def __init__(self, detector: Detector, samples: Sequence[Sample]):
        self.detector, self.samples = detector, samples
        images = [read_image(sample.path) for sample in samples]
        self.shapes = [image.shape[:2] for image in images]
        self.maps = [detector.maps(detector.prepare(image)) for image in images]

    def cases(self, decoder: Decoder, config: Config, threshold: float) -> list[Case]:
        """The samples with their detections, to be scored; `config` gives the blur."""
        cases = []
        for sample, shape, maps in zip(self.samples, self.shapes, self.maps, strict=True):
            found = self.detector.decode_maps(maps, decoder, config)
            detections = self.detector.detections(found, shape, threshold)
            cases.append(Case(sample.name, sample.group, sample.points, detections.points, detections.scores))
        return cases


def choose(read: Read, decoder: Decoder, radius: float) -> tuple[Config, float]:
    """The configuration (its blur) and the threshold of best F1 for a decoder, as `train` chooses the full one's."""
    from pointsense.learning.selection import BLURS

    best: tuple[float, Config, float] | None = None
    for blur in BLURS:
        config = override(read.detector.config, {"blur": blur})
        choice = best_threshold(read.cases(decoder, config, 0.0), radius, protocol=PROTOCOL)
        if best is None or choice.f1 > best[0]:
            best = choice.f1, config, choice.threshold
    assert best is not None
    return best[1:]


def predict(detector: Detector, samples: Sequence[Sample]) -> tuple[list[Case], list[float]]:
    """The samples with their detections, as a user gets them, and the seconds that each image took."""
    cases, seconds = [], []
    for sample in samples:
        image = read_image(sample.path)
        begin = time.perf_counter()
        found = detector.predict(image, name=sample.name)
        seconds.append(time.perf_counter() - begin)
        cases.append(Case(sample.name, sample.group, sample.points, found.points, found.scores))
    return cases, seconds


def compare_decoders(
    detector: Detector, dataset: Dataset, selection: Sequence[str], radius: float
) -> dict[str, dict[str, Any]]:
    """Scores on `val` of the decoders that do with less than the model's own.

    Each has a blur and a threshold of its own, from the same selection part of `train` and by the same rule as
    the model's. A heat map has maxima only, and the paper's heads have one decoder.
    """
    if detector.config.head != "projection" or detector.config.target != "code":
        return {}
    chosen_on = Read(detector, [sample for sample in dataset.train if sample.name in set(selection)])
    val = Read(detector, dataset.val)
    scores = {}
    for decoder in ("codes", "maxima"):
        config, threshold = choose(chosen_on, decoder, radius)
        report = evaluate(
            val.cases(decoder, config, threshold), radius, threshold=threshold, protocol=PROTOCOL
        )
        scores[decoder] = brief(report) | {"blur": config.blur}
    return scores


def brief(report: Report) -> dict[str, Any]:
    """The numbers of a report without its images."""
    return {
        key: value
        for key, value in report.to_dict().items()
        if key not in ("images", "protocol", "radius_px")
    }


def hardware(device: str) -> dict[str, Any]:
    """What the numbers in seconds depend on."""
    import torch

    models = [
        line.split(":", 1)[1].strip()
        for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else [])
        if line.startswith("model name")
    ]
    found = {
        "device": device,
        "cpu": models[0] if models else platform.machine(),
        "threads": torch.get_num_threads(),
    }
    return found | ({"gpu": torch.cuda.get_device_name()} if device.startswith("cuda") else {})


def versions() -> dict[str, str]:
    """Versions of what computed the numbers; `commit` ends in -dirty where files differ from it."""
    found = {name: version(name) for name in ("pointsense", "torch", "numpy", "scipy", "timm")}
    describe = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return {"python": platform.python_version(), **found}
    return {"python": platform.python_version(), **found, "commit": commit}


def rechosen(
    task: Task, dataset: Dataset, run: Path, metrics: dict[str, Any]
) -> tuple[Detector, dict[str, Any]]:
    """A trained model with blur and threshold chosen anew on its own selection part, and its metrics."""
    from pointsense.inference.detector import Detector
    from pointsense.learning.selection import Selection

    detector = Detector.load(run)
    samples = [sample for sample in dataset.train if sample.name in set(metrics["selection"]["images"])]
    chosen = Selection(samples, [read_image(sample.path) for sample in samples], task.radius).choose(detector)
    detector.config = chosen.applied_to(detector.config)
    return detector, metrics | {"selection": metrics["selection"] | {"f1": chosen.threshold.f1}}


def run_task(
    name: str, task: Task, data: Path, run: Path, request: dict[str, Any], asked: argparse.Namespace
) -> dict[str, Any]:
    """Train, predict and score one task; return what its JSON holds."""
    from pointsense.inference.detector import Detector

    dataset = task.load(data)
    if asked.rescore:
        detector, metrics = rechosen(task, dataset, run, json.loads((run / "metrics.json").read_text()))
    else:
        metrics = train_or_resume(task, dataset, run, request, data, asked.overwrite)
        detector = Detector.load(run)
    config = detector.config
    cases, seconds = predict(detector, dataset.val)
    report = evaluate(cases, task.radius, threshold=config.threshold, protocol=PROTOCOL)
    own = "maxima" if config.target == "heatmap" else "full"
    decoders = {own: brief(report) | {"blur": config.blur}}
    decoders |= compare_decoders(detector, dataset, metrics["selection"]["images"], task.radius)
    return {
        "set": name,
        "variant": asked.variant,
        "dataset": task.folder,
        "class": task.class_name,
        "split": task.split,
        "note": task.note,
        "protocol": PROTOCOL,
        "radius_px": task.radius,
        "threshold_choice": "selection part of train",
        "val_images": len(dataset.val),
        "val_points": sum(len(sample.points) for sample in dataset.val),
        "train_images": len(dataset.train),
        **request,
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
        "hardware": hardware(str(detector.device)),
        "training": {key: metrics[key] for key in ("seconds", "steps", "parameters")}
        | {
            "selection_f1": metrics["selection"]["f1"],
            "selection_images": len(metrics["selection"]["images"]),
        },
        "seconds_per_image": float(np.median(seconds)),
        "code": metrics["code"] if config.target == "code" else None,
        "decoder": own,
        "decoders": decoders,
        "other_radii": {
            f"{radius:g}": brief(evaluate(cases, radius, threshold=config.threshold, protocol=PROTOCOL))
            for radius in task.other_radii
        },
        # True and false positives and misses of each image, so that two variants can be compared on the same ones.
        "images": {case.name: list(case.counts) for case in report.cases},
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"{', '.join(TASKS)}; all if none is named")
    parser.add_argument("--data", type=Path, help="folder of the sets [POINTSENSE_DATA]")
    parser.add_argument("--out", type=Path, help="folder of the JSON files [docs/results]")
    parser.add_argument("--runs", type=Path, help="folder of the models [runs]")
    parser.add_argument("--variant", default="code", help=f"{', '.join(VARIANTS)}, or a name for your --set")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--minutes", type=float, help="limit of each training [the set's own]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overwrite", action="store_true", help="train and score again what has a JSON")
    parser.add_argument("--rescore", action="store_true", help="choose and score again, without training")
    parser.add_argument("--smoke", action="store_true", help="a tiny synthetic set; folders not named vanish")
    return parser.parse_args(arguments)


def run_all(arguments: argparse.Namespace, tasks: dict[str, Task], data: Path, out: Path, runs: Path) -> None:
    """Run the tasks as the command line asks, writing each JSON as soon as it is there."""
    for name, task in tasks.items():
        stem = result_name(name, arguments.variant, arguments.seed)
        path = out / f"{stem}.json"
        if arguments.rescore and not (runs / stem / "metrics.json").exists():
            print(f"{stem}: {runs / stem} holds no finished training, skipped")
            continue
        if path.exists() and not (arguments.overwrite or arguments.rescore):
            print(f"{stem}: {path} is there, skipped (--overwrite does it again)")
            continue
        request = {
            "seed": arguments.seed,
            "minutes": arguments.minutes or task.minutes,
            "settings": task.settings
            | VARIANTS.get(arguments.variant, {})
            | parse_settings(arguments.settings),
        }
        print(f"{stem}: at most {request['minutes']:g} minutes of training", flush=True)
        result = run_task(name, task, data, runs / stem, request, arguments)
        write_json(path, result)
        f1s = ", ".join(f"{key} {scores['overall']['f1']:.3f}" for key, scores in result["decoders"].items())
        print(f"{stem}: F1 {f1s}; written to {path}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or the exit code of what went wrong."""
    asked = parse(arguments)
    try:
        if asked.variant not in VARIANTS and not asked.settings:
            raise UsageError(
                f"unknown variant '{asked.variant}': use {', '.join(VARIANTS)}, or give it a --set"
            )
        if asked.variant in VARIANTS and asked.settings:
            raise UsageError(
                "--set makes another model: name it with --variant, so that no other result is lost"
            )
        if asked.smoke:
            with tempfile.TemporaryDirectory() as folder:
                temporary = Path(folder)
                make_synthetic(temporary / SMOKE.folder, images=6, size=64)
                out, runs = asked.out or temporary / "results", asked.runs or temporary / "runs"
                run_all(asked, {"synthetic": SMOKE}, temporary, out, runs)
            return 0
        given = asked.data or os.environ.get("POINTSENSE_DATA")
        if not given:
            raise UsageError("the image sets are not known; give --data FOLDER or set POINTSENSE_DATA")
        out, runs = asked.out or ROOT / "docs" / "results", asked.runs or ROOT / "runs"
        run_all(asked, select_tasks(asked.sets), Path(given), out, runs)
    except PointsenseError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
