"""An image's numbers turned into a network's input: band by band, and by a table where that is less work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BAND = 256
"""Rows that are converted at once: a large image is not to be there in several copies."""


def converted(
    image: Array, channels: int, function: Callable[[Array], npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    """An image (H, W, C) as (channels, H, W) by a `function` that gives that of any part of it.

    The function is to treat each pixel and, where C is not above `channels`, each channel by itself. Where pixels are
    more than the whole numbers that they can be, it is then asked once for each number, and not for each pixel.
    """
    out = np.empty((channels, *image.shape[:2]), np.float32)
    every = np.arange(np.iinfo(image.dtype).max + 1 if image.dtype.kind == "u" else 0)
    tabled = image.shape[2] <= channels and 0 < len(every) < image.shape[0] * image.shape[1]
    if tabled:
        numbers = np.repeat(every.astype(image.dtype)[:, None, None], image.shape[2], axis=2)
        tables = function(numbers)[..., 0]
    for top in range(0, len(image), BAND):
        part = image[top : top + BAND]
        if not tabled:
            out[:, top : top + BAND] = function(part)
            continue
        for number, table in enumerate(tables):
            out[number, top : top + BAND] = table[part[..., number % image.shape[2]]]
    return out
