"""Candidates of all axes to detections: mean shift, and the votes behind each mode (fig. 6 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from pointsense.encoding import Candidates
from pointsense.errors import UsageError

MOST_STEPS = 300
STOP = 1e-3
"""Share of the bandwidth below which a step ends the ascent; as in scikit-learn."""

SEED_SPACING = 0.2
"""Share of the bandwidth: of the points in a square of this side, one starts an ascent."""

PAIRS_AT_ONCE = 4_000_000
"""Neighbour pairs held at a time (24 bytes each)."""

MEETING = 1e-2
"""Share of the bandwidth: moving starts this close have nearly the same neighbours, and one goes on."""


@dataclass(frozen=True)
class Votes:
    """Detections of a batch of patches, by patch and then by falling number of candidates.

    Attributes
    ----------
    points : ndarray, shape (K, 2)
        (y, x) in px.
    votes : ndarray, shape (K,), int
        Number of axes that saw the point.
    spread : ndarray, shape (K,)
        Root mean square distance of its candidates to it, in px.
    score : ndarray, shape (K,)
        votes / L.
    weight : ndarray, shape (K,)
        Mean weight per axis of its candidates: for codes with mass, the estimated number of objects.
    patch : ndarray, shape (K,), int
        The patch in the batch.
    """

    points: NDArray[np.float64]
    votes: NDArray[np.int64]
    spread: NDArray[np.float64]
    score: NDArray[np.float64]
    weight: NDArray[np.float64]
    patch: NDArray[np.int64]


def mean_shift(
    points: ArrayLike, bandwidth: float, weights: ArrayLike | None = None, batch: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Modes of a point cloud by mean shift with a flat kernel.

    A start moves to the weighted mean of the points within the bandwidth until it stays; of modes within a
    bandwidth of each other the heaviest remains; each point belongs to the nearest mode. Equal to
    scikit-learn's ``MeanShift(bandwidth=bandwidth)`` where the clusters are apart, and made for tens of
    thousands of points: all starts move at once, starts that meet go on as one, and of points much closer
    than the bandwidth only one starts.

    Parameters
    ----------
    points : array, shape (V, 2)
        (y, x) in px.
    bandwidth : float
        Radius of the kernel in px.
    weights : array, shape (V,), optional
        Positive; 1 unless given.
    batch : array, shape (V,), optional
        Points of different batch entries never meet.

    Returns
    -------
    modes : ndarray, shape (K, 2)
        By batch entry, then by falling weight.
    labels : ndarray, shape (V,), int
        The mode of each point.

    Raises
    ------
    UsageError
        If the bandwidth is not positive.

    References
    ----------
    .. [1] D. Comaniciu, P. Meer, "Mean shift: a robust approach toward feature space analysis", IEEE
       Transactions on Pattern Analysis and Machine Intelligence 24 (2002).
    """
    if not bandwidth > 0:
        raise UsageError(f"the bandwidth of the mean shift must be positive, in px, found {bandwidth}")
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if len(points) == 0:
        return np.empty((0, 2)), np.empty(0, dtype=np.int64)
    weights = np.ones(len(points)) if weights is None else np.asarray(weights, dtype=np.float64)
    batch = np.zeros(len(points)) if batch is None else np.asarray(batch)
    # A third coordinate keeps the batch entries out of each other's reach.
    gap = 4 * bandwidth + np.linalg.norm(np.ptp(points, axis=0))
    cloud = np.column_stack([points, gap * np.unique(batch, return_inverse=True)[1]])
    modes, mass = _ascend(_thinned(cloud, SEED_SPACING * bandwidth), cloud, weights, bandwidth)
    modes = _heaviest(modes, mass, bandwidth)
    return modes[:, :2], cKDTree(modes).query(cloud)[1].astype(np.int64)


def vote(
    candidates: Candidates,
    bandwidth: float,
    minimum_votes: int = 1,
    *,
    axes_count: int,
    weighted: bool = True,
) -> Votes:
    """Merge the candidates of all axes; a detection is a mode that enough axes voted for.

    Objects should be two bandwidths apart: of those between one and two, a stray candidate midway sees both
    and makes one mode of them.

    Parameters
    ----------
    candidates : Candidates
        Of a batch of patches.
    bandwidth : float
        Of the mean shift, in px.
    minimum_votes : int
        Least number of different axes; 1 (the paper) lets a single stray candidate through.
    axes_count : int
        L.
    weighted : bool
        Whether the candidates' weights count in the mean shift.

    Returns
    -------
    Votes
    """
    points = np.asarray(candidates.points.cpu(), dtype=np.float64)
    axis, patch = candidates.axis.cpu().numpy(), candidates.patch.cpu().numpy()
    weight = np.asarray(candidates.weight.cpu(), dtype=np.float64)
    modes, label = mean_shift(points, bandwidth, weight if weighted else None, patch)

    distance = np.linalg.norm(points - modes[label], axis=1)
    near = distance <= bandwidth  # a point that climbed to a mode since merged may be farther
    label, distance, axis, patch, weight = (v[near] for v in (label, distance, axis, patch, weight))
    count = np.bincount(label, minlength=len(modes))
    votes = np.bincount(np.unique(np.column_stack([label, axis]), axis=0)[:, 0], minlength=len(modes))
    spread = np.sqrt(np.bincount(label, distance**2, len(modes)) / np.maximum(count, 1))
    weight = np.bincount(label, weight, len(modes)) / np.maximum(votes, 1)
    mode_patch = np.zeros(len(modes), dtype=np.int64)
    mode_patch[label] = patch

    kept = votes >= max(minimum_votes, 1)
    return Votes(
        modes[kept], votes[kept], spread[kept], votes[kept] / axes_count, weight[kept], mode_patch[kept]
    )


def _thinned(cloud: NDArray[np.float64], side: float) -> NDArray[np.float64]:
    """The first point of every square of this side that holds any."""
    return cloud[np.unique(np.floor(cloud / side), axis=0, return_index=True)[1]]


def _ascend(
    starts: NDArray[np.float64], cloud: NDArray[np.float64], weights: NDArray[np.float64], bandwidth: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the starts come to rest, and the weight of the points around."""
    tree = cKDTree(cloud)
    moving, rest, rest_mass = starts, [], []
    for step in range(MOST_STEPS):
        mean, mass = _means(moving, tree, weights, bandwidth)
        still = np.linalg.norm(mean - moving, axis=1) <= STOP * bandwidth
        if step == MOST_STEPS - 1:
            still[:] = True
        rest.append(mean[still])
        rest_mass.append(mass[still])
        moving = mean[~still]
        moving = _thinned(moving, MEETING * bandwidth)
        if len(moving) == 0:
            break
    return np.concatenate(rest), np.concatenate(rest_mass)


def _means(
    centres: NDArray[np.float64], tree: cKDTree, weights: NDArray[np.float64], bandwidth: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted mean of the points within the bandwidth of each centre, and their weight."""
    mean, mass = centres.copy(), np.zeros(len(centres))
    pairs = np.cumsum(tree.query_ball_point(centres, bandwidth, return_length=True))
    for part in np.split(np.arange(len(centres)), np.flatnonzero(np.diff(pairs // PAIRS_AT_ONCE)) + 1):
        near: Any = cKDTree(centres[part]).sparse_distance_matrix(tree, bandwidth, output_type="ndarray")
        weight = weights[near["j"]]
        mass[part] = np.bincount(near["i"], weight, len(part))
        heavy = part[mass[part] > 0]
        for axis in (0, 1):
            total = np.bincount(near["i"], weight * tree.data[near["j"], axis], len(part))
            mean[heavy, axis] = total[mass[part] > 0] / mass[heavy]
    return mean, mass


def _heaviest(modes: NDArray[np.float64], mass: NDArray[np.float64], bandwidth: float) -> NDArray[np.float64]:
    """Of modes within a bandwidth the heaviest, ordered by batch entry and falling weight."""
    modes = modes[np.lexsort((-modes[:, 1], -modes[:, 0], -mass, modes[:, 2]))]
    kept = np.ones(len(modes), dtype=bool)
    tree = cKDTree(modes)
    for i in range(len(modes)):
        if kept[i]:
            near = np.asarray(tree.query_ball_point(modes[i], bandwidth))
            kept[near[near > i]] = False
    return modes[kept]
