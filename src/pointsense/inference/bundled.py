"""The models that come with the package: folders as `train` writes them, found by their name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pointsense.errors import DataError
from pointsense.model.presets import PRESETS

FOLDER = Path(__file__).resolve().parents[1] / "bundled"


@dataclass(frozen=True)
class BundledModel:
    """What `pointsense models list` says of a model: its name, its classes, and what it is for."""

    name: str
    folder: Path
    classes: tuple[str, ...]
    diameter: float
    summary: str


def bundled_models() -> list[BundledModel]:
    """All models that come with the package, by name."""
    models = []
    for path in sorted(FOLDER.glob("*/config.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        card = (path.parent / "README.md").read_text(encoding="utf-8").split("\n\n")
        classes = tuple(kind["name"] for kind in stored["classes"])
        summary = " ".join(card[1].split())
        models.append(
            BundledModel(path.parent.name, path.parent, classes, stored["settings"]["diameter"], summary)
        )
    return models


def find_model(model: Path | str) -> Path:
    """The folder of a model: the path itself where a model is there, else the bundled model of that name.

    Raises
    ------
    DataError
        If it is neither.
    """
    path = Path(model)
    if (path / "config.json").exists():
        return path
    known = {bundled.name: bundled.folder for bundled in bundled_models()}
    if str(model) in known:
        return known[str(model)]
    if path.is_dir():
        return path
    names = ", ".join(known) or "none"
    if str(model) in PRESETS:
        raise DataError(
            f"{model} is a preset, to train a model with (pointsense train DATA --preset {model}); the models that "
            f"come with the package are {names}"
        )
    raise DataError(
        f"there is no model folder {model}; give the folder that `pointsense train --out` wrote, or the name of a "
        f"model that comes with the package: {names}"
    )
