"""Two detectors on the same images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pointsense.errors import DataError
from pointsense.evaluation.bootstrap import Interval, draws, unit_counts
from pointsense.evaluation.cases import f1_of
from pointsense.evaluation.report import Report


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

    Parameters
    ----------
    first, second : Report
    bootstrap : int
        How often images, or groups, are drawn anew; at least one.
    seed : int

    Returns
    -------
    PairedDifference
        F1 of the second minus that of the first.

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
    counts_first, units = unit_counts(first.cases)
    counts_second, _ = unit_counts([cases[case.name] for case in first.cases])
    drawn = draws(len(counts_first), bootstrap, seed)
    differences = f1_of(counts_second[drawn].sum(axis=1)) - f1_of(counts_first[drawn].sum(axis=1))
    low, high = np.percentile(differences, [2.5, 97.5])
    return PairedDifference(
        second.overall.f1 - first.overall.f1,
        Interval(float(low), float(high), units, len(counts_first)),
        float(np.mean(differences > 0)),
    )
