"""Which detections found which cells: three protocols, all gated by the radius before anything is assigned.

Assigning first and cutting by the radius afterwards loses true positives (a far surplus detection can take
the place of a near one), so every protocol here starts from the pairs that lie within the radius.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from pointsense.errors import UsageError

Protocol = Literal["one-to-one", "greedy", "duplicate-tolerant"]
PROTOCOLS: tuple[str, ...] = get_args(Protocol)


@dataclass(frozen=True)
class Match:
    """The outcome of matching the detections of one image with its truth.

    Attributes
    ----------
    pairs : (P, 2) int array
        Rows (index of truth, index of detection), ordered by truth.
    distances : (P,) float array
        Distance of each pair, px.
    missed : (M,) int array
        Indices of the truth that no detection found.
    false_alarms : (F,) int array
        Indices of the detections that count as false positives.
    """

    pairs: np.ndarray
    distances: np.ndarray
    missed: np.ndarray
    false_alarms: np.ndarray

    @property
    def true_positives(self) -> int:
        """Number of cells found."""
        return len(self.pairs)

    @property
    def false_positives(self) -> int:
        """Number of detections held against the detector."""
        return len(self.false_alarms)

    @property
    def false_negatives(self) -> int:
        """Number of cells missed."""
        return len(self.missed)


@dataclass(frozen=True)
class Gated:
    """The pairs of one image that lie within the radius, before any of them is chosen.

    `truth` and `detection` (each (E,) int) are the two ends of the pairs, `distances` (E,) their lengths.
    """

    truth_count: int
    detection_count: int
    truth: np.ndarray
    detection: np.ndarray
    distances: np.ndarray

    def keep(self, detections: np.ndarray) -> Gated:
        """Return the same gate for the detections where the boolean array (K,) is true, renumbered."""
        kept = detections[self.detection]
        renumbered = np.cumsum(detections) - 1
        return Gated(
            self.truth_count,
            int(detections.sum()),
            self.truth[kept],
            renumbered[self.detection[kept]],
            self.distances[kept],
        )


def gate(truth: np.ndarray, detections: np.ndarray, radius: float) -> Gated:
    """Return all pairs of `truth` (N, 2) and `detections` (K, 2) at most `radius` px apart.

    Raises
    ------
    UsageError
        If the radius is not a positive number.
    ValueError
        If an array is not (n, 2).
    """
    if not (np.isfinite(radius) and radius > 0):
        raise UsageError(f"the match radius must be a positive number of pixels, not {radius}")
    truth, detections = _as_points(truth), _as_points(detections)
    none = np.empty(0, dtype=np.intp)
    if not len(truth) or not len(detections):
        return Gated(len(truth), len(detections), none, none, np.empty(0))
    near = cKDTree(detections).query_ball_point(truth, radius, return_sorted=True)
    rows = np.repeat(np.arange(len(truth)), [len(indices) for indices in near])
    columns = np.concatenate([np.asarray(indices, dtype=np.intp) for indices in near])
    distances = np.linalg.norm(truth[rows] - detections[columns], axis=1)
    return Gated(len(truth), len(detections), rows, columns, distances)


def match_gated(gated: Gated, protocol: str = "one-to-one") -> Match:
    """Choose among the gated pairs by `protocol`; see `match`."""
    if protocol not in PROTOCOLS:
        raise UsageError(f"unknown protocol {protocol!r}: use one of {', '.join(PROTOCOLS)}")
    chosen = _nearest_in_truth_order(gated) if protocol == "greedy" else _fewest_misses(gated)
    pairs = np.stack([gated.truth[chosen], gated.detection[chosen]], axis=1)
    excused = gated.detection if protocol == "duplicate-tolerant" else pairs[:, 1]
    return Match(
        pairs,
        gated.distances[chosen],
        np.setdiff1d(np.arange(gated.truth_count), pairs[:, 0]),
        np.setdiff1d(np.arange(gated.detection_count), excused),
    )


def match(truth: np.ndarray, detections: np.ndarray, radius: float, *, protocol: str = "one-to-one") -> Match:
    """Match detections with truth. A pair needs a distance of at most `radius` (the paper: less than rho).

    Parameters
    ----------
    truth, detections : (N, 2) and (K, 2) float arrays
        Points (y, x), px. Either may be empty.
    radius : float
        Match radius, px.
    protocol : {"one-to-one", "greedy", "duplicate-tolerant"}
        - "one-to-one": fewest misses, then least total distance; each surplus detection is a false positive.
        - "greedy": each truth in turn takes its nearest free detection (container of MIDOG 2021); each
          surplus detection is a false positive.
        - "duplicate-tolerant": true positives as one-to-one, but only a detection within the radius of no
          truth at all is a false positive (AMIDA13, TUPAC16).

    Raises
    ------
    UsageError
        If the protocol is unknown or the radius not positive.

    Examples
    --------
    >>> result = match(np.array([[0.0, 0.0], [8.0, 0.0]]), np.array([[3.0, 0.0], [-4.0, 0.0]]), 7.5)
    >>> result.pairs.tolist()
    [[0, 1], [1, 0]]
    """
    return match_gated(gate(truth, detections, radius), protocol)


def _fewest_misses(gated: Gated) -> np.ndarray:
    """Return the indices of the pairs of a maximum matching of least total distance, ordered by truth."""
    alone = (np.bincount(gated.truth, minlength=1)[gated.truth] == 1) & (
        np.bincount(gated.detection, minlength=1)[gated.detection] == 1
    )
    rivals = np.flatnonzero(~alone)
    if not len(rivals):
        return np.arange(len(gated.truth))
    _, rows = np.unique(gated.truth[rivals], return_inverse=True)
    _, columns = np.unique(gated.detection[rivals], return_inverse=True)
    n, k = rows.max() + 1, columns.max() + 1
    # A truth may also take a dummy of its own, which is a miss. A miss that costs more than all distances
    # together makes the cheapest full matching one of fewest misses. No weight may be 0 in a sparse matrix.
    weights = 1.0 + gated.distances[rivals] / gated.distances[rivals].max(initial=1e-12)
    miss = 2.0 * n + 2.0
    graph = csr_array(
        (
            np.concatenate([weights, np.full(n, miss)]),
            (np.concatenate([rows, np.arange(n)]), np.concatenate([columns, k + np.arange(n)])),
        ),
        shape=(n, k + n),
    )
    truth, taken = min_weight_full_bipartite_matching(graph)
    found = taken < k
    pair_number = {
        (r, c): e for r, c, e in zip(rows.tolist(), columns.tolist(), rivals.tolist(), strict=True)
    }
    won = [pair_number[pair] for pair in zip(truth[found].tolist(), taken[found].tolist(), strict=True)]
    return np.sort(np.concatenate([np.flatnonzero(alone), np.asarray(won, dtype=np.intp)]))


def _nearest_in_truth_order(gated: Gated) -> np.ndarray:
    """Return the indices of the pairs that the truth takes, first come, first served."""
    taken: set[int] = set()
    served: set[int] = set()
    chosen = []
    for pair in np.lexsort((gated.distances, gated.truth)).tolist():
        truth, detection = int(gated.truth[pair]), int(gated.detection[pair])
        if truth not in served and detection not in taken:
            served.add(truth)
            taken.add(detection)
            chosen.append(pair)
    return np.asarray(chosen, dtype=np.intp)


def _as_points(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    if points.size == 0:
        return points.reshape(0, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"expected points of shape (n, 2), found {points.shape}")
    return points
