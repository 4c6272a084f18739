"""Whether x and y were exchanged, by where points lie and by what lies under them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pointsense.datasets.dataset import points_inside
from pointsense.datasets.looked import Looked

SURE = 4.0
"""Standard errors by which exchanged coordinates must fit the images better to be called swapped."""


def are_swapped(looked: Sequence[Looked]) -> Iterator[str]:
    """By geometry: outside as given, inside when exchanged."""
    outside = inside_swapped = 0
    for image in looked:
        points = image.sample.points[~points_inside(image.sample.points, image.shape)]
        outside += len(points)
        inside_swapped += int(points_inside(points[:, ::-1], image.shape).sum())
    if inside_swapped > max(1, outside / 2):
        yield (
            f"x and y are probably swapped: {inside_swapped} of {outside} points that lie outside would lie "
            "inside; exchange the names of the two columns"
        )


def seem_swapped(looked: Sequence[Looked]) -> Iterator[str]:
    """By what lies under the points."""
    if _evidence_for_swap([image.contrast for image in looked]) > SURE:
        yield (
            "x and y are probably swapped: what stands out in the images lies at the exchanged positions; "
            "look at an overlay, and exchange the names of the two columns"
        )


def _evidence_for_swap(contrasts: Sequence[npt.NDArray[np.float64]]) -> float:
    """Standard errors by which exchanged points stand out more from their images than the given ones.

    Each image counts once, for its points share whatever unevenness it has; where there are fewer than five,
    each point.
    """
    differences = [pairs[:, 1] - pairs[:, 0] for pairs in contrasts if len(pairs)]
    if len(differences) >= 5:
        values = np.array([difference.mean() for difference in differences])
    else:
        values = np.concatenate([np.zeros(0), *differences])
    if len(values) < 5 or not values.std() > 0:
        return 0.0
    return float(values.mean() / values.std(ddof=1) * np.sqrt(len(values)))
