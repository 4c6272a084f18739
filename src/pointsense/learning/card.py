"""The model card of a run."""

from __future__ import annotations

from typing import Any

from pointsense.datasets import Dataset
from pointsense.inference.detector import Detector


def model_card(detector: Detector, metrics: dict[str, Any], dataset: Dataset) -> str:
    """README.md of a run folder: what the model is for, what it takes, how it was made and how good it is."""
    config, contract, chosen = detector.config, detector.contract, metrics["selection"]
    size = metrics["code"]
    ranges = dict.fromkeys(
        f"{low:g} to {high:g}" for low, high in zip(contract.low, contract.high, strict=True)
    )
    levels = "levels " + ", ".join(ranges)
    if contract.levels == "image":
        levels = "each image stretched between its own 1 and 99.8 percentiles"
    if contract.stains:
        levels += ", the stains of each image brought to the strength of the training images'"
    size_of = "Objects of another size in pixels need images rescaled accordingly."
    if config.diameter:
        size_of = (
            f"Typical diameter of an object {config.diameter:g} px; give that of others with `--diameter PX`."
        )
    pixel = f"{dataset.um_per_px:g} um" if dataset.um_per_px else "not stated"
    names = ", ".join(kind.name for kind in detector.classes)
    rows = "\n".join(
        f"| {kind.name or 'points'} | {kind.radius:g} | {kind.threshold:g} | {one['f1']:.3f} | {one['precision']:.3f} "
        f"| {one['recall']:.3f} |"
        for kind, one in zip(detector.classes, chosen["classes"].values(), strict=True)
    )
    look = ""
    if detector.look is not None:
        look = f"\n- a second look at candidates, in crops of {config.look} px of the image, {config.look_steps} steps"
    images = f"{len(metrics['train_images'])} images to fit, {len(chosen['images'])} to select on"
    scored = (
        "On the selection part of the training images, on which stopping, reading and threshold were chosen"
    )
    doubt = "so these\nfigures flatter"
    if before := metrics["before"]:
        images = f"{len(metrics['train_images'])} images to fit, once more after the training in `{before}`"
        scored = f"Of `{before}`, whose thresholds this model keeps, on its {len(chosen['images'])} selection images"
        doubt = "this\nmodel has learned from them, too"
    return f"""# pointsense model: {names or "points"}

Finds {f"objects of the class {names}" if names else "objects"} as points (y, x) in microscopy images.

    pointsense predict IMAGES --model THIS_FOLDER --out DIR

## Input
- channels: {contract.channels} (grey and RGB are converted into each other), type {contract.dtype}, {levels}
- pixel size of the training images: {pixel}. {size_of}

## How it was made
- preset `{config.preset}`, backbone `{config.backbone}`{f" from {config.weights}" if config.weights else ""},
  {metrics["parameters"]:,} parameters, head `{config.head}`
- code: {size["numbers"]} numbers for {size["cells"]} {size["of"]}
  (ratio {size["ratio"]:.3f})
- data: `{dataset.root.name}`, {images}
- {metrics["steps"]} steps in {metrics["seconds"]:.0f} s on {metrics["device"]} ({metrics["precision"]}),
  seed {metrics["seed"]}{look}

## Scores
{scored} ({doubt}):

| class | match radius px | threshold | F1 | precision | recall |
|---|---|---|---|---|---|
{rows}

Use `pointsense evaluate` on images that were not trained on.

## Licence
Weights follow the licence of the data they were trained on: state it here before you pass them on.
"""
