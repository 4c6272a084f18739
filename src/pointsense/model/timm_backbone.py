"""Encoders of timm. A module of its own, which is imported where one is asked for: timm takes seconds to import."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from pointsense.errors import UsageError
from pointsense.model.config import DEEPEST, Config
from pointsense.model.strided import with_faster_strides

logging.getLogger("timm").setLevel(logging.ERROR)  # that a backbone has no use for a classifier is no news


class TimmEncoder(nn.Module):
    """A timm network's features from stride 2 to `DEEPEST`, of an image that is normalised as it expects."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.strides = tuple(network.feature_info.reduction())  # type: ignore[operator, union-attr]
        self.widths = tuple(network.feature_info.channels())  # type: ignore[operator, union-attr]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Image (B, C, H, W) to features, finest first."""
        return self.network(image)


class Normalise(nn.Module):
    """Input in [0, 1] to the mean and deviation that a pretrained network expects."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels: int):
        super().__init__()

        def fitted(values: Sequence[float]) -> Tensor:
            picked = list(values) if len(values) == channels else [sum(values) / len(values)] * channels
            return torch.tensor(picked).reshape(1, channels, 1, 1)

        self.register_buffer("mean", fitted(mean))
        self.register_buffer("std", fitted(std))

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


def build_timm(config: Config, channels: int, *, load: bool, **kwargs: Any) -> tuple[nn.Module, Normalise]:
    """A timm network for `channels` input channels, and the normalisation that goes before it.

    Parameters
    ----------
    config : Config
        `backbone`, `pretrained` and `weights` are used.
    channels : int
    load : bool
        Whether to fetch the initial weights at all; a stored model brings its own.
    **kwargs
        For `timm.create_model`.

    Raises
    ------
    UsageError
        If timm has no such model, or the initial weights cannot be had; never random weights instead.
    """
    name = config.backbone
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name[:6]}*")[:5]) or "resnet18"
        raise UsageError(f"unknown backbone '{name}': use 'unet' or a timm model, such as {near}")
    overlay: dict[str, Any] = {}
    if config.weights_origin == "tensorflow":
        kwargs["pad_type"] = "same"
        overlay = {"mean": (128 / 255,) * 3, "std": (128 / 255,) * 3}
    if load and config.weights:
        if not Path(config.weights).is_file():
            raise UsageError(f"weights: there is no file {config.weights}")
        overlay["file"] = config.weights
    fetch = load and bool(config.weights or config.pretrained)
    try:
        network = timm.create_model(
            name, pretrained=fetch, in_chans=channels, pretrained_cfg_overlay=overlay or None, **kwargs
        )
    except Exception as error:
        if "pad_type" in str(error):
            raise UsageError(
                f"weights_origin=tensorflow: timm's '{name}' has no such padding; it is for the MobileNet and "
                "EfficientNet families"
            ) from error
        if not fetch:
            raise
        if config.weights:
            raise UsageError(
                f"weights: {config.weights} does not hold weights of timm's '{name}': {error}"
            ) from error
        raise UsageError(
            f"the ImageNet weights of '{name}' could not be fetched ({type(error).__name__}); give them with "
            "--weights FILE (safetensors, timm's names), or start from random ones with --set pretrained=false"
        ) from error
    with_faster_strides(network)
    source: Any = network.pretrained_cfg
    return network, Normalise(source["mean"], source["std"], channels)


def build_timm_encoder(config: Config, channels: int, *, load: bool) -> tuple[TimmEncoder, Normalise]:
    """As `build_timm`, but features at four strides in place of a classifier."""
    network, normalise = build_timm(config, channels, load=load, features_only=True, out_indices=(0, 1, 2, 3))
    encoder = TimmEncoder(network)
    if max(encoder.strides) > DEEPEST:
        raise UsageError(
            f"the backbone '{config.backbone}' has features at strides {encoder.strides} px, expected none above "
            f"{DEEPEST}; choose one of the MobileNet, EfficientNet or ResNet kind"
        )
    return encoder, normalise
