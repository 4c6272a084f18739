"""The second look: is an object what it seems, judged from a crop around it at the image's own resolution?"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointsense.model.backbone import build_encoder
from pointsense.model.config import Config

WIDTH = 64
"""Channels that the two coarsest levels are mixed into."""

CENTRE = 1 / 6
"""Width of the Gaussian by which places count, in sides of the crop: the object is in its middle."""


class SecondLook(nn.Module):
    """An encoder of its own, features of strides 8 and 16 mixed and pooled, one logit for each class.

    Pooled twice: weighted towards the centre, where the object is, and by the maximum, which sees what is around it.
    """

    def __init__(self, config: Config, channels: int, classes: int, *, load: bool):
        super().__init__()
        self.backbone, self.normalise = build_encoder(config, channels, load=load)
        self.mix = nn.Sequential(
            nn.Conv2d(sum(self.backbone.widths[-2:]), WIDTH, 1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(inplace=True),
        )
        self.out = nn.Linear(2 * WIDTH, classes)

    def forward(self, crops: Tensor) -> Tensor:
        """Crops (B, C, S, S) to logits (B, K)."""
        fine, coarse = self.backbone(self.normalise(crops))[-2:]
        features = self.mix(torch.cat([fine, F.interpolate(coarse, size=fine.shape[-2:])], dim=1)).float()
        side = features.shape[-1]
        offset = (torch.arange(side, device=features.device) - (side - 1) / 2) / (CENTRE * side)
        bell = torch.exp(-0.5 * offset.square())
        weight = torch.outer(bell, bell) / bell.sum() ** 2
        pooled = torch.cat([(features * weight).sum((2, 3)), features.amax((2, 3))], dim=1)
        # Products and sums, not a layer, which would round in half precision and make equals of near scores.
        return (pooled[:, None] * self.out.weight).sum(-1) + self.out.bias
