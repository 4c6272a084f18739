"""Candidates judged again from crops of the image itself, at its own resolution."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointsense.inference.finite import require_finite
from pointsense.inference.scaling import cut_out, resized
from pointsense.inference.views import turned
from pointsense.model.second_look import SecondLook

BATCH = 64
"""Crops judged at once."""


def crop_around(image: Tensor, point: npt.NDArray[np.float64], seen: int, side: int) -> Tensor:
    """A square of `seen` px around a point (2,) of an image (C, H, W), as (C, side, side)."""
    top, left = np.round(point - (seen - 1) / 2).astype(int).tolist()
    return resized(cut_out(image, (top, left, top + seen, left + seen)), side)


@torch.no_grad()
def judge(
    look: SecondLook,
    image: Tensor,
    points: npt.NDArray[np.float64],
    *,
    side: int,
    zoom: float = 1.0,
    views: int = 1,
    device: torch.device | str = "cpu",
) -> npt.NDArray[np.float64]:
    """Probabilities (N, K) that the points are objects of each class.

    Parameters
    ----------
    look : SecondLook
        In evaluation mode.
    image : Tensor, (C, H, W)
        In px of the image, levels as the model's input contract asks.
    points : (N, 2)
        (y, x) in px of the image.
    side : int
        Of the crops that the network sees.
    zoom : float
        How much larger than here objects were in training.
    views : int
        Rotations and flips whose probabilities are averaged.
    device : torch.device

    Raises
    ------
    DataError
        If they are not finite.
    """
    seen = max(1, round(side / zoom))
    chances = [np.zeros((0, look.out.out_features))]
    for start in range(0, len(points), BATCH):
        crops = torch.stack(
            [crop_around(image, point, seen, side) for point in points[start : start + BATCH]]
        )
        crops = crops.to(device, memory_format=torch.channels_last)
        each = [
            look(turned(crops, view).contiguous(memory_format=torch.channels_last)).sigmoid()
            for view in range(views)
        ]
        chances.append(torch.stack(each).mean(0).cpu().numpy().astype(float))
    found = np.concatenate(chances)
    require_finite(torch.from_numpy(found))
    return found
