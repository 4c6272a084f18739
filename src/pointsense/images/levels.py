"""Black and white levels, which of an image's numbers become 0 and 1; and how strongly an image is stained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SAMPLED_PIXELS = 2**15

PERCENTILES = (0.1, 99.9)
"""Of the pixels of all training images, that become 0 and 1."""

OWN_PERCENTILES = (1.0, 99.8)
"""Of an image, that become 0 and 1 where each image has levels of its own."""

UNLIKE = 2.0
"""Images whose contrasts differ by more than this factor, the rarest ones left out, have levels of their own."""

FAINTEST = 0.03
"""Least contrast that is stretched, as a share of the training images': noise alone is not an image."""

BLOCK, BRIGHT, SHARE = 32, 95.0, 2 / 3
"""White lies at least at this share of the way from black to what a twentieth of some block of so many px a side, or
a twentieth of the annotated points, are brighter than: few objects in a large field, fewer pixels than the upper
percentile leaves out, would all be clipped."""

BRIGHT_FIELD, TISSUE, LEAST_TISSUE = 0.5, 0.15, 0.01
"""Mean from which on an RGB image is taken for bright field; mean density of its channels from which on a pixel is
tissue; and the share of tissue below which an image tells nothing of its stains."""

STRONG = 99.0
"""Percentile of the densities of tissue: about those of the darkest nuclei."""

MOST_CHANGE = 2.0
"""Factor by which densities change at most: an image without nuclei has no strong stains."""


def sampled(image: Array, generator: np.random.Generator) -> Array:
    """At most `SAMPLED_PIXELS` pixels (N, C) of an image (H, W, C)."""
    pixels = image.reshape(-1, image.shape[2])
    return (
        pixels[generator.integers(0, len(pixels), SAMPLED_PIXELS)] if len(pixels) > SAMPLED_PIXELS else pixels
    )


def pixels_at(image: Array, points: Array) -> Array:
    """The pixels (N, C) of an image (H, W, C) at points (N, 2)."""
    y, x = np.clip(np.rint(points).astype(int), 0, np.array(image.shape[:2]) - 1).T
    return image[y, x]


def are_unlike(samples: Sequence[Array]) -> bool:
    """Whether images, of which there are pixels (N, C) each, differ much in contrast, empty ones left out."""
    contrasts = [np.ptp(np.percentile(sample, OWN_PERCENTILES)) for sample in samples]
    faint, strong = np.percentile([c for c in contrasts if c >= FAINTEST * max(contrasts)], (10, 90))
    return bool(strong > UNLIKE * faint)


def common_levels(pixels: Array, at_points: Array) -> tuple[Array, Array]:
    """Black and white (C,) of pixels (N, C) of all training images, with those at annotated points (M, C)."""
    low, high = np.percentile(pixels, PERCENTILES, axis=0)
    if len(at_points):
        high = _raised(low, high, np.percentile(at_points, BRIGHT, axis=0))
    return low, np.maximum(np.where(high > low, high, low + 1), apart(low))  # else of a constant channel


def apart(black: Array | float) -> Array:
    """The least white that float32 tells apart from a black."""
    return black + 2 * np.spacing(np.abs(np.float32(black))).astype(float)


def own_levels(pixels: Array, every_second: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Black and white of one image, by pixels (N, C) and by every second of its pixels (H / 2, W / 2, C)."""
    black, white = np.percentile(pixels, OWN_PERCENTILES)
    white = _raised(black, white, _brightest(every_second))
    return float(black), float(np.maximum(white, apart(black)))


def _raised(black: Array, white: Array, bright: Array | float) -> Array:
    """White, raised where what is bright would be clipped."""
    return np.maximum(white, black + SHARE * (bright - black))


def _brightest(every_second: npt.NDArray[np.float32]) -> float:
    """What a twentieth of the brightest block of an image exceeds."""
    side = BLOCK // 2
    rows, columns = (size // side for size in every_second.shape[:2])
    if not rows or not columns:
        return -np.inf
    whole = every_second[: rows * side, : columns * side]
    blocks = whole.reshape(rows, side, columns, side, -1).swapaxes(1, 2).reshape(rows * columns, -1)
    place = int(BRIGHT / 100 * blocks.shape[1])
    return float(np.partition(blocks, place, axis=1)[:, place].max())


def strong_stains(pixels: Array) -> Array | None:
    """Optical density of strong stains in each channel (3,), by pixels (N, 3) in [0, 1]; None if it is not stained."""
    if pixels.shape[1] != 3 or (pixels[:, :1] == pixels).all() or pixels.mean() <= BRIGHT_FIELD:
        return None
    density = -np.log(np.clip(pixels, 1 / 255, 1))
    tissue = density[density.mean(axis=1) > TISSUE]
    if len(tissue) <= LEAST_TISSUE * len(pixels):
        return None
    return np.maximum(np.percentile(tissue, STRONG, axis=0), TISSUE)
