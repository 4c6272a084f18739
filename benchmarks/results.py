"""The results of the comparison: one JSON file for each task, method and seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from methods import METHODS, Method, training_of
from tasks import TASKS

FIRST = "first_seconds"
"""Of a training that was made once more: how long the first one took, by which it is known."""

Result = dict[str, Any]
Cell = tuple[str, str, int]
"""Task, method and seed."""


def result_name(name: str, method: str = "code", seed: int = 0) -> str:
    """Stem of the result's file: the set, then the method and the seed where they are not the default."""
    return name + f"-{method}" * (method != "code") + f"-seed{seed}" * (seed != 0)


def read_results(folder: Path) -> dict[Cell, Result]:
    """The results of the comparison that are there, without those that read a training that is there no longer."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result.get("set") in TASKS and "scores" in result:
            found[result["set"], result["method"], result["seed"]] = result
    return {cell: result for cell, result in found.items() if not is_stale(cell, found)}


def is_there(folder: Path, cell: Cell) -> bool:
    """Whether the result of a cell is there, and of the training that it is to be of."""
    task, name, seed = cell
    paths = {one: folder / f"{result_name(*one)}.json" for one in (cell, (task, training_of(name), seed))}
    found = {
        one: json.loads(path.read_text(encoding="utf-8")) for one, path in paths.items() if path.is_file()
    }
    return cell in found and not is_stale(cell, found)


def is_stale(cell: Cell, results: dict[Cell, Result]) -> bool:
    """Whether a result is of another training than the method's that it reads, or learns again, has now."""
    (task, name, seed), result = cell, results[cell]
    method = METHODS.get(name, Method(name))
    if not method.trained_as or (base := results.get((task, method.trained_as, seed))) is None:
        return False
    if method.refit:
        first, threshold = result["training"].get(FIRST), result["scores"]["threshold"]
        return bool((first, threshold) != (base["training"]["seconds"], base["scores"]["threshold"]))
    return any(
        result["training"].get(key) != base["training"].get(key) for key in ("seconds", "steps", "commit")
    )
