"""Joint augmentation of images and points: turns and flips of both, one crop over another; colour and stain of the
image alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from skimage.color import hed_from_rgb, rgb_from_hed
from torch import Tensor

# Ruifrok & Johnston 2001: optical density of haematoxylin, eosin and DAB in red, green and blue, and back.
STAINS, UNMIX = (torch.from_numpy(matrix).float() for matrix in (rgb_from_hed, hed_from_rgb))

BRIGHT = 0.5
"""Mean from which on an RGB image is taken for bright field: in the dark of fluorescence, stains mean nothing."""

DARK = 0.25
"""Mean up to which an image is taken for fluorescence, where the light of what lies above one another adds up."""

Points = npt.NDArray[np.float64]


def turned(image: Tensor, points: Points, quarter_turns: int, flip: bool) -> tuple[Tensor, Points]:
    """A square image (C, S, S) and its points (K, 2), mirrored left to right if asked, then turned by 90 degrees."""
    last = image.shape[-1] - 1
    if flip:
        image, points = image.flip(2), np.column_stack([points[:, 0], last - points[:, 1]])
    for _ in range(quarter_turns % 4):
        points = np.column_stack([last - points[:, 1], points[:, 0]])
    return torch.rot90(image, quarter_turns, (1, 2)), points


def recoloured(image: Tensor, strength: float, generator: np.random.Generator) -> Tensor:
    """An image (C, H, W) in other light: stains of an RGB image, or gain and offset of each channel.

    A `strength` of 0.1 changes stains and gains by a tenth or so.
    """
    if strength == 0:
        return image
    if image.shape[0] == 3 and image.mean() > BRIGHT and generator.random() < 0.5:
        amounts = torch.from_numpy(generator.normal(1, strength, 3)).float()
        mixing = UNMIX @ torch.diag(amounts) @ STAINS  # densities: unmix, scale each stain, mix again
        density = -image.clamp(1 / 255).log()
        return (-torch.einsum("ij,ihw->jhw", mixing, density)).exp()
    gain = torch.from_numpy(np.exp(generator.normal(0, strength, (image.shape[0], 1, 1)))).float()
    offset = torch.from_numpy(generator.normal(0, strength / 4, (image.shape[0], 1, 1))).float()
    return image * gain * float(np.exp(generator.normal(0, strength))) + offset


def is_dark(image: Tensor) -> bool:
    """Whether an image (C, H, W) is taken for fluorescence."""
    return bool(image.mean() <= DARK)


def laid_over(image: Tensor, other: Tensor) -> Tensor:
    """A dark image (C, H, W) with the light of another one's objects added: what is brighter than its background."""
    background = other.flatten(1).quantile(0.1, dim=1)
    return image + (other - background[:, None, None]).clamp(min=0)
