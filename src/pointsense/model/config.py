"""One flat configuration: every choice that makes a model, with its meaning and its bounds."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pointsense.errors import UsageError

DEEPEST = 16
"""px: the coarsest stride of a pyramid's features. Deeper ones see farther, but each tile must then overlap so far."""


class Config(BaseModel):
    """All settings of a model and of its training; lengths are in working pixels unless said otherwise.

    Working pixels are image pixels times `scale`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    preset: str = Field("pointsense", description="name of the preset that the settings started from")

    # Objects
    radius: float = Field(
        0.0, ge=0, description="match radius in image pixels, of the middle class; 0: from the data"
    )
    scale: float = Field(0.0, ge=0, le=4, description="working pixels an image pixel; 0: from the radius")
    diameter: float = Field(
        0.0, ge=0, description="typical diameter of objects in image pixels; 0: not known"
    )

    stains: bool = Field(
        False,
        description="bring the stains of each bright RGB image to one strength, that of the training images",
    )

    # Network
    backbone: str = Field("unet", description="'unet' (small, from scratch) or any timm model name")
    pretrained: bool = Field(False, description="ask timm for pretrained weights")
    weights: str = Field("", description="safetensors file with the backbone's weights")
    weights_origin: Literal["timm", "tensorflow"] = Field(
        "timm",
        description="what the weights were trained with: timm's padding and input range, or TensorFlow's",
    )
    freeze: bool = Field(
        False, description="train only what comes after the backbone; a second look's learns all the same"
    )
    width: int = Field(24, ge=4, description="channels of the decoder (projection, spatial)")
    head: Literal["global", "spatial", "projection"] = Field(
        "projection",
        description="what the code is read from: pooled features of a patch, features with their places, or a mass map",
    )
    target: Literal["code", "heatmap"] = Field(
        "code",
        description="what the map is trained to: the code of eq. (3), or spots (a baseline; projection)",
    )
    patch: int = Field(
        128, ge=32, description="side of training patches, and of a code's patch (global, spatial)"
    )
    stride: int = Field(0, ge=0, description="working pixels a cell of the mass map; 0: from the radius")

    # Code
    axes: int = Field(8, ge=1, description="observation axes, L")
    measurements: int = Field(12, ge=1, description="measurements an axis, m")
    arc: Literal["full", "half"] = Field("half", description="directions of the axes")
    channels: Literal["distance", "mass"] = Field("mass", description="what an axis holds (global, spatial)")
    sensing: Literal["gaussian", "smoothed", "filtered", "fourier"] = Field(
        "fourier", description="rows of the sensing matrix"
    )
    sensing_sigma: float = Field(0.8, ge=0, description="smoothing of the sensing matrix, in bins")
    sensing_seed: int = Field(0, description="of the random sensing matrices")
    learn_sensing: bool = Field(
        False, description="let the L1 term train the sensing matrix of the recovery (global, spatial)"
    )
    window: int = Field(
        24, ge=4, description="side of a code's window, in cells of the mass map (projection)"
    )
    hop: int = Field(12, ge=2, description="distance of windows, in cells (projection)")

    # Loss, eq. (3)
    alpha: float = Field(0.0, ge=0, description="weight of the L1 term")
    beta: float = Field(0.02, ge=0, description="weight of the cell count in the label")
    spots: float = Field(
        0.0, ge=0, description="weight of a heat map learned beside the code from the same features; 0: none"
    )
    lam: float = Field(
        0.05,
        ge=0,
        description="lambda of the lasso (global, spatial; in training where alpha is not 0)",
    )
    backward: Literal["exact", "paper", "unrolled"] = Field(
        "exact",
        description="gradient through the recovery in training: exact, rules (8) and (9), or unrolled",
    )
    recovery: Literal["auto", "active_set", "homotopy", "fista", "ista", "dal", "lista"] = Field(
        "auto", description="solver of the lasso (global, spatial; in training where alpha is not 0)"
    )
    recovery_steps: int = Field(
        0, ge=0, description="most iterations of the recovery in training; 0: its own"
    )

    # Decoding
    amplitude_threshold: float = Field(
        0.0, ge=0, description="least amplitude of a bin; 0: the channels' own (global, spatial)"
    )
    bandwidth: float = Field(0.0, ge=0, description="of the mean shift; 0: from the radius (global, spatial)")
    minimum_votes: int = Field(1, ge=1, description="axes that must see a point (global, spatial)")

    # Training
    steps: int = Field(3000, ge=1, description="of training")
    batch: int = Field(8, ge=1, description="patches a step")
    learning_rate: float = Field(4e-3, gt=0, description="at its highest")
    backbone_learning_rate: float = Field(
        0.0, ge=0, description="of a backbone with given weights, others have learning_rate; 0: 3e-4"
    )
    weight_decay: float = Field(1e-3, ge=0, description="of AdamW")
    ema: float = Field(0.995, ge=0, lt=1, description="memory of the averaged weights; 0: none")
    sampling: Literal["random", "grid"] = Field("random", description="random crops, or the paper's patches")
    positives: float = Field(0.5, ge=0, le=1, description="least share of crops around a point (random)")
    margin: int = Field(
        -1,
        ge=-1,
        description="px along the borders of crops where nothing is learned; -1: from the radius (random)",
    )
    hard: float = Field(
        -1.0,
        ge=-1,
        le=1,
        description="share of the other crops around false alarms, mined at each check (random); -1: none, or a half "
        "around look-alikes where the data mark some",
    )
    flips: bool = Field(True, description="turn and mirror the crops (random)")
    zoom: float = Field(
        1.0, ge=1, le=4, description="crops are enlarged or shrunk by up to this factor (random)"
    )
    jitter: float = Field(0.1, ge=0, le=1, description="strength of the colour and stain jitter")
    overlay: float = Field(
        0.3, ge=0, le=1, description="share of crops of fluorescence with another one laid over them (random)"
    )
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto", description="of the networks' arithmetic; auto: half where the device is fast at it"
    )
    views: Literal[1, 2, 4, 8] = Field(
        2, description="rotations and flips averaged in prediction (projection)"
    )
    view_zoom: float = Field(
        1.0,
        ge=1,
        le=2,
        multiple_of=0.5,
        description="1, 1.5 or 2: every second view, but of the second look, is so many times as large (projection)",
    )
    checks: int = Field(8, ge=1, description="times that the selection part is scored during training")

    # Second look
    look: int = Field(
        0,
        ge=0,
        multiple_of=16,
        description="side, in image px, of crops in which a network of its own judges candidates again; 0: none",
    )
    look_views: Literal[0, 1, 2, 4, 8] = Field(
        0, description="rotations and flips averaged in the second look; 0: as many as views"
    )
    look_steps: int = Field(600, ge=1, description="steps of its training")

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.look and self.head != "projection":
            raise ValueError(f"look is for the head 'projection', found '{self.head}'")
        if self.spots and (self.head != "projection" or self.target != "code"):
            raise ValueError(
                "spots is for a heat map beside the code of the head 'projection', found the head "
                f"'{self.head}' and the target '{self.target}'; set spots=0"
            )
        if 3 * self.margin > self.patch:
            raise ValueError(
                f"margin ({self.margin}) must be at most a third of a patch ({self.patch}), or little is left of it"
            )
        if self.head == "projection":
            if self.patch % DEEPEST:
                raise ValueError(
                    f"patch ({self.patch}) must be a multiple of {DEEPEST}, the coarsest features' stride"
                )
            if self.window % self.hop or self.window == self.hop:
                raise ValueError(
                    f"window ({self.window}) must be a multiple of hop ({self.hop}), twice it at least, so that "
                    "no cell lies on the seam of all its windows"
                )
            if 2 * self.axes * self.measurements > self.window**2:
                raise ValueError(
                    f"axes x measurements = {self.axes * self.measurements} is more than half of a window's "
                    f"{self.window**2} cells, so that the code would not compress"
                )
        return self


def _as_value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False}.get(text, text)


def override(config: Config, changes: dict[str, Any]) -> Config:
    """`config` with some settings replaced.

    Raises
    ------
    UsageError
        For an unknown key or a value that is not allowed; the message names what is.
    """
    known = list(Config.model_fields)
    for key in changes:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise UsageError(f"unknown setting '{key}': {hint}the settings are {', '.join(known)}")
    try:
        return Config.model_validate({**config.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        if key:
            raise UsageError(f"setting {key}: {message}, found {first['input']!r}") from None
        raise UsageError(f"the settings do not go together: {message}") from None


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """`key=value` texts, as given to `--set`, as a dictionary.

    Raises
    ------
    UsageError
        If a text has no `=`, or sets the preset.
    """
    changes = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set expects key=value, found '{pair}'")
        if key.strip() == "preset":
            raise UsageError(
                f"--set preset={value.strip()} would change its name alone: give --preset {value.strip()}"
            )
        changes[key.strip()] = _as_value(value.strip())
    return changes


def with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """All settings of a training that was asked for when there were fewer: those that came later had their default."""
    return Config().model_dump() | settings


OF_THE_DATA = ("radius", "diameter", "scale", "stride", "bandwidth", "margin")
"""Settings that a model has from the data it was trained on, or from their radius."""


def read_config(path: Path | str) -> dict[str, Any]:
    """Settings from a JSON file, or from a model's, but for those that are `OF_THE_DATA`.

    Raises
    ------
    UsageError
        If the file is missing or not a JSON object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"the configuration {path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"the configuration {path} must be a JSON object of settings")
    if "format" in value and isinstance(value.get("settings"), dict):
        return {key: setting for key, setting in value["settings"].items() if key not in OF_THE_DATA}
    return value
