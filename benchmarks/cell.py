"""One cell of the comparison: a task, a method and a seed, trained (or taken as it is), read and scored."""

from __future__ import annotations

import datetime
import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from decoders import PROTOCOL, brief, compare_decoders
from methods import Method
from pointsense.datasets import Dataset
from pointsense.errors import UsageError
from pointsense.evaluation import Case, evaluate
from pointsense.images import read_image
from pointsense.model.config import override
from pointsense.model.presets import fitted_to
from pointsense.writing import write_json
from provenance import hardware, versions
from results import FIRST
from tasks import Task, configured, views_of

if TYPE_CHECKING:
    from pointsense.inference.detector import Detector
    from pointsense.peers.problem import Candidates

CANDIDATES = "candidates.json"
"""In the run folder of a peer: all that it saw."""

Outcome = tuple[list[Case], float, dict[str, Any]]
"""The `val` images with their detections, the threshold, and what else the JSON is to hold."""


def asked_of(run: Path) -> Path:
    """The file with the request that a training was started for."""
    return run.with_name(f"{run.name}.request.json")


def made_of(run: Path) -> Path:
    """Where a training's date and commit are kept: those of its JSON are of its last scoring."""
    return run.with_name(f"{run.name}.made.json")


def made_now() -> dict[str, Any]:
    """Date, commit and machine of a training that begins."""
    from pointsense.inference.device import pick_device

    return {
        "date": datetime.date.today().isoformat(),
        "commit": versions().get("commit", ""),
        "hardware": hardware(str(pick_device())),
    }


def begin(run: Path, overwrite: bool) -> None:
    """Note when, where and by which commit a training begins; one that goes on by another commit has both."""
    if overwrite:  # what fails to begin must not leave an older one under its name
        shutil.rmtree(run, ignore_errors=True)
    made, now = made_of(run), made_now()
    if not run.is_dir() or not any(run.iterdir()):
        write_json(made, now)
    elif made.is_file() and not (run / "metrics.json").is_file():
        stored = json.loads(made.read_text())
        if now["commit"] not in stored["commit"].split(", "):
            write_json(made, stored | {"commit": f"{stored['commit']}, {now['commit']}"})


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
    from pointsense.learning.progress import plain_lines

    asked = asked_of(run)
    begun = run.is_dir() and any(run.iterdir()) and not overwrite
    if begun and (not asked.is_file() or json.loads(asked.read_text()) != request):
        raise UsageError(
            f"{run} holds a training with other settings; give --overwrite, or another name to --method"
        )
    begin(run, overwrite)
    write_json(asked, request)
    return train(
        dataset,
        run,
        configured(request["preset"], request["settings"], data),
        radius=task.radius,
        class_name=task.class_name,
        max_train_images=task.max_train_images,
        time_limit=request["minutes"],
        seed=request["seed"],
        resume=True,
        report=plain_lines(Console()),
    )


def learned_again(run: Path, dataset: Dataset, again: Path, minutes: float, overwrite: bool) -> None:
    """Train once more as `run` was, on all images, into `again`, unless that is there."""
    from pointsense.learning.fit import refit
    from pointsense.learning.progress import plain_lines
    from pointsense.learning.run_folder import read_metrics

    begin(again, overwrite)
    made = made_of(again)
    write_json(made, {FIRST: read_metrics(run)["seconds"]} | json.loads(made.read_text()))
    refit(
        run,
        dataset,
        again,
        time_limit=minutes,
        resume=True,
        report=plain_lines(Console()),
    )


def run_ours(
    task: Task,
    dataset: Dataset,
    run: Path,
    request: dict[str, Any],
    data: Path,
    otherwise: dict[str, Any],
    again: Path | None,
    *,
    overwrite: bool,
    rescore: bool,
) -> Outcome:
    """Train one of pointsense's own networks and predict with it as a user does.

    It predicts with settings `otherwise`, or is learned once more from all images, to the folder `again`.
    """
    from pointsense.inference.detector import Detector
    from pointsense.learning.run_folder import read_metrics

    if not rescore:
        derived = bool(otherwise or again)
        metrics = train_or_resume(task, dataset, run, request, data, overwrite and not derived)
        detector = Detector.load(run)
    if rescore or otherwise:
        views = views_of(configured(request["preset"], request["settings"], data))
        detector, metrics = rechosen(dataset, run, request, views | otherwise)
    if again:
        if not rescore:
            learned_again(run, dataset, again, request["minutes"], overwrite)
        elif json.loads(made_of(again).read_text()).get(FIRST) != metrics["seconds"]:
            raise UsageError(
                f"{again} was learned again from another training than {run} holds; give --overwrite"
            )
        metrics = read_metrics(again) | {"selection": metrics["selection"]}
        chosen, detector, run = detector, Detector.load(again), again
        detector.classes, detector.config = chosen.classes, chosen.config
    config, kind = detector.config, detector.classes[0]
    cases, seconds = [], []
    for sample in dataset.val:
        image = read_image(sample.path)
        begin = time.perf_counter()
        found = detector.predict(image, name=sample.name)
        seconds.append(time.perf_counter() - begin)
        cases.append(Case(sample.name, sample.group, sample.points, found.points, found.scores))
    selection = metrics["selection"]
    return (
        cases,
        kind.threshold,
        {
            "hardware": hardware(str(detector.device)),
            "precision": detector.precision,
            "training": {key: metrics[key] for key in ("seconds", "steps", "parameters")}
            | {key: selection[key] for key in ("f1", "best_step")}
            | {"selection_images": len(selection["images"])}
            | (json.loads(made_of(run).read_text()) if made_of(run).is_file() else {}),
            "seconds_per_image": float(np.mean(seconds)),
            "code": metrics["code"] if config.target == "code" else None,
            "reading": asdict(kind.reading),
            "other_decoders": {}  # of what it has learned from they would say nothing
            if again
            else compare_decoders(detector, dataset, selection["images"], task.radius),
        },
    )


def rechosen(
    dataset: Dataset, run: Path, request: dict[str, Any], otherwise: dict[str, Any]
) -> tuple[Detector, dict[str, Any]]:
    """A trained model, with reading and threshold chosen anew on its own selection part, and its metrics.

    `otherwise` are the settings of prediction that it does not take from its training.
    """
    from pointsense.inference.detector import Detector
    from pointsense.learning.run_folder import read_metrics
    from pointsense.learning.selection import Selection

    asked = asked_of(run)
    if not asked.is_file() or json.loads(asked.read_text()) != request:
        raise UsageError(f"{run} holds a training with other settings; --rescore scores it under its own")
    detector, metrics = predicting(Detector.load(run), otherwise), read_metrics(run)
    samples = [sample for sample in dataset.train if sample.name in set(metrics["selection"]["images"])]
    images = [read_image(sample.path) for sample in samples]
    chosen = Selection(samples, images, detector.classes).settle(detector)
    return detector, metrics | {"selection": metrics["selection"] | {"f1": chosen[0].threshold.f1}}


def predicting(detector: Detector, otherwise: dict[str, Any]) -> Detector:
    """A detector that predicts with settings `otherwise`."""
    detector.config = override(detector.config, otherwise)
    if not detector.config.look:
        detector.look = None
    return detector


def run_peer(
    peer: str,
    task: Task,
    dataset: Dataset,
    run: Path,
    request: dict[str, Any],
    data: Path,
    *,
    overwrite: bool,
    rescore: bool,
) -> Outcome:
    """Train another detector on the same division of `train`, its threshold chosen by the same rule as ours."""
    from peers import load_peer
    from pointsense.datasets.division import draw_selection
    from pointsense.learning.fit import FRACTION
    from pointsense.peers.problem import Problem, all_candidates, as_cases, judge

    samples = dataset.train[: task.max_train_images]
    fit, select = draw_selection(samples, FRACTION, request["seed"], dataset.val)
    asked = {**request, "images": [[sample.name for sample in part] for part in (select, dataset.val)]}
    if not rescore and (overwrite or not (run / CANDIDATES).is_file()):
        run.mkdir(parents=True, exist_ok=True)
        config = fitted_to(configured(request["preset"], request["settings"], data), task.radius)
        problem = Problem(
            fit, select, task.radius, config, run, request["seed"], request["minutes"], task.box
        )
        made = made_now()
        trained = load_peer(peer)(problem)
        write_candidates(
            run, all_candidates(trained.finder, problem, dataset.val), trained.facts | made, asked
        )
    seen, training = read_candidates(run, asked)
    judged = judge(seen, select, task.radius, PROTOCOL)
    return (
        as_cases(dataset.val, judged.found),
        judged.threshold,
        {
            "hardware": training["hardware"],
            "training": training | {"f1": judged.selection_f1, "selection_images": len(select)},
            "seconds_per_image": seen.seconds,
            "code": None,
            "other_decoders": {},
        },
    )


def write_candidates(run: Path, seen: Candidates, training: dict[str, Any], asked: dict[str, Any]) -> None:
    """Keep what a peer saw, of which images, and what is to be said of its training, to judge it anew."""
    parts = {
        name: [[points.tolist(), scores.tolist()] for points, scores in found]
        for name, found in (("selected", seen.selected), ("found", seen.found))
    }
    write_json(run / CANDIDATES, parts | {"seconds": seen.seconds, "training": training, "asked": asked})


def read_candidates(run: Path, asked: dict[str, Any]) -> tuple[Candidates, dict[str, Any]]:
    """What `write_candidates` kept.

    Raises
    ------
    UsageError
        If it is of other settings or images.
    """
    from pointsense.peers.problem import Candidates

    stored = json.loads((run / CANDIDATES).read_text())
    if stored["asked"] != asked:
        raise UsageError(
            f"{run} holds a training with other settings or images; give --overwrite, or another name to --method"
        )
    selected, found = (
        [(np.array(points).reshape(-1, 2), np.array(scores)) for points, scores in stored[name]]
        for name in ("selected", "found")
    )
    return Candidates(selected, found, stored["seconds"]), stored["training"]


def run_task(
    name: str,
    task: Task,
    method: Method,
    data: Path,
    run: Path,
    request: dict[str, Any],
    again: Path | None,
    *,
    overwrite: bool,
    rescore: bool,
) -> dict[str, Any]:
    """Train, predict and score one task; return what its JSON holds."""
    how = {"overwrite": overwrite, "rescore": rescore}
    dataset = task.load(data)
    if method.peer:
        cases, threshold, about = run_peer(method.peer, task, dataset, run, request, data, **how)
    else:
        otherwise = method.settings_on(name) if method.trained_as else {}
        cases, threshold, about = run_ours(task, dataset, run, request, data, otherwise, again, **how)
    report = evaluate(cases, task.radius, threshold=threshold, protocol=PROTOCOL)
    return {
        "set": name,
        "dataset": task.folder,
        "class": task.class_name,
        "split": task.split,
        "note": task.note,
        "protocol": PROTOCOL,
        "radius_px": task.radius,
        "threshold_choice": "selection part of train",
        "val_images": len(dataset.val),
        "val_points": sum(len(sample.points) for sample in dataset.val),
        "train_images": len(dataset.train[: task.max_train_images]),
        **request | {"settings": request["settings"] | method.settings_on(name)},
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
        "scores": brief(report),
        "other_radii": {
            f"{radius:g}": brief(evaluate(cases, radius, threshold=threshold, protocol=PROTOCOL))
            for radius in task.other_radii
        },
        # True and false positives and misses of each image, so that two methods can be compared on the same ones.
        "images": {case.name: list(case.counts) for case in report.cases},
        "image_groups": {case.name: case.group for case in report.cases if case.group},
        **about,
    }
