"""The state of an unfinished training in one safetensors file: tensors, and the rest as JSON in its header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pointsense.errors import DataError
from pointsense.writing import replacing

NAME, LOOK = "checkpoint.safetensors", "look.checkpoint.safetensors"
"""Of the training, and of its second look."""

SECONDS = 20.0
"""Between two checkpoints."""


def write_checkpoint(path: Path, parts: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    """Write named groups of tensors and JSON values, all or nothing."""
    tensors = {
        f"{part}/{name}": value.detach().contiguous().cpu().clone()
        for part, group in parts.items()
        for name, value in group.items()
    }
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"state": json.dumps(state)}))


def read_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """What `write_checkpoint` wrote, or None where there is no checkpoint.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            parts: dict[str, dict[str, Tensor]] = {}
            for key in file.keys():  # noqa: SIM118
                part, name = key.split("/", 1)
                parts.setdefault(part, {})[name] = file.get_tensor(key)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); train again with --overwrite") from error
    return parts, state


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"{k}.{name}": torch.as_tensor(value) for k, entry in state.items() for name, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`, for an optimizer of the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        k, name = key.split(".", 1)
        state.setdefault(int(k), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
