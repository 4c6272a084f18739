"""What a model finds: one or more classes of points, each with its own radius, doubt and threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""What a model folder says of its classes holds nothing else, and no number that is none."""

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Reading:
    """How points are read from codes (chosen on the selection part).

    Attributes
    ----------
    blur : float
        Doubt about a position, in cells of the mass map.
    rounding : float
        Share of a cell's mass: neighbours that weigh n cells together are n + 1 cells if they weigh 1 - `rounding`
        more. One half for the likeliest number, more where few cells should be missed.
    matched : bool
        Whether each peak of the matched filter is a point, as where objects lie apart: nothing is recovered, nor
        rounded, and no mass is capped.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    blur: NotNegative = 0.0
    rounding: NotNegative = 0.5
    matched: bool = False


@dataclass(frozen=True)
class PointClass:
    """A class of points that a model finds, in a mass map of its own.

    Attributes
    ----------
    name : str
        "" where the points have no class.
    radius : float
        Match radius in image px.
    reading : Reading
    threshold : float
        Least score (chosen on the selection part).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: str
    radius: Positive
    reading: Reading = Reading()
    threshold: float = 0.5
