"""Heads: from a backbone's features to a code.

`GlobalHead` is the paper's; `SpatialHead` keeps the positions that pooling loses; `ProjectionHead` predicts a mass
map, which a fixed linear operator turns into codes.
"""

from __future__ import annotations

from torch import Tensor, nn


class GlobalHead(nn.Module):
    """Pooled features (B, F) to `outputs` numbers by one linear layer (section 4.1)."""

    def __init__(self, features: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(features, outputs)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features)


class SpatialHead(nn.Module):
    """Feature maps (B, F, H, W) to `outputs` numbers by a narrow convolution and one linear layer."""

    def __init__(self, features: int, width: int, cells: int, outputs: int):
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(features, width, 1), nn.ReLU(inplace=True))
        self.linear = nn.Linear(width * cells, outputs)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(self.reduce(features).flatten(1))


class ProjectionHead(nn.Module):
    """Feature maps (B, F, H, W) to mass maps (B, C, H, W), one a class, without negative mass.

    It begins with a little mass in every cell: none, and the rectifier would let no gradient through; much more
    than the labels hold, and the squares of the first gradients would keep Adam's steps small for a thousand
    steps. The heat map, a baseline, holds probabilities instead and begins near zero.
    """

    def __init__(self, features: int, classes: int = 1, *, heatmap: bool = False):
        super().__init__()
        self.heatmap = heatmap
        self.convolution = nn.Conv2d(features, classes, 1)
        nn.init.normal_(self.convolution.weight, std=0.01)
        nn.init.constant_(self.convolution.bias, -4.0 if heatmap else 0.01)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        values = self.convolution(features).float()
        return values.sigmoid() if self.heatmap else values.relu()
