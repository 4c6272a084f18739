"""One image and what was detected on it, matched and counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pointsense.errors import DataError
from pointsense.evaluation.match import Match, match


@dataclass(frozen=True)
class Case:
    """One image to be scored.

    Attributes
    ----------
    name : str
        The image's name, unique within a report.
    group : str or None
        Patient or slide; None, or the image's own name (if no other image has it), where it is not known.
    truth : (N, 2) float array
        Annotated points (y, x), px.
    detections : (K, 2) float array or None
        Detected points (y, x), px. None means that there is no prediction: all cells are missed.
    scores : (K,) float array or None
        Score of each detection; needed only where a threshold is applied.
    """

    name: str
    group: str | None
    truth: np.ndarray
    detections: np.ndarray | None
    scores: np.ndarray | None = None

    def above(self, threshold: float | None) -> np.ndarray:
        """Return the detections (K', 2) that score at least `threshold` (all, if it is None)."""
        if self.detections is None:
            return np.empty((0, 2))
        if threshold is None:
            return np.asarray(self.detections)
        return np.asarray(self.detections)[self.score_array() >= threshold]

    def score_array(self) -> np.ndarray:
        """Return the scores (K,) of the detections.

        Raises
        ------
        DataError
            If there are not as many scores as detections.
        """
        expected = 0 if self.detections is None else len(self.detections)
        scores = np.empty(0) if self.scores is None else np.asarray(self.scores, dtype=np.float64)
        if scores.shape != (expected,):
            raise DataError(
                f"{self.name}: expected one score for each of {expected} detections to apply a threshold, "
                f"found {len(scores)}; give scores, or no threshold"
            )
        return scores


@dataclass(frozen=True)
class Scores:
    """Counts and scores of one image or of several pooled.

    Precision and recall are NaN where nothing was detected or nothing is annotated: there is nothing to
    divide by. F1 = 2 TP / (2 TP + FP + FN) is 1 where there is nothing to find and nothing was found.
    `error_mean` and `error_median` are the localisation error of the true positives, px; `count_mae` is the
    mean absolute difference of the numbers of detections and cells of an image.
    """

    images: int
    true_positives: int
    false_positives: int
    false_negatives: int
    precision: float
    recall: float
    f1: float
    error_mean: float
    error_median: float
    count_mae: float

    def row(self, name: str) -> tuple[str, ...]:
        """Return the cells of a table row under `HEADER`."""
        counts = (self.images, self.true_positives, self.false_positives, self.false_negatives)
        rates = (self.precision, self.recall, self.f1)
        numbers = [shown(rate, 3) for rate in rates] + [
            shown(self.error_mean, 2),
            shown(self.count_mae, 2),
        ]
        return (name, *map(str, counts), *numbers)


@dataclass(frozen=True)
class CaseResult:
    """How one image was matched: `match` holds the pairs, `detections` (K, 2) what was matched."""

    name: str
    group: str | None
    match: Match
    detections: np.ndarray
    count_error: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """True positives, false positives, false negatives."""
        return self.match.true_positives, self.match.false_positives, self.match.false_negatives


def scored(case: Case, radius: float, threshold: float | None, protocol: str) -> CaseResult:
    """A case matched; detections below the threshold are dropped first."""
    detections = case.above(threshold)
    matched = match(case.truth, detections, radius, protocol=protocol)
    return CaseResult(case.name, case.group, matched, detections, abs(len(detections) - len(case.truth)))


def pooled(results: Sequence[CaseResult]) -> Scores:
    """All counts of the cases together."""
    tp, fp, fn = (int(total) for total in np.sum([result.counts for result in results], axis=0))
    distances = np.concatenate([result.match.distances for result in results])
    return Scores(
        images=len(results),
        true_positives=tp,
        false_positives=fp,
        false_negatives=fn,
        precision=tp / (tp + fp) if tp + fp else math.nan,
        recall=tp / (tp + fn) if tp + fn else math.nan,
        f1=float(f1_of(np.array([tp, fp, fn]))),
        error_mean=float(distances.mean()) if len(distances) else math.nan,
        error_median=float(np.median(distances)) if len(distances) else math.nan,
        count_mae=float(np.mean([result.count_error for result in results])),
    )


def f1_of(counts: np.ndarray) -> np.ndarray:
    """Return F1 of counts (..., 3) in the order TP, FP, FN; 1 where all three are 0."""
    twice = 2.0 * counts[..., 0]
    total = twice + counts[..., 1] + counts[..., 2]
    return np.where(total > 0, twice / np.maximum(total, 1.0), 1.0)


def shown(value: float, digits: int) -> str:
    """A number for a table, - where it is undefined."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
