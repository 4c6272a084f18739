"""Strided convolutions of the backbones, where torch has a faster way to the same sums."""

from __future__ import annotations

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F


class Strided(nn.Conv2d):
    """A convolution whose gradient, if depthwise and in half precision on the CPU, is computed in float32.

    There oneDNN has no kernel of its own for the gradient of the input, and is five to ten times as slow.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As of torch's class."""
        kind = x.device.type
        depthwise = self.groups == self.in_channels > 1 and max(self.stride) > 1
        if not (depthwise and kind == "cpu" and x.requires_grad and torch.is_autocast_enabled(kind)):
            return super().forward(x)
        with torch.autocast(kind, enabled=False):
            return super().forward(x.float()).to(torch.get_autocast_dtype(kind))


class ZeroBefore(Strided, Conv2dSame):
    """TensorFlow's padding, which may be one more behind than before, without a padded copy of the features.

    A row and a column of zeros before the kernel do the same, where the stride divides the sides of the features. This
    is several times as fast to predict with, but slower to learn with.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As of timm's class."""
        behind, surplus = divmod(self.kernel_size[0] - self.stride[0] + 1, 2)
        same = len({*self.kernel_size}) == len({*self.stride}) == len({1, *self.dilation}) == 1
        if (
            self.training
            or surplus
            or not (behind > 0 and same)
            or any(side % self.stride[0] for side in x.shape[2:])
        ):
            return super().forward(x)
        weight = F.pad(self.weight, (1, 0, 1, 0))
        return F.conv2d(x, weight, self.bias, self.stride, behind, self.dilation, self.groups)


FASTER: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: Strided, Conv2dSame: ZeroBefore}


def with_faster_strides(network: nn.Module) -> None:
    """Let the strided convolutions of a network take the faster way; its weights and answers stay."""
    for module in network.modules():
        if type(module) in FASTER and max(module.stride) > 1:  # type: ignore[arg-type]
            module.__class__ = FASTER[type(module)]
