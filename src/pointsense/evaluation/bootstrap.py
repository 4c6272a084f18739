"""How sure an F1 is: resampled groups or images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pointsense.evaluation.cases import CaseResult, f1_of

FEWEST_GROUPS = 5  # below it, resampling groups says nothing: images are resampled instead


@dataclass(frozen=True)
class Interval:
    """A 95% percentile bootstrap interval, from resampling `units` ("groups" or "images")."""

    low: float
    high: float
    units: str
    unit_count: int


def unit_counts(results: Sequence[CaseResult]) -> tuple[np.ndarray, str]:
    """Return TP, FP, FN (units, 3) of what the bootstrap resamples, and what those units are.

    Units are groups where there are enough of them, each image without a group one of its own; else images.
    """
    counts = np.array([result.counts for result in results])
    return grouped(counts, [result.group for result in results])


def grouped(counts: np.ndarray, groups: Sequence[str | None]) -> tuple[np.ndarray, str]:
    """`unit_counts` of counts (images, ...) and the group of each image."""
    unit_of = [(group or "", -1 if group else place) for place, group in enumerate(groups)]
    units = sorted(set(unit_of))
    if len(units) < FEWEST_GROUPS or not any(groups):
        return counts, "images"
    summed = np.zeros((len(units), *counts.shape[1:]), counts.dtype)
    np.add.at(summed, [units.index(unit) for unit in unit_of], counts)
    return summed, "groups"


def draws(units: int, bootstrap: int, seed: int) -> np.ndarray:
    """Numbers of the units of each resampling, (bootstrap, units)."""
    return np.random.default_rng(seed).integers(0, units, size=(bootstrap, units))


def f1_interval_of(results: Sequence[CaseResult], bootstrap: int, seed: int) -> Interval | None:
    """The interval of the pooled F1; None for a single unit."""
    counts, units = unit_counts(results)
    if len(counts) < 2 or bootstrap < 1:
        return None
    low, high = np.percentile(f1_of(counts[draws(len(counts), bootstrap, seed)].sum(axis=1)), [2.5, 97.5])
    return Interval(float(low), float(high), units, len(counts))
