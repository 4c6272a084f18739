"""Batch normalisation as part of the convolution before it: the same answers from fewer passes over the features."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

log = logging.getLogger(__name__)

NEAR = 1e-4
"""How far apart features may be, in shares of the largest."""

Module = TypeVar("Module", bound=nn.Module)


def fused(network: Module, example: Tensor) -> Module:
    """A copy for prediction, with the batch normalisations inside of the convolutions that feed them.

    Where the copy would answer otherwise (a convolution feeds something else, too), it is the network as it is.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    example : Tensor
        An input with which the network runs; from it is seen which convolution feeds which normalisation.
    """
    reference = copy.deepcopy(network).cpu()  # in float32 there, not in TF32 or the like
    faster = copy.deepcopy(reference)
    names = {module: name for name, module in reference.named_modules()}
    pairs = _pairs(reference, example.cpu())
    rests = [_what_is_left(normalisation) for _, normalisation in pairs]
    for (convolution, normalisation), rest in zip(pairs, rests, strict=True):
        _replace(faster, names[convolution], fuse_conv_bn_eval(convolution, normalisation))
        _replace(faster, names[normalisation], rest)
    before = _features(reference, [normalisation for _, normalisation in pairs], example.cpu())
    if not all(map(_alike, before, _features(faster, rests, example.cpu()))):
        log.info(
            "%s runs with its batch normalisations: without, it would answer otherwise",
            type(network).__name__,
        )
        return network
    return faster.to(next(network.parameters()).device).to(memory_format=torch.channels_last)


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)


@torch.no_grad()
def _pairs(network: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions and the normalisations whose input is their output, where both run once."""
    made: list[tuple[nn.Conv2d, Tensor]] = []
    taken: list[tuple[nn.BatchNorm2d, Tensor]] = []
    hooks = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(
                module.register_forward_hook(lambda module, _, output: made.append((module, output)))
            )
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(
                module.register_forward_pre_hook(lambda module, inputs: taken.append((module, inputs[0])))
            )
    network(example)
    for hook in hooks:
        hook.remove()
    runs = Counter(module for module, _ in [*made, *taken])
    return [
        (convolution, normalisation)
        for normalisation, features in taken
        for convolution, output in made
        if output is features
        and runs[convolution] == runs[normalisation] == 1
        and normalisation.running_var is not None
    ]


def _what_is_left(normalisation: nn.BatchNorm2d) -> nn.Module:
    """What a normalisation does beside normalising, as those of timm that have an activation; a module of its own."""
    return nn.Sequential(getattr(normalisation, "act", nn.Identity()))


@torch.no_grad()
def _features(network: nn.Module, modules: Sequence[nn.Module], example: Tensor) -> list[Tensor]:
    """What comes out of the modules, and of the network."""
    found: dict[nn.Module, Tensor] = {}
    hooks = [
        # A copy, for what follows may work in place.
        module.register_forward_hook(lambda module, _, output: found.update({module: output.clone()}))
        for module in modules
    ]
    output = network(example)
    for hook in hooks:
        hook.remove()
    outputs = [output] if isinstance(output, Tensor) else [part for part in output if part is not None]
    return [*(found[module] for module in modules), *outputs]


def _alike(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= NEAR * one.abs().max())
