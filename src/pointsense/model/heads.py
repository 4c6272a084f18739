"""Heads: from a backbone's features to a code.

`GlobalHead` is the paper's; `SpatialHead` keeps the positions that pooling loses; `ProjectionHead` predicts a mass
map, which a fixed linear operator turns into codes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

LEAK = 0.1
"""Share of the gradient that comes through to where there is no mass, if it would raise it."""


class GlobalHead(nn.Module):
    """Pooled features (B, F) to `outputs` numbers by one linear layer (section 4.1)."""

    def __init__(self, features: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(features, outputs)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features)


class SpatialHead(nn.Module):
    """Feature maps (B, F, H, W) to `outputs` numbers by a narrow convolution and one linear layer.

    The narrow features are normalised: as F of a pretrained network are all positive, a first step of Adam would
    otherwise move each by the sum of them, and most would never be above zero again. The first output is an empty code.
    """

    def __init__(self, features: int, width: int, cells: int, outputs: int):
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(features, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.linear = nn.Linear(width * cells, outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(self.reduce(features).flatten(1))


class NonNegative(torch.autograd.Function):
    """max(x, 0), with the gradient of projected descent: where x < 0, what would raise it still comes through.

    A rectifier would let nothing through there, and a map without mass anywhere, as that of a rare class soon is,
    would never hold any again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x > 0)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return torch.where(positive, gradient, LEAK * gradient.clamp(max=0))


class ProjectionHead(nn.Module):
    """Feature maps (B, F, H, W) to mass maps (B, C, H, W), one a class, without negative mass.

    It begins with a little mass in every cell: much more than the labels hold, and the squares of the first
    gradients would keep Adam's steps small for a thousand steps. The heat map, a baseline, holds probabilities
    instead and begins near zero.
    """

    def __init__(self, features: int, classes: int = 1, *, heatmap: bool = False):
        super().__init__()
        self.heatmap = heatmap
        self.convolution = nn.Conv2d(features, classes, 1)
        nn.init.normal_(self.convolution.weight, std=0.01)
        nn.init.constant_(self.convolution.bias, -4.0 if heatmap else 0.01)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        values = self.convolution(features).float()
        return values.sigmoid() if self.heatmap else NonNegative.apply(values)
