"""The folder of a model: a JSON file with all that describes it, a safetensors file with the weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pointsense.errors import DataError, UsageError
from pointsense.images import InputContract
from pointsense.model.classes import PointClass, Positive
from pointsense.model.config import Config, override
from pointsense.model.network import Network, build_network
from pointsense.model.second_look import SecondLook
from pointsense.writing import replacing, write_json

FORMAT = 3
"""Version of the model folder; others are refused."""

CONFIG, WEIGHTS = "config.json", "model.safetensors"
CLASSES = TypeAdapter(tuple[PointClass, ...])
PIXEL = TypeAdapter(Positive | None, config=ConfigDict(allow_inf_nan=False))

LOOK = "look."
"""What the names of the second look's tensors begin with."""


@dataclass(frozen=True)
class Stored:
    """What a folder holds; see `Detector`."""

    network: Network
    config: Config
    contract: InputContract
    classes: tuple[PointClass, ...]
    um_per_px: float | None
    look: SecondLook | None = None


def write_model(folder: Path, model: Stored, half: bool = False) -> None:
    """Write both files, each all or nothing; `half` halves the weights' size.

    Raises
    ------
    DataError
        If they cannot be written.
    """
    tensors = model.network.state_dict()
    if model.look is not None:
        tensors |= {LOOK + name: value for name, value in model.look.state_dict().items()}
    tensors = {name: value.contiguous().cpu() for name, value in tensors.items()}
    if half:
        tensors = {n: value.half() if value.is_floating_point() else value for n, value in tensors.items()}
    with replacing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save(tensors))
    write_json(
        folder / CONFIG,
        {
            "format": FORMAT,
            "classes": [asdict(kind) for kind in model.classes],
            "um_per_px": model.um_per_px,
            "input": model.contract.model_dump(mode="json"),
            "settings": model.config.model_dump(),
        },
    )


def read_model(folder: Path) -> Stored:
    """What `write_model` wrote.

    Raises
    ------
    DataError
        If the folder is empty, damaged, from another version, or its weights do not fit its configuration.
    """
    stored = _stored(folder)
    try:
        config = override(Config(), stored["settings"])
        contract = InputContract.model_validate(stored["input"])
        classes = CLASSES.validate_python(stored["classes"])
        um_per_px = PIXEL.validate_python(stored.get("um_per_px"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        of_a_value = f"{where}: {first['msg']}, found {first['input']!r}"
        raise DataError(
            f"{folder / CONFIG} is damaged: {of_a_value if where else first['msg']}; copy the model again"
        ) from error
    except (UsageError, KeyError, TypeError) as error:
        raise DataError(f"{folder / CONFIG} is damaged: {error}") from error
    names = [kind.name for kind in classes]
    if len(set(names)) < len(names) or not (config.scale and config.stride and config.radius):
        raise DataError(
            f"{folder / CONFIG} is damaged: classes of one name, or no scale, stride or radius; copy the model again"
        )
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{folder / WEIGHTS} cannot be read ({error}); the file is missing or cut short: copy the model again"
        ) from error
    network = build_network(config, contract.channels, len(classes), load=False)
    of_look = {name.removeprefix(LOOK): tensors.pop(name) for name in list(tensors) if name.startswith(LOOK)}
    look = SecondLook(config, contract.channels, len(classes), load=False) if of_look else None
    try:
        network.load_state_dict(tensors)
        if look is not None:
            look.load_state_dict(of_look)
    except RuntimeError as error:
        raise DataError(
            f"{folder / WEIGHTS} does not fit {CONFIG} beside it ({str(error).splitlines()[-1].strip()}); "
            "copy both files of the model again"
        ) from error
    return Stored(network, config, contract, classes, um_per_px, look)


def _stored(folder: Path) -> dict[str, Any]:
    try:
        stored = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{folder} holds no {CONFIG}: it is no model, or its training never finished"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / CONFIG} cannot be read ({error}); copy the model again") from error
    if not isinstance(stored, dict) or not isinstance(stored.get("format"), int):
        raise DataError(f"{folder / CONFIG} is no model configuration of pointsense")
    if stored["format"] != FORMAT:
        newer = stored["format"] > FORMAT
        raise DataError(
            f"{folder} was written by {'a newer' if newer else 'an older'} pointsense (format {stored['format']}, "
            f"this one reads {FORMAT}); {'update pointsense' if newer else 'train the model again'}"
        )
    return stored
