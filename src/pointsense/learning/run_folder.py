"""The folder of a training: what it holds before, during and after."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from pointsense.datasets import Dataset
from pointsense.datasets.dataset import first_few
from pointsense.errors import DataError, UsageError
from pointsense.inference.bundled import find_model
from pointsense.inference.detector import Detector
from pointsense.inference.storage import CONFIG, WEIGHTS
from pointsense.learning.card import model_card
from pointsense.learning.checkpoint import LOOK, NAME, read_checkpoint
from pointsense.model.config import with_defaults
from pointsense.reporting.curves import draw_history
from pointsense.writing import claim_folder, replacing, write_json, write_table, write_text

log = logging.getLogger(__name__)

FEATURES = "features.safetensors"
"""Of a frozen backbone; deleted at the end, as the checkpoint is."""

METRICS, HISTORY, CURVE, CARD = "metrics.json", "history.csv", "curve.png", "README.md"

LEARNED_FROM = "learned_from.json"
"""Of a model that comes with the package, without the rest of its run: names of the images that it learned from."""

SHOWN = 3
"""Most settings of which a message tells the values."""

Row = dict[str, float | None]
Checkpoint = tuple[dict[str, dict[str, Tensor]], dict[str, Any]]


def open_run(
    out: Path, request: dict[str, Any], *, resume: bool, overwrite: bool
) -> Checkpoint | Literal["finished"] | None:
    """A checkpoint to go on from, "finished", or None for a fresh start.

    Raises
    ------
    UsageError
        If the folder holds something and not one of `resume` and `overwrite` is given, or a training that was asked
        for with another request, or, to resume, a model without one; if it is a file, a data set, or may not be
        written to.
    DataError
        If the checkpoint is damaged.
    """
    if resume and overwrite:
        raise UsageError("--resume goes on with a training, --overwrite begins it anew: give one of the two")
    claim_folder(out, overwrite=True)
    if (out / "points.csv").exists() or (out / "images").exists():
        raise UsageError(f"{out} is a data set; give another --out")
    if overwrite or not out.is_dir() or not any(out.iterdir()):
        return None
    if not resume:
        raise UsageError(f"{out} is not empty; use --resume to go on with its training, or --overwrite")
    finished = (out / METRICS).exists()
    stored = None if finished else read_checkpoint(out / NAME)
    if not finished and stored is None:
        if there := [name for name in (CONFIG, WEIGHTS, CARD, CURVE) if (out / name).exists()]:
            raise UsageError(
                f"{out} holds {there[0]}, and no training to go on with: give another --out, or --overwrite to "
                "replace it"
            )
        log.warning("%s holds no checkpoint: the training starts at its first step", out)
        return None
    asked = read_metrics(out)["request"] if stored is None else stored[1]["request"]
    asked = asked | {"settings": with_defaults(asked.get("settings", {}))}
    if asked != request:
        raise UsageError(
            f"the training in {out} was started with other {' and '.join(_differing(asked, request))}; "
            "give the same options to --resume, or --overwrite"
        )
    if finished:
        log.warning("the training in %s is finished already: nothing is left to do", out)
        return "finished"
    return stored


def _differing(asked: dict[str, Any], request: dict[str, Any]) -> list[str]:
    """What a request has otherwise than one before it, the first few of the settings with their values."""
    told = []
    for key, now in request.items():
        before = asked.get(key)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
            values = [f"{name} {_told(before, name)}, now {_told(now, name)}" for name in names]
            key += f" ({'; '.join(values[:SHOWN])}{'; ...' * (len(values) > SHOWN)})"
        told.append(key)
    return told


def _told(settings: dict[str, Any], name: str) -> str:
    value = settings.get(name, "unset")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def clear_run(out: Path) -> None:
    """Delete what tells of an earlier training in the folder, so that nobody takes its model for the new one's."""
    _delete(out, (NAME, LOOK, METRICS, FEATURES, CONFIG, WEIGHTS, CARD, HISTORY, CURVE))


def _delete(out: Path, names: Sequence[str]) -> None:
    """Delete files of the folder, and what a kill has left of writing them."""
    for name in names:
        for part in (out / name, *out.glob(f".{Path(name).stem}.*.part*")):
            part.unlink(missing_ok=True)


def read_metrics(out: Path) -> dict[str, Any]:
    """What `finish_run` wrote.

    Raises
    ------
    DataError
        If it is damaged.
    """
    try:
        metrics = json.loads((out / METRICS).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{out / METRICS} cannot be read ({error}); copy the run again") from error
    needed = ("train_images", "selection", "request", "seed")
    if not isinstance(metrics, dict) or (lacking := [key for key in needed if key not in metrics]):
        what = f"lacks {', '.join(lacking)}" if isinstance(metrics, dict) else "is no JSON object"
        raise DataError(f"{out / METRICS} {what}; copy the run again, or train it with --overwrite")
    return metrics


def warn_if_learned_from(model: Path | str, names: Sequence[str]) -> None:
    """Log how many images have the names of those that a model was trained or chosen on: their scores would flatter."""
    run = find_model(model)
    learned = learned_from(run)
    if seen := [name for name in names if name in learned]:
        log.warning(
            "%d of %d images have names of images that the model was trained or chosen on (%s; %s): if they are the "
            "same, the scores flatter",
            len(seen), len(names), first_few(seen), run,
        )  # fmt: skip


def learned_from(run: Path) -> set[str]:
    """The names of the images that a model was trained or chosen on, as far as its folder tells."""
    if (run / LEARNED_FROM).is_file():
        return set(json.loads((run / LEARNED_FROM).read_text(encoding="utf-8")))
    if not (run / METRICS).is_file():
        return set()
    metrics = read_metrics(run)
    return {*metrics["train_images"], *metrics["selection"]["images"]}


def write_history(out: Path, rows: list[Row]) -> None:
    """Write history.csv."""
    cells = (["" if value is None else f"{value:.6g}" for value in row.values()] for row in rows)
    write_table(out / HISTORY, list(rows[0]), cells)


def _curve(rows: list[Row], name: str) -> tuple[list[float], list[float]]:
    """The steps that have a value of that name, and the values."""
    seen = [
        (step, value)
        for row in rows
        if (step := row["step"]) is not None and (value := row[name]) is not None
    ]
    return [step for step, _ in seen], [value for _, value in seen]


def finish_run(
    out: Path, detector: Detector, metrics: dict[str, Any], rows: list[Row], dataset: Dataset
) -> None:
    """Write the model, its card, the curve and the history; metrics.json last, as the sign that all is there."""
    detector.save(out)
    write_history(out, rows)
    losses, checks = (_curve(rows, name) for name in ("loss", "selection_f1"))
    curve = draw_history(*losses, *checks, metrics["selection"].get("best_step"))
    with replacing(out / CURVE) as temporary:
        temporary.write_bytes(curve)
    write_text(out / CARD, model_card(detector, metrics, dataset))
    write_json(out / METRICS, metrics)
    _delete(out, (NAME, LOOK, FEATURES))
