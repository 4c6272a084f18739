"""Scores of a detector on many images: pooled, by group, averaged, and how sure they are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pointsense.errors import DataError
from pointsense.evaluation.bootstrap import Interval, f1_interval_of
from pointsense.evaluation.cases import Case, CaseResult, Scores, pooled, scored, shown

HEADER = ("", "images", "TP", "FP", "FN", "precision", "recall", "F1", "error px", "count MAE")


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
            "images": {case.name: _plain(asdict(pooled([case]))) for case in self.cases},
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
            said += f", threshold {self.threshold:.3g}"
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
    cases = list(cases)
    sizes = Counter(case.group for case in cases)
    # An image that is a group of its own has none.
    alone = {case.name for case in cases if case.group == case.name and sizes[case.group] == 1}
    cases = [replace(case, group=None) if case.name in alone else case for case in cases]
    results = tuple(scored(case, radius, threshold, protocol) for case in cases)
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
    groups = {name: pooled(members) for name, members in sorted(by_group.items())}
    return Report(
        radius=float(radius),
        protocol=protocol,
        threshold=None if threshold is None else float(threshold),
        overall=pooled(results),
        groups=groups,
        macro_groups=_macro(list(groups.values())),
        macro_cases=_macro([pooled([result]) for result in results]),
        f1_interval=f1_interval_of(results, bootstrap, seed),
        cases=results,
    )


def _macro(scores: Sequence[Scores]) -> dict[str, float]:
    means = {}
    for name in ("precision", "recall", "f1"):
        defined = [value for s in scores if not math.isnan(value := getattr(s, name))]
        means[name] = float(np.mean(defined)) if defined else math.nan
    return means


def _mean_row(name: str, images: int, means: dict[str, float]) -> tuple[str, ...]:
    rates = [shown(means[key], 3) for key in ("precision", "recall", "f1")]
    return (name, str(images), "", "", "", *rates, "", "")


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}
