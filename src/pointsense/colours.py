"""One colour for each meaning in every picture, after Okabe and Ito: distinct also to the colour-blind."""

from __future__ import annotations

from collections.abc import Iterable

TRUTH = "#F0E442"
HIT = "#009E73"
MISS = "#D55E00"
FALSE_ALARM = "#CC79A7"
DETECTION = "#56B4E9"
CLASSES = (DETECTION, "#E69F00", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2")
CANDIDATE = "#009E73"
PREDICTED = "#D55E00"
MEASURED = "#0072B2"


def of_classes(names: Iterable[str], known: Iterable[str] = ()) -> dict[str, str]:
    """A colour for each class name: those that are `known` come first, so that it is the same in all their images."""
    ordered = dict.fromkeys([*known, *sorted(set(names))])
    return {name: CLASSES[k % len(CLASSES)] for k, name in enumerate(ordered)}
