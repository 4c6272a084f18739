"""Scores of a detector on many images: pooled, by group, averaged, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pointsense.errors import DataError
from pointsense.evaluation.match import Match, match

FEWEST_GROUPS = 5  # below it, resampling groups says nothing: images are resampled instead
HEADER = ("", "images", "TP", "FP", "FN", "precision", "recall", "F1", "error px", "count MAE")


@dataclass(frozen=True)
class Case:
    """One image to be scored.

    Attributes
    ----------
    name : str
        The image's name, unique within a report.
    group : str or None
        Patient or slide; None, or the image's own name, where it is not known.
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
        numbers = [_shown(rate, 3) for rate in rates] + [
            _shown(self.error_mean, 2),
            _shown(self.count_mae, 2),
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


@dataclass(frozen=True)
class Interval:
    """A 95% percentile bootstrap interval, from resampling `units` ("groups" or "images")."""

    low: float
    high: float
    units: str
    unit_count: int


@dataclass(frozen=True)
class Report:
    """Scores of one detector on one set of images.

    Attributes
    ----------
    radius, protocol, threshold
        What the numbers mean: match radius in px, matching protocol, score threshold applied.
    overall : Scores
        All counts pooled (micro).
    groups : dict of str to Scores
        Pooled within each group; empty where no case has a group.
    macro_groups, macro_cases : dict of str to float
        Unweighted means of precision, recall and F1 over groups and over images; undefined ones left out.
    f1_interval : Interval or None
        Of the pooled F1; None for a single image.
    cases : tuple of CaseResult
        Image by image.
    """

    radius: float
    protocol: str
    threshold: float | None
    overall: Scores
    groups: dict[str, Scores]
    macro_groups: dict[str, float]
    macro_cases: dict[str, float]
    f1_interval: Interval | None
    cases: tuple[CaseResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values; undefined numbers become None."""
        return {
            "protocol": self.protocol,
            "radius_px": self.radius,
            "threshold": self.threshold,
            "overall": _plain(asdict(self.overall)),
            "f1_interval": None if self.f1_interval is None else _plain(asdict(self.f1_interval)),
            "macro_groups": _plain(self.macro_groups),
            "macro_images": _plain(self.macro_cases),
            "groups": {name: _plain(asdict(scores)) for name, scores in self.groups.items()},
            "images": {case.name: _plain(asdict(_pooled([case]))) for case in self.cases},
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table's rows under `HEADER`: all images pooled, each group, then the plain means."""
        rows = [self.overall.row("all (pooled)")]
        rows += [scores.row(name) for name, scores in self.groups.items()]
        if self.groups:
            rows.append(_mean_row("mean of groups", len(self.groups), self.macro_groups))
        rows.append(_mean_row("mean of images", len(self.cases), self.macro_cases))
        return rows

    def caption(self) -> str:
        """Say in a sentence how the scores came about and how sure the F1 is."""
        said = f"{self.protocol} matching within {self.radius:g} px"
        if self.threshold is not None:
            said += f", scores from {self.threshold:.3g}"
        if self.f1_interval is not None:
            i = self.f1_interval
            said += f"; F1 95% interval {i.low:.3f} to {i.high:.3f} (bootstrap over {i.unit_count} {i.units})"
        return said + "."

    def as_table(self) -> Table:
        """Return a rich table, which prints as plain text where there is no terminal."""
        table = Table(caption=self.caption(), box=SIMPLE_HEAD, caption_justify="left", padding=(0, 1, 0, 0))
        for title in HEADER:
            table.add_column(title.replace(" ", "\n"), justify="right" if title else "left")
        for row in self.rows():
            table.add_row(*row)
        return table


@dataclass(frozen=True)
class Part:
    """A class that was scored.

    Attributes
    ----------
    name : str
        "" where there are no classes.
    report : Report
    candidates : sequence of Case
        All that was found, below the threshold, too.
    threshold : float or None
        What the report's detections reach; None where it is not known.
    """

    name: str
    report: Report
    candidates: Sequence[Case]
    threshold: float | None


def evaluate(
    cases: Iterable[Case],
    radius: float,
    *,
    threshold: float | None = None,
    protocol: str = "one-to-one",
    bootstrap: int = 1000,
    seed: int = 0,
) -> Report:
    """Score the detections of all cases.

    Parameters
    ----------
    cases : iterable of Case
        Each image once, also the empty ones and those without a prediction.
    radius : float
        Match radius, px.
    threshold : float, optional
        Detections that score less are dropped first.
    protocol : str
        See `pointsense.evaluation.match.match`.
    bootstrap : int
        Resamplings for the interval of F1: of groups where there are at least 5, else of images.
    seed : int
        Seed of the resampling.

    Raises
    ------
    DataError
        If there is no case, a name occurs twice, or scores are missing for the threshold.
    UsageError
        If the protocol or the radius is wrong.
    """
    results = tuple(_score(case, radius, threshold, protocol) for case in cases)
    if not results:
        raise DataError("expected images to score, found none; check the split and the file names")
    names = [result.name for result in results]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"expected each image once, found {twice} twice; give every image one prediction")
    by_group: dict[str, list[CaseResult]] = {}
    for result in results:
        if result.group is not None:
            by_group.setdefault(result.group, []).append(result)
    groups = {name: _pooled(members) for name, members in sorted(by_group.items())}
    return Report(
        radius=float(radius),
        protocol=protocol,
        threshold=None if threshold is None else float(threshold),
        overall=_pooled(results),
        groups=groups,
        macro_groups=_macro(list(groups.values())),
        macro_cases=_macro([_pooled([result]) for result in results]),
        f1_interval=_f1_interval(results, bootstrap, seed),
        cases=results,
    )


@dataclass(frozen=True)
class PairedDifference:
    """F1 of a second detector minus that of a first on the same images, and its 95% interval.

    `share_better` is the share of the resamplings in which the second is strictly better.
    """

    difference: float
    interval: Interval
    share_better: float

    def words(self, other: str) -> str:
        """A sentence on the difference to the detector of that name."""
        i = self.interval
        return (
            f"F1 minus that of {other}: {self.difference:+.3f}, 95% interval {i.low:+.3f} to {i.high:+.3f} (paired "
            f"bootstrap over {i.unit_count} {i.units}); strictly better in {self.share_better:.0%} of the resamplings"
        )


def paired_bootstrap(
    first: Report, second: Report, *, bootstrap: int = 1000, seed: int = 0
) -> PairedDifference:
    """Compare two detectors on the same images, resampling both alike.

    Raises
    ------
    DataError
        If the reports do not cover the same images (at least two) in the same groups.
    """
    cases = {case.name: case for case in second.cases}
    if len(cases) < 2 or {(c.name, c.group) for c in first.cases} != {
        (c.name, c.group) for c in second.cases
    }:
        raise DataError(
            f"expected two reports on the same two or more images, found {len(first.cases)} and {len(cases)} "
            "images; evaluate both detectors on one split"
        )
    counts_first, units = _unit_counts(first.cases)
    counts_second, _ = _unit_counts([cases[case.name] for case in first.cases])
    draws = _draws(len(counts_first), bootstrap, seed)
    differences = _f1(counts_second[draws].sum(axis=1)) - _f1(counts_first[draws].sum(axis=1))
    low, high = np.percentile(differences, [2.5, 97.5])
    return PairedDifference(
        second.overall.f1 - first.overall.f1,
        Interval(float(low), float(high), units, len(counts_first)),
        float(np.mean(differences > 0)),
    )


def _score(case: Case, radius: float, threshold: float | None, protocol: str) -> CaseResult:
    detections = case.above(threshold)
    matched = match(case.truth, detections, radius, protocol=protocol)
    group = None if case.group == case.name else case.group
    return CaseResult(case.name, group, matched, detections, abs(len(detections) - len(case.truth)))


def _pooled(results: Sequence[CaseResult]) -> Scores:
    tp, fp, fn = (int(total) for total in np.sum([result.counts for result in results], axis=0))
    distances = np.concatenate([result.match.distances for result in results])
    return Scores(
        images=len(results),
        true_positives=tp,
        false_positives=fp,
        false_negatives=fn,
        precision=tp / (tp + fp) if tp + fp else math.nan,
        recall=tp / (tp + fn) if tp + fn else math.nan,
        f1=float(_f1(np.array([tp, fp, fn]))),
        error_mean=float(distances.mean()) if len(distances) else math.nan,
        error_median=float(np.median(distances)) if len(distances) else math.nan,
        count_mae=float(np.mean([result.count_error for result in results])),
    )


def _f1(counts: np.ndarray) -> np.ndarray:
    """Return F1 of counts (..., 3) in the order TP, FP, FN; 1 where all three are 0."""
    twice = 2.0 * counts[..., 0]
    total = twice + counts[..., 1] + counts[..., 2]
    return np.where(total > 0, twice / np.maximum(total, 1.0), 1.0)


def _macro(scores: Sequence[Scores]) -> dict[str, float]:
    means = {}
    for name in ("precision", "recall", "f1"):
        defined = [value for s in scores if not math.isnan(value := getattr(s, name))]
        means[name] = float(np.mean(defined)) if defined else math.nan
    return means


def _unit_counts(results: Sequence[CaseResult]) -> tuple[np.ndarray, str]:
    """Return TP, FP, FN (units, 3) of what the bootstrap resamples, and what those units are."""
    counts = np.array([result.counts for result in results])
    names = [result.group for result in results]
    groups = sorted({name for name in names if name is not None})
    if None in names or len(groups) < FEWEST_GROUPS:
        return counts, "images"
    member = np.array([[name == group for name in names] for group in groups])
    return member @ counts, "groups"


def _draws(units: int, bootstrap: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, units, size=(bootstrap, units))


def _f1_interval(results: Sequence[CaseResult], bootstrap: int, seed: int) -> Interval | None:
    counts, units = _unit_counts(results)
    if len(counts) < 2 or bootstrap < 1:
        return None
    low, high = np.percentile(_f1(counts[_draws(len(counts), bootstrap, seed)].sum(axis=1)), [2.5, 97.5])
    return Interval(float(low), float(high), units, len(counts))


def _mean_row(name: str, images: int, means: dict[str, float]) -> tuple[str, ...]:
    rates = [_shown(means[key], 3) for key in ("precision", "recall", "f1")]
    return (name, str(images), "", "", "", *rates, "", "")


def _shown(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}
