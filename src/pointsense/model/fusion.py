"""Batch normalisation as part of the convolution before it: the same answers from fewer passes over the features."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

NEAR = 1e-3
"""How far apart the outputs may be, in shares of the largest: a fused network that is farther is not used."""

Module = TypeVar("Module", bound=nn.Module)


def fused(network: Module, example: Tensor) -> Module:
    """A copy for prediction, with the batch normalisations inside of the convolutions that feed them.

    Where it would answer otherwise (a convolution that feeds something else, too), it is a copy as it is.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    example : Tensor
        An input with which the network runs; from it is seen which convolution feeds which normalisation.
    """
    faster = copy.deepcopy(network).to(memory_format=torch.channels_last)
    parents = {
        child: (parent, name) for parent in faster.modules() for name, child in parent.named_children()
    }
    for convolution, normalisation in _pairs(faster, example):
        for old, new in (
            (convolution, fuse_conv_bn_eval(convolution, normalisation)),
            (normalisation, _what_is_left(normalisation)),
        ):
            parent, name = parents[old]
            setattr(parent, name, new)
    if all(map(_alike, _outputs(network, example), _outputs(faster, example))):
        return faster
    return copy.deepcopy(network)


def _pairs(network: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions and the normalisations whose input is their output, where both run once."""
    made: list[tuple[Tensor, nn.Conv2d]] = []
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def convolved(module: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        made.append((output, module))

    def normalised(module: nn.Module, inputs: Sequence[Tensor]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        pairs.extend((convolution, module) for output, convolution in made if output is inputs[0])

    hooks = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(convolved))
        elif type(module) in (nn.BatchNorm2d, BatchNormAct2d):
            hooks.append(module.register_forward_pre_hook(normalised))
    _outputs(network, example)
    for hook in hooks:
        hook.remove()
    return pairs


def _what_is_left(normalisation: nn.BatchNorm2d) -> nn.Module:
    """What a normalisation does beside normalising."""
    return normalisation.act if isinstance(normalisation, BatchNormAct2d) else nn.Identity()


@torch.no_grad()
def _outputs(network: nn.Module, example: Tensor) -> list[Tensor]:
    output = network(example)
    return [output] if isinstance(output, Tensor) else [part for part in output if part is not None]


def _alike(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= NEAR * one.abs().max())
