"""The score threshold of best F1, chosen so that it also holds on images that were not looked at."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pointsense.errors import DataError
from pointsense.evaluation.cases import Case
from pointsense.evaluation.match import gate, match_gated

ALL, SOME, BELOW = 240, 60, 20
"""Thresholds to try: of the highest scores, three for each point to be found, where F1 can be above one half, all if
they are no more than 240, else 60; and 20 of all that are lower."""

TOLERANCE = 0.002
"""An F1 this near the best one counts as equal to it."""

CHANCE = 2.0
"""Standard errors by which a number of errors, or a count as the images differ, may be off by chance."""

STEPS = 60
"""Most thresholds that are tried on the way to one that counts right."""


@dataclass(frozen=True)
class CurvePoint:
    """Precision, recall and F1 of all detections that score at least `threshold`.

    Precision is 1 where nothing is left, recall 1 where there is nothing to find.
    """

    threshold: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ThresholdChoice:
    """The chosen threshold.

    Attributes
    ----------
    threshold, precision, recall, f1 : float
        The threshold and the pooled scores at it, on the cases it was chosen on.
    average_precision : float
        Area under the precision-recall curve, precision made non-increasing in recall; between two candidates that are
        no neighbouring scores it is taken to fall evenly.
    curve : tuple of CurvePoint
        Every candidate, by rising threshold.
    """

    threshold: float
    precision: float
    recall: float
    f1: float
    average_precision: float
    curve: tuple[CurvePoint, ...]


def best_threshold(
    cases: Iterable[Case],
    radius: float,
    candidates: np.ndarray | None = None,
    *,
    protocol: str = "one-to-one",
    tolerance: float = TOLERANCE,
    counting: bool = True,
) -> ThresholdChoice:
    """Return the middle of the widest range of thresholds whose pooled F1 is near the best.

    The single best threshold sits on the edge of what it was tuned on; the middle of the plateau does not. Where
    the count is wrong there beyond chance, as the images differ, the threshold moves towards the one that counts
    right, as far as F1 stays the same within `TOLERANCE`: with few points nowhere.
    Between neighbouring scores the kept detections are the same, so a plateau reaches down to the next lower
    score, to 0 where there is none. Without any detection the threshold is 0.

    Parameters
    ----------
    cases : iterable of Case
        Validation images, with the scores of their detections (never the test images).
    radius : float
        Match radius, px.
    candidates : (T,) float array, optional
        Thresholds to try; if not given, the three highest scores for each point, or 60 of them where they are many,
        and 20 of the lower ones, down to the lowest.
    protocol : str
        See `pointsense.evaluation.match.match`.
    tolerance : float
        How far from the best an F1 is near it, at most; with few points, where one error moves F1 by more, a larger
        one. Of more than `TOLERANCE` it is as much as the best's own number of errors may be off by chance.
    counting : bool
        Whether the threshold moves for the count; else it is the middle.

    Raises
    ------
    DataError
        If there is no case or a score is missing or not finite.
    """
    cases = list(cases)
    if not cases:
        raise DataError("expected images to choose a threshold on, found none")
    scores = [case.score_array() for case in cases]
    gates = [gate(case.truth, case.above(None), radius) for case in cases]
    pooled = np.unique(np.concatenate(scores))
    if not np.isfinite(pooled).all():
        raise DataError("expected finite scores, found NaN or infinity; check the model's predictions")

    def at(threshold: float) -> CurvePoint:
        matched = [match_gated(g.keep(s >= threshold), protocol) for g, s in zip(gates, scores, strict=True)]
        tp = sum(m.true_positives for m in matched)
        fp = sum(m.false_positives for m in matched)
        fn = sum(m.false_negatives for m in matched)
        return CurvePoint(
            float(threshold),
            tp / (tp + fp) if tp + fp else 1.0,
            tp / (tp + fn) if tp + fn else 1.0,
            2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0,
        )

    if candidates is None:
        candidates = _tried(pooled, sum(len(case.truth) for case in cases))
    curve = tuple(at(threshold) for threshold in np.unique(candidates))
    if not curve:
        nothing = at(math.inf)
        return ThresholdChoice(0.0, nothing.precision, nothing.recall, nothing.f1, 0.0, ())
    points = [len(case.truth) for case in cases]
    peak = max(curve, key=lambda point: point.f1)
    least = peak.f1 - min(tolerance, max(TOLERANCE, _chance(peak, sum(points))))
    low, high = _widest_plateau(curve, pooled, least)
    chosen = at((low + high) / 2)
    if chosen.f1 < least:  # a dip between two candidates
        near = [point for point in curve if low <= point.threshold <= high and point.f1 >= least]
        chosen = min(near, key=lambda point: abs(point.threshold - chosen.threshold))
    middle = chosen
    for threshold in _towards_the_count(middle.threshold, scores, points) if counting else ():
        point = at(threshold)
        if abs(point.f1 - middle.f1) > min(tolerance, TOLERANCE) or point.f1 < least:
            break
        chosen = point
    return ThresholdChoice(
        chosen.threshold,
        chosen.precision,
        chosen.recall,
        chosen.f1,
        _average_precision(curve, pooled),
        curve,
    )


def _chance(peak: CurvePoint, points: int) -> float:
    """Return by how much F1 may be off by chance: `CHANCE` standard errors of the number of errors, of one at least.

    An error counts as it does where F1 is near 1.
    """
    errors = 2 * peak.recall * points * (1 / peak.f1 - 1) if peak.f1 else points
    return CHANCE * math.sqrt(max(1.0, errors)) / (2 * max(1, points))


def _towards_the_count(start: float, scores: list[np.ndarray], points: list[int]) -> np.ndarray:
    """Return the thresholds, between scores, from `start` to the one that counts right.

    There are none where the count is wrong by no more than chance; of a single image's count nothing is known.
    """
    surplus = np.array([np.sum(s >= start) for s in scores]) - points
    images, wrong = len(surplus), int(surplus.sum())
    if images < 2 or abs(wrong) <= CHANCE * math.sqrt(images) * surplus.std(ddof=1):
        return np.empty(0)
    ranked = np.sort(np.concatenate(scores))
    way = ranked[ranked < start][::-1] if wrong < 0 else ranked[ranked >= start]
    ends = way[: abs(wrong)]  # the detections to be taken in, or left out
    beyond = np.append(way[1:], way[-1:])[: abs(wrong)]
    steps = np.unique(np.linspace(0, len(ends) - 1, min(len(ends), STEPS)).round().astype(int))
    return ((ends + beyond) / 2)[steps]


def _tried(scores: np.ndarray, points: int) -> np.ndarray:
    """Return the thresholds to try of the sorted distinct scores, extremes included, for so many points."""
    count = len(scores)
    high = min(count, max(3 * points, SOME))
    ranks = np.linspace(0, high - 1, high if high <= ALL else SOME)
    if high < count:
        ranks = np.concatenate([ranks, np.geomspace(high, count - 1, BELOW)])
    return scores[count - 1 - np.round(ranks).astype(int)] if count else scores


def _widest_plateau(curve: tuple[CurvePoint, ...], scores: np.ndarray, least: float) -> tuple[float, float]:
    """Return the ends of the widest run of thresholds whose F1 is `least` or more; `scores` are sorted."""
    runs: list[tuple[float, float]] = []
    start: float | None = None
    for point in curve:
        if point.f1 < least:
            start = None
            continue
        if start is None:
            below = int(np.searchsorted(scores, point.threshold))  # scores[:below] are lower
            start = float(scores[below - 1]) if below else min(0.0, point.threshold)
            runs.append((start, point.threshold))
        runs[-1] = (start, point.threshold)
    return max(runs, key=lambda run: run[1] - run[0])


def _average_precision(curve: tuple[CurvePoint, ...], scores: np.ndarray) -> float:
    """Return the area under a curve, whose thresholds are some of the sorted distinct `scores`."""
    strict_first = curve[::-1]
    recall = np.array([0.0] + [point.recall for point in strict_first])
    precision = np.array([point.precision for point in strict_first])
    ceiling = np.maximum.accumulate(precision[::-1])[::-1]
    ranks = np.searchsorted(scores, [point.threshold for point in strict_first])
    skipped = np.diff(ranks, prepend=len(scores)) < -1  # scores between a candidate and the stricter one
    before = np.concatenate([ceiling[:1], ceiling[:-1]])
    heights = np.where(skipped, (before + ceiling) / 2, ceiling)
    return float(np.sum(np.maximum(np.diff(recall), 0.0) * heights))
