"""How choices are compared on the selection part, for our own detectors and for the peers alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pointsense.evaluation.cases import Case
from pointsense.evaluation.threshold import TOLERANCE, ThresholdChoice, best_threshold

FEW_POINTS = 5.0
"""Share of the average precision in the merit, in standard errors of F1: a half at 25 points, .05 at 2,500."""

MISCOUNT = 0.1
"""What as many points too many, or none at all, cost of the merit."""

ERRORS, MOST_TOLERANCE = 8, 0.15
"""Thresholds that differ in so many errors at most are alike, up to a share of F1, and in fewer where the best has next
to none (see `best_threshold`): on few points the best is so by chance. Leaving out one selection image in turn,
F1 of mitoses on it was the higher the wider the range, up to here."""


@dataclass(frozen=True)
class Judgement:
    """A threshold chosen on images, and how good the detections are there."""

    threshold: ThresholdChoice
    merit: float


def standard_error(points: int) -> float:
    """Of a score on so many points, at most: that of a proportion."""
    return 0.5 / max(1, points) ** 0.5


def tolerance_of(points: int) -> float:
    """How far below the best an F1 on so many points is near it, at most."""
    return max(TOLERANCE, min(MOST_TOLERANCE, ERRORS / (2 * max(1, points))))


def judged(cases: Sequence[Case], radius: float) -> Judgement:
    """The threshold of near-best F1 of cases with scored candidates, and their merit at it.

    F1 is the merit, less a little for a wrong number of points in all. The fewer the points, the more counts the
    average precision, which is less jagged. The threshold does not move for the count, so that how far it can does not
    choose among readings; see `settled`.
    """
    points = sum(len(case.truth) for case in cases)
    threshold = best_threshold(cases, radius, tolerance=tolerance_of(points), counting=False)
    share = min(0.5, FEW_POINTS * standard_error(points))
    merit = (1 - share) * threshold.f1 + share * threshold.average_precision
    surplus = sum(len(case.above(threshold.threshold)) for case in cases) - points
    return Judgement(threshold, merit - MISCOUNT * min(1.0, abs(surplus) / max(1, points)))


def settled(cases: Sequence[Case], radius: float, protocol: str = "one-to-one") -> ThresholdChoice:
    """The threshold to keep for detections that were chosen: it counts right where that costs nothing."""
    points = sum(len(case.truth) for case in cases)
    return best_threshold(cases, radius, protocol=protocol, tolerance=tolerance_of(points))
