"""What a model finds: one or more classes of points, each with its own radius, doubt and threshold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PointClass:
    """A class of points that a model finds, in a mass map of its own.

    Attributes
    ----------
    name : str
        "" where the points have no class.
    radius : float
        Match radius in image px.
    blur : float
        Doubt about a position in cells of the mass map, with which its codes are read (chosen on the selection part).
    threshold : float
        Least score (chosen on the selection part).
    """

    name: str
    radius: float
    blur: float = 0.0
    threshold: float = 0.5
