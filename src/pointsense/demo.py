"""The demo: a synthetic set made, learned, scored beside blob detection, and shown on one page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pointsense.datasets import Dataset, Sample, load_dataset
from pointsense.datasets.synthetic import RADIUS_PX, make_synthetic
from pointsense.evaluation import Case, Report, best_threshold, evaluate
from pointsense.evaluation.log_baseline import LogDetector, fit_log
from pointsense.evaluation.report import HEADER
from pointsense.images import read_image
from pointsense.inference.detector import Detector
from pointsense.learning import fit
from pointsense.learning.run_folder import CURVE
from pointsense.model.config import override
from pointsense.model.presets import SMALL, preset
from pointsense.points import Detections
from pointsense.reporting import Figure, Section, Table, draw_overlay, write_report
from pointsense.reporting.code_section import code_section
from pointsense.reporting.curves import draw_threshold_curve
from pointsense.writing import write_json

if TYPE_CHECKING:
    from pointsense.learning.course import Progress

MINUTES = 3.0
"""Of training, on 2 CPU cores."""


SHOWN_IMAGES = 4


@dataclass(frozen=True)
class DemoResult:
    """Where the report is, and the F1 of the model and of the tuned LoG on the held-out images."""

    page: Path
    f1: float
    log_f1: float


def run_demo(
    out: Path | str,
    *,
    seed: int = 0,
    minutes: float = MINUTES,
    images: int = 24,
    settings: dict[str, Any] | None = None,
    report: Callable[[Progress], None] | None = None,
) -> DemoResult:
    """Write `data/`, `model/`, `scores.json` and `report.html` to `out`.

    Parameters
    ----------
    out : Path
        Folder; files of these names are replaced.
    seed : int
        Of the images and of the training.
    minutes : float
        Most minutes of training.
    images : int
        Of the set; a third of them is held out.
    settings : dict, optional
        Changes to `SMALL`.
    report : callable, optional
        Called with the progress of the training.
    """
    out = Path(out)
    dataset = load_dataset(make_synthetic(out / "data", images=images, seed=seed))
    with _one_thread():
        metrics = fit.train(
            dataset,
            out / "model",
            override(preset("pointsense"), SMALL | (settings or {})),
            radius=RADIUS_PX,
            class_name="cell",
            time_limit=minutes,
            seed=seed,
            overwrite=True,
            report=report,
        )
    detector = Detector.load(out / "model", device=metrics["device"])
    held_out = {sample.name: read_image(sample.path) for sample in dataset.val}
    found = {name: detector.predict(image) for name, image in held_out.items()}
    scores = evaluate((_case(sample, found[sample.name]) for sample in dataset.val), RADIUS_PX)
    blobs = _fitted_log(dataset)
    log_scores = evaluate(
        (_log_case(sample, held_out[sample.name], blobs) for sample in dataset.val), RADIUS_PX
    )
    write_json(out / "scores.json", {"pointsense": scores.to_dict(), "log": log_scores.to_dict()})

    page, densest = out / "report.html", max(dataset.val, key=lambda sample: len(sample.points))
    write_report(
        page,
        "pointsense: a demo on synthetic cells",
        [
            _summary(dataset, metrics, scores, log_scores, blobs),
            _held_out(held_out, dataset, scores, log_scores),
            code_section(detector, held_out[densest.name], densest.points, densest.name),
            _training(out / "model", dataset, detector, metrics),
        ],
    )
    return DemoResult(page, scores.overall.f1, log_scores.overall.f1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One CPU thread for torch: crops this small gain little from two, which on busy cores wait for each other.

    The model is then also the same whatever the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _case(sample: Sample, found: Detections) -> Case:
    return Case(sample.name, sample.group, sample.points, found.points, found.scores)


def _fitted_log(dataset: Dataset) -> LogDetector:
    """The blob detector at its best on all `train` images, those of the selection included."""
    return fit_log(
        [read_image(sample.path) for sample in dataset.train],
        [sample.points for sample in dataset.train],
        RADIUS_PX,
    )


def _log_case(sample: Sample, image: np.ndarray, blobs: LogDetector) -> Case:
    return Case(sample.name, sample.group, sample.points, *blobs.detect(image))


def _summary(
    dataset: Dataset, metrics: dict[str, Any], scores: Report, log_scores: Report, blobs: LogDetector
) -> Section:
    code = metrics["code"]
    text = (
        "Cells here are soft ellipses with a dark nucleus. Around them lie discs and rings of a cell's size, specks "
        "of a nucleus's size and debris: each has one of a cell's two marks, none has both. The model learned the "
        f"difference from the points of {len(dataset.train)} images in {metrics['seconds'] / 60:.1f} minutes; all "
        f"scores below are those of {len(dataset.val)} held-out images, of other slides.\n\n"
        "The network does not output points. It outputs the compressed code of each window, "
        f"{code['numbers']} numbers for {code['cells']} cells of its mass map, and sparse recovery finds the points "
        f"that explain it. Beside it: a Laplacian of Gaussian (sigma {blobs.sigma:.1f} px, {blobs.polarity} blobs) "
        "whose scale, polarity and threshold were tuned on the same training images."
    )
    numbers = [
        (f"{scores.overall.f1:.2f}", "F1 of pointsense"),
        (f"{log_scores.overall.f1:.2f}", "F1 of the tuned LoG"),
        (f"{scores.overall.error_median:.2f} px", "median distance of found cells"),
        (f"{code['ratio']:.2f}", "code numbers a cell of the map"),
    ]
    rows = [report.rows()[0][1:] for report in (scores, log_scores)]
    table = Table(
        HEADER,
        [("pointsense", *rows[0]), ("tuned LoG", *rows[1])],
        f"pointsense: {scores.caption()} LoG: {log_scores.caption()}",
    )
    return Section("", text, numbers, [table])


def _held_out(images: dict[str, np.ndarray], dataset: Dataset, scores: Report, log_scores: Report) -> Section:
    """The images with most errors first: what goes wrong teaches more than what does not."""
    by_name = {sample.name: sample for sample in dataset.val}
    results = sorted(
        zip(scores.cases, log_scores.cases, strict=True), key=lambda pair: -sum(pair[0].counts[1:])
    )
    figures = []
    for ours, blobs in results[:SHOWN_IMAGES]:
        sample, image = by_name[ours.name], images[ours.name]
        for name, result in (("pointsense", ours), ("tuned LoG", blobs)):
            hits, alarms, misses = result.counts
            picture = draw_overlay(image, result.detections, sample.points, result.match, radius=RADIUS_PX)
            caption = f"{sample.name}, {name}: {hits} found, {misses} missed, {alarms} false"
            figures.append(Figure(picture, caption))
    return Section(
        "Held-out images",
        f"The {len(figures) // 2} images with the most errors of pointsense, with the tuned LoG beside each. A "
        f"detection within {RADIUS_PX:g} px of a cell counts as found, one cell each.",
        figures=figures,
    )


def _training(run: Path, dataset: Dataset, detector: Detector, metrics: dict[str, Any]) -> Section:
    names = set(metrics["selection"]["images"])
    selection = [sample for sample in dataset.train if sample.name in names]
    cases = (_case(sample, detector.predict(read_image(sample.path), threshold=0.0)) for sample in selection)
    choice = replace(best_threshold(cases, RADIUS_PX), threshold=detector.classes[0].threshold)
    return Section(
        "Training and the choice of the threshold",
        f"{metrics['steps']} steps in {metrics['seconds']:.0f} s on {metrics['device']}, seed {metrics['seed']}. "
        f"Stopping, reading and threshold were chosen on {len(selection)} of the training images that the network "
        "never learned from; the held-out images were opened for the scores alone.",
        figures=[
            Figure((run / CURVE).read_bytes(), "Loss of eq. (3), and F1 on the selection images.", wide=True),
            Figure(draw_threshold_curve(choice), "Thresholds on the selection images.", wide=True),
        ],
    )
