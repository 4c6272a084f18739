"""Numbers on the command line that hold for all points, or for those of a class."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pointsense.errors import UsageError


def parse_by_class(
    texts: Sequence[str], option: str, expected: str, *, least: float = -math.inf
) -> dict[str, float]:
    """Numbers by class, "" for all others, from texts `NUMBER` and `CLASS=NUMBER`; above `least` and finite.

    Parameters
    ----------
    texts : sequence of str
    option, expected : str
        What messages call the option, and what they say that it takes.
    least : float

    Raises
    ------
    UsageError
        If a text is neither, or says the same class again.
    """
    numbers: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not least < value < math.inf:
            raise UsageError(f"{option} is {text}, expected {expected}")
        if name in numbers:
            raise UsageError(f"{option} is given twice for {f'the class {name}' if name else 'all points'}")
        numbers[name] = value
    return numbers
