"""Named starting points: for three kinds of objects on real images, and the paper's systems."""

from __future__ import annotations

from typing import Any

from pointsense.errors import UsageError
from pointsense.model.config import Config, override

# Section 4.1 and the ICPR 2012 row of the paper. Epochs, rate, batch and the depth of LISTA are not stated there: at
# 16 steps LISTA did not learn to recover. The paper runs ISTA, which at this lambda has not converged after a thousand
# iterations, and its predecessor DAL; rules (8), (9) and decoding are about the solution of (4), which the active set
# reaches too, and much sooner.
_PAPER: dict[str, Any] = {
    "scale": 1.0,
    "backbone": "resnet152",
    "pretrained": True,
    "freeze": True,
    "head": "global",
    "patch": 260,
    "axes": 27,
    "measurements": 112,
    "arc": "full",
    "channels": "distance",
    "sensing": "gaussian",
    "alpha": 0.0,
    "beta": 0.2,
    "lam": 0.39,
    "recovery": "lista",
    "amplitude_threshold": 15.0,
    "bandwidth": 40.0,
    "minimum_votes": 1,
    "steps": 2000,
    "batch": 16,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "ema": 0.0,
    "sampling": "grid",
    "flips": False,
    "jitter": 0.0,
    "overlay": 0.0,
    "views": 1,
}

_PRETRAINED: dict[str, Any] = {
    "backbone": "mobilenetv2_100",
    "pretrained": True,
    "zoom": 1.25,
    "overlay": 0.0,
    "checks": 4,
}

# Rare objects in large fields of few slides: an encoder that has seen images before, a heat map beside the code, stains
# of one strength and more doubt about them, and a second look at candidates at full resolution. Candidates are few, so
# that four rotations of them take little time; of whole images two have to do.
_MITOSES: dict[str, Any] = _PRETRAINED | {
    "steps": 1800,
    "stains": True,
    "jitter": 0.2,
    "learning_rate": 1e-3,
    "backbone_learning_rate": 3e-4,
    "spots": 1.0,
    "look": 96,
    "look_views": 4,
}

# Objects of many kinds and sizes, the largest many times their match radius: they need crops of twice the side, and
# the mean of views that show them in two sizes.
_NUCLEI: dict[str, Any] = _PRETRAINED | {
    "stride": 4,
    "patch": 256,
    "batch": 4,
    "steps": 5000,
    "learning_rate": 2e-3,
    "backbone_learning_rate": 6e-4,
    "views": 4,
    "view_zoom": 1.5,
}

PRESETS: dict[str, dict[str, Any]] = {
    "pointsense": {},
    "mitoses": _MITOSES,
    "nuclei": _NUCLEI,
    "cnncs": {**_PAPER, "recovery": "auto"},
    "ecnncs-1": {**_PAPER, "alpha": 1.3, "backward": "unrolled", "recovery_steps": 50, "learn_sensing": True},
    "ecnncs-2": {**_PAPER, "alpha": 1.3, "backward": "paper", "recovery": "auto", "learn_sensing": True},
}
"""What each preset changes in `Config`'s defaults."""

SMALL: dict[str, Any] = {"patch": 96, "steps": 1000, "checks": 6}
"""What suits synthetic images of 192 px and a few minutes, on top of the default preset."""


def preset(name: str) -> Config:
    """The configuration of a preset.

    Raises
    ------
    UsageError
        If there is no such preset; the message names all.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise UsageError(f"unknown preset '{name}'; the presets are {', '.join(PRESETS)}")
    return override(Config(), {"preset": name, **PRESETS[name]})


def fitted_to(config: Config, radius: float) -> Config:
    """`config` with what is left open (0) derived from the match radius in image pixels.

    Objects are brought to a match radius of at most 10 working pixels, never enlarged but for radii below 4;
    a cell of the mass map is 2 px for radii up to 7, else 4; two points nearer than the bandwidth, two
    thirds of the radius, are taken for one by the mean shift; within one and a half radii of a crop's border an
    object is not sure to be seen as in its image.
    """
    scale = config.scale or (min(1.0, 10.0 / radius) if radius >= 4 else min(4.0, 4.0 / radius))
    working = radius * scale
    return override(
        config,
        {
            "radius": radius,
            "scale": scale,
            "stride": config.stride or (2 if working <= 7 else 4),
            "bandwidth": config.bandwidth or 2 * working / 3,
            "margin": min(round(1.5 * working), config.patch // 4) if config.margin < 0 else config.margin,
        },
    )
