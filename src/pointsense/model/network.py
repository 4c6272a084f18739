"""The network: image to code.  Reads as the architecture diagram."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointsense.encoding import ProjectionCode
from pointsense.errors import UsageError
from pointsense.model.backbone import Decoder, PlainEncoder, build_encoder
from pointsense.model.config import DEEPEST, Config
from pointsense.model.heads import GlobalHead, ProjectionHead, SpatialHead
from pointsense.model.patch_code import PatchCode


class Output(NamedTuple):
    """What the network says of a batch.

    Attributes
    ----------
    codes : Tensor or None, (B, L, C, m)
        Of whole patches, the paper's heads.
    counts : Tensor or None, (B,)
        Number of objects of each patch.
    mass : Tensor or None, (B * K, 1, H / stride, W / stride)
        The K mass maps of each image, one a class, of the projection head; `ProjectionCode.measure` makes codes.
    spots : Tensor or None, like `mass`
        The heat maps learned beside the code, where there are any.
    """

    codes: Tensor | None = None
    counts: Tensor | None = None
    mass: Tensor | None = None
    spots: Tensor | None = None


class PatchNetwork(nn.Module):
    """Backbone, then pooled (the paper) or spatial features, then one linear layer to {x, c}."""

    def __init__(self, config: Config, channels: int, *, load: bool):
        super().__init__()
        self.code = PatchCode(config)
        numbers = self.code.shape[0] * self.code.shape[1] * self.code.shape[2]
        pooled = config.head == "global"
        self.normalise: nn.Module = nn.Identity()
        if config.backbone == "unet":
            encoder = PlainEncoder(channels)
            last: nn.Module = (
                nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()) if pooled else nn.Identity()
            )
            self.backbone: nn.Module = nn.Sequential(encoder, _Last(), last)
            width = encoder.widths[-1]
        else:
            from pointsense.model.timm_backbone import build_timm

            self.backbone, self.normalise = build_timm(
                config, channels, load=load, num_classes=0, global_pool="avg" if pooled else ""
            )
            width = int(self.backbone.num_features)  # type: ignore[arg-type]
        if pooled:
            self.head: nn.Module = GlobalHead(width, numbers + 1)
        else:
            blank = torch.zeros(1, channels, config.patch, config.patch)
            try:
                with torch.no_grad():
                    side = self.eval().features(blank).shape[-1]
            except AssertionError as error:  # of timm
                raise UsageError(
                    f"the backbone '{config.backbone}' does not take patches of {config.patch} px ({error}); choose "
                    "another, such as mobilenetv2_100, or another patch"
                ) from error
            self.head = SpatialHead(width, config.width, side * side, numbers + 1)

    def features(self, image: Tensor) -> Tensor:
        """Image (B, C, h, w) to features (B, F) or (B, F, h', w')."""
        return self.backbone(self.normalise(image))

    def decide(self, features: Tensor) -> Output:
        """Features to codes and count."""
        out = self.head(features).float()
        codes = out[:, :-1].unflatten(1, self.code.shape) * self.code.scale
        return Output(codes, out[:, -1])

    def forward(self, image: Tensor) -> Output:
        return self.decide(self.features(image))


class _Last(nn.Module):
    def forward(self, features: list[Tensor]) -> Tensor:
        return features[-1]


class ProjectionNetwork(nn.Module):
    """Encoder, decoder, a mass map for each class; then the fixed linear measurement of their windows.

    A heat map of the same features may be learned beside, for what it teaches these; nothing is predicted from it.
    """

    def __init__(self, config: Config, channels: int, classes: int, *, load: bool):
        super().__init__()
        self.code = ProjectionCode(
            config.window,
            config.hop,
            config.axes,
            config.measurements,
            arc=config.arc,
            sensing=config.sensing,
            sigma=config.sensing_sigma,
            seed=config.sensing_seed,
        )
        self.backbone, self.normalise = build_encoder(config, channels, load=load)
        self.decoder = Decoder(self.backbone.strides, self.backbone.widths, config.stride, config.width)
        self.head = ProjectionHead(self.decoder.width, classes, heatmap=config.target == "heatmap")
        self.spots = ProjectionHead(self.decoder.width, classes, heatmap=True) if config.spots else None

    def mass(self, image: Tensor) -> Tensor:
        """Image (B, C, H, W) to mass maps (B, K, H / stride, W / stride)."""
        return self.head(self.features(image))

    def features(self, image: Tensor) -> Tensor:
        """Image (B, C, H, W) to features (B, F, H / stride, W / stride)."""
        return self.decoder(self.backbone(self.normalise(image)))  # from strides 2, 4, 8, 16

    def forward(self, image: Tensor) -> Output:
        features = self.features(image)
        mass = self.head(features).flatten(0, 1)[:, None]  # (B * K, 1, H / stride, W / stride)
        spots = None if self.spots is None else self.spots(features).flatten(0, 1)[:, None]
        return Output(mass=mass, spots=spots)


Network = PatchNetwork | ProjectionNetwork

ALIGNMENT = DEEPEST
"""px: sides of the network's input are multiples of this."""


def build_network(config: Config, channels: int, classes: int = 1, *, load: bool = True) -> Network:
    """The network of a configuration whose scale, stride and bandwidth are set.

    Parameters
    ----------
    config : Config
    channels : int
        Of the input.
    classes : int
        How many classes of points it tells apart.
    load : bool
        Fetch the backbone's initial weights; False for a stored model, which brings its own.

    Raises
    ------
    UsageError
        If the backbone does not exist, its initial weights cannot be had, or a code of patches is asked to tell
        classes apart.
    """
    if config.head == "projection":
        return ProjectionNetwork(config, channels, classes, load=load)
    if classes > 1:
        raise UsageError(
            f"preset '{config.preset}' (head '{config.head}') finds one class, {classes} are asked for: choose one "
            "with --class, or take the preset pointsense, mitoses or nuclei"
        )
    return PatchNetwork(config, channels, load=load)
