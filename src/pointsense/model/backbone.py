"""Backbones: an encoder (ours, small, from scratch; or any of timm's) and a top-down decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointsense.errors import UsageError
from pointsense.model.config import Config

if TYPE_CHECKING:
    from pointsense.model.timm_backbone import TimmEncoder


def _convolutions(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class PlainEncoder(nn.Module):
    """Features at strides 2, 4, 8 and 16, small enough to learn from twenty images.

    The first stage folds 2 x 2 pixels into channels, so that nothing is lost before the first convolution.
    """

    strides = (2, 4, 8, 16)

    def __init__(self, channels: int, widths: tuple[int, ...] = (24, 48, 96, 96)):
        super().__init__()
        self.widths = widths
        self.fold = nn.PixelUnshuffle(2)
        inputs = (4 * channels, *widths[:-1])
        self.stages = nn.ModuleList(_convolutions(i, o) for i, o in zip(inputs, widths, strict=True))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Image (B, C, H, W) to features (B, widths[k], H / strides[k], W / strides[k])."""
        features = [self.stages[0](self.fold(image))]
        for stage in self.stages[1:]:
            features.append(stage(F.max_pool2d(features[-1], 2)))
        return features


class Decoder(nn.Module):
    """Features brought top-down to one map (B, width, H / stride, W / stride).  [U-Net, Ronneberger 2015]"""

    def __init__(self, strides: Sequence[int], widths: Sequence[int], stride: int, width: int):
        super().__init__()
        if stride not in strides:
            raise UsageError(f"stride: the backbone has features at strides {tuple(strides)}, found {stride}")
        self.first = list(strides).index(stride)
        widths = list(widths)[self.first :]
        # Finer levels are narrower: they cost most and have the least left to decide.
        outputs = [min(max(width, 24) * 2**level, 96) for level in range(len(widths) - 1)]
        deeper = [*outputs[1:], widths[-1]]
        self.merge = nn.ModuleList(
            _convolutions(skip + below, out)
            for skip, below, out in zip(widths, deeper, outputs, strict=False)
        )
        self.width = outputs[0] if outputs else widths[0]

    def forward(self, features: list[Tensor]) -> Tensor:
        """Features, finest first, to the finest map."""
        top = features[-1]
        for skip, merge in zip(features[self.first : -1][::-1], reversed(self.merge), strict=True):
            top = merge(torch.cat([skip, F.interpolate(top, scale_factor=2.0)], dim=1))
        return top


def build_encoder(
    config: Config, channels: int, *, load: bool
) -> tuple[PlainEncoder | TimmEncoder, nn.Module]:
    """The encoder of a configuration, and what its input goes through first; see `timm_backbone`."""
    if config.backbone == "unet":
        return PlainEncoder(channels), nn.Identity()
    from pointsense.model.timm_backbone import build_timm_encoder

    return build_timm_encoder(config, channels, load=load)
