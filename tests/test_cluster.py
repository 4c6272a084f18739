"""Candidates to detections."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import MeanShift

from pointsense.encoding import Candidates, ObservationAxes, candidates
from pointsense.errors import UsageError
from pointsense.inference.cluster import mean_shift, vote


def clusters(rng, count, spacing, spread, members):
    """Clusters on a jittered grid, with their own numbers of members, shuffled."""
    side = int(np.ceil(np.sqrt(count)))
    centres = np.argwhere(np.ones((side, side)))[:count] * spacing + rng.uniform(0, spacing / 10, (count, 2))
    points = np.repeat(centres, members, axis=0)
    return rng.permutation(points + rng.uniform(-spread, spread, points.shape))


def sorted_rows(points):
    return points[np.lexsort(points.T)]


@given(seed=st.integers(0, 10_000), count=st.integers(1, 9), spread=st.floats(0, 12))
@settings(max_examples=15, deadline=None)
def test_equal_to_scikit_learn_on_separable_sets(seed, count, spread):
    rng = np.random.default_rng(seed)
    points = clusters(rng, count, 120, spread, rng.integers(1, 15, count))
    modes, labels = mean_shift(points, 40)
    reference = MeanShift(bandwidth=40).fit(points)
    assert np.allclose(sorted_rows(modes), sorted_rows(reference.cluster_centers_), atol=1e-6)
    assert np.allclose(modes[labels], reference.cluster_centers_[reference.labels_], atol=1e-6)


def test_close_to_scikit_learn_on_clusters_that_overlap():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(c, 9, (60, 2)) for c in ((0, 0), (0, 45), (45, 20))])
    modes, _ = mean_shift(points, 20)
    reference = MeanShift(bandwidth=20).fit(points).cluster_centers_
    heaviest = np.linalg.norm(modes[:3, None] - reference[None, :3], axis=2).min(axis=1)
    assert heaviest.max() < 2


def test_heaviest_mode_first_and_shadowed_ones_removed():
    points = np.concatenate([np.zeros((5, 2)), np.full((9, 2), 100.0), [[8.0, 0.0]] * 2])
    modes, labels = mean_shift(points, 10)
    assert np.allclose(modes, [[100, 100], [16 / 7, 0]])
    assert labels.tolist() == [1] * 5 + [0] * 9 + [1] * 2


def test_weights_pull_the_mean_as_repeated_points_do():
    modes, _ = mean_shift([[0, 0], [4, 0]], 10, weights=[3, 1])
    assert np.allclose(modes, [[1, 0]])
    assert np.allclose(modes, mean_shift([[0, 0]] * 3 + [[4, 0]], 10)[0])


def test_batch_entries_do_not_meet():
    points = [[0.0, 0], [1, 0], [0, 0], [300, 0]]
    modes, labels = mean_shift(points, 40, batch=[7, 7, 9, 9])
    assert np.allclose(modes[labels], [[0.5, 0], [0.5, 0], [0, 0], [300, 0]])
    assert len(modes) == 3


def test_a_batch_is_its_entries_one_by_one():
    rng = np.random.default_rng(1)
    parts = [rng.uniform(0, 260, (count, 2)) for count in (40, 0, 90, 1)]
    batch = np.repeat(np.arange(4), [len(part) for part in parts])
    modes, _ = mean_shift(np.concatenate(parts), 40, batch=batch)
    alone = np.concatenate([mean_shift(part, 40)[0] for part in parts])
    assert np.allclose(modes, alone)


def test_no_points_and_one_point():
    modes, labels = mean_shift(np.empty((0, 2)), 5)
    assert modes.shape == (0, 2)
    assert labels.shape == (0,)
    modes, labels = mean_shift([[3.0, 4.0]], 5)
    assert modes.tolist() == [[3, 4]]
    assert labels.tolist() == [0]


@pytest.mark.parametrize("bandwidth", [0, -3, float("nan")])
def test_bandwidth_must_be_positive(bandwidth):
    with pytest.raises(UsageError, match="bandwidth of the mean shift must be positive"):
        mean_shift([[0.0, 0.0]], bandwidth)


def test_an_image_of_27000_candidates_takes_seconds_at_most():
    rng = np.random.default_rng(2)
    points = clusters(rng, 1000, 60, 1, 27)
    start = time.process_time()
    modes, _ = mean_shift(points, 20)
    assert time.process_time() - start < 5  # 0.1 s on a free core; scikit-learn: most of a minute
    assert len(modes) == 1000


# votes --------------------------------------------------------------------------------------------


def seen(rows):
    """Candidates from rows of y, x, axis, patch, weight."""
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)
    return Candidates(table[:, :2], table[:, 2].long(), table[:, 3].long(), table[:, 4])


def test_votes_are_different_axes_and_spread_is_in_px():
    found = vote(seen([[10, 10, 0, 0, 1], [10, 14, 1, 0, 1], [10, 12, 1, 0, 1]]), 20, axes_count=8)
    assert found.points.tolist() == [[10, 12]]
    assert found.votes.tolist() == [2]
    assert found.score.tolist() == [0.25]
    assert found.spread[0] == pytest.approx(np.sqrt(8 / 3))


def test_candidates_farther_than_the_bandwidth_do_not_vote():
    """The start at 14 rests at 32/3, too near the heavier mode; its candidate is no witness of that mode."""
    rows = [[0, 0, axis, 0, 1] for axis in range(10)] + [
        [9, 0, 10, 0, 1],
        [9, 0, 11, 0, 1],
        [14, 0, 12, 0, 1],
    ]
    found = vote(seen(rows), 10, axes_count=13)
    assert found.points.tolist() == [[1.5, 0]]
    assert found.votes.tolist() == [12]
    assert found.spread[0] == pytest.approx(np.sqrt((10 * 1.5**2 + 2 * 7.5**2) / 12))


def test_minimum_votes_drops_strays():
    rows = [[10, 10, axis, 0, 1] for axis in range(5)] + [[80, 80, 3, 0, 1], [80, 80, 3, 0, 1]]
    assert len(vote(seen(rows), 20, axes_count=8).points) == 2
    found = vote(seen(rows), 20, minimum_votes=2, axes_count=8)
    assert found.points.tolist() == [[10, 10]]
    assert found.votes.tolist() == [5]


def test_patches_of_a_batch_vote_apart():
    found = vote(seen([[10, 10, 0, 2, 1], [10, 10, 1, 2, 1], [10, 11, 0, 5, 1]]), 20, axes_count=2)
    assert found.patch.tolist() == [2, 5]
    assert found.votes.tolist() == [2, 1]


def test_weights_move_the_point_and_give_its_mass():
    rows = [[10, 10, 0, 0, 3.0], [10, 14, 1, 0, 1.0]]
    assert vote(seen(rows), 20, axes_count=2).points.tolist() == [[10, 11]]
    assert vote(seen(rows), 20, axes_count=2).weight.tolist() == [2]
    assert vote(seen(rows), 20, axes_count=2, weighted=False).points.tolist() == [[10, 12]]


def test_no_candidates_give_no_detections():
    found = vote(seen([]), 20, axes_count=4)
    assert found.points.shape == (0, 2)
    assert len(found.votes) == len(found.spread) == len(found.score) == len(found.patch) == 0


def test_a_stray_midway_merges_points_closer_than_two_bandwidths():
    """What the flat kernel does, here and in scikit-learn: choose the bandwidth below half the spacing."""
    pair = [[0.0, 0.0]] * 9 + [[60.0, 0.0]] * 9
    stray = [*pair, [30.0, 0.0]]
    assert len(mean_shift(pair, 40)[0]) == 2
    assert len(mean_shift(stray, 40)[0]) == len(MeanShift(bandwidth=40).fit(stray).cluster_centers_) == 1
    assert len(mean_shift(stray, 29)[0]) == 3


@pytest.mark.parametrize("channels", ["distance", "mass"])
def test_points_to_signals_to_detections(channels):
    """All axes together place a point better than the half bin that one axis is off."""
    axes = ObservationAxes(260, 260, 27, offset=15)
    generator = torch.Generator().manual_seed(0)
    cells = torch.cartesian_prod(torch.arange(3), torch.arange(3)).double() * 90 + 20
    cells += torch.rand(9, 2, generator=generator) * 20
    signal = torch.stack([axes.encode(cells[:4], channels).signal, axes.encode(cells[4:], channels).signal])
    found = vote(candidates(signal, axes, channels=channels), 30, minimum_votes=10, axes_count=27)
    assert found.patch.tolist() == [0] * 4 + [1] * 5
    nearest = np.linalg.norm(found.points[:, None] - cells.numpy()[None], axis=2)
    assert nearest.min(axis=1).max() < 0.3
    assert sorted(nearest.argmin(axis=1).tolist()) == list(range(9))
    assert (found.score > 0.8).all()
