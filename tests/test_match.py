"""Matching: the known traps, the protocols, and optimality against brute force."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsense.errors import UsageError
from pointsense.evaluation.match import PROTOCOLS, gate, match, match_gated

EMPTY = np.empty((0, 2))


def on_a_line(*positions: float) -> np.ndarray:
    return np.array([[0.0, position] for position in positions])


def counts(result) -> tuple[int, int, int]:
    return result.true_positives, result.false_positives, result.false_negatives


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_far_detection_does_not_displace_a_near_one(protocol):
    result = match(on_a_line(0, 9), on_a_line(8.5, 100), 1, protocol=protocol)
    assert counts(result) == (1, 1, 1)
    assert result.pairs.tolist() == [[1, 0]]
    assert result.distances == pytest.approx([0.5])
    assert result.missed.tolist() == [0]
    assert result.false_alarms.tolist() == [1]


def test_greedy_in_truth_order_finds_one_where_the_optimum_is_two():
    truth, detections = on_a_line(0, 8), on_a_line(3, -4)
    assert counts(match(truth, detections, 7.5, protocol="greedy")) == (1, 1, 1)
    assert counts(match(truth, detections, 7.5)) == (2, 0, 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("n", "k"), [(0, 0), (0, 3), (2, 0)])
def test_empty_sides(protocol, n, k):
    result = match(np.zeros((n, 2)), np.zeros((k, 2)), 5, protocol=protocol)
    assert counts(result) == (0, k, n)
    assert result.pairs.shape == (0, 2)
    assert result.distances.shape == (0,)


def test_empty_lists_are_taken_as_no_points():
    assert counts(match([], [], 1)) == (0, 0, 0)


def test_duplicates_cost_precision_except_where_they_are_tolerated():
    truth, detections = on_a_line(0), on_a_line(0, 1, -1, 50)
    assert counts(match(truth, detections, 2)) == (1, 3, 0)
    assert counts(match(truth, detections, 2, protocol="greedy")) == (1, 3, 0)
    tolerant = match(truth, detections, 2, protocol="duplicate-tolerant")
    assert counts(tolerant) == (1, 1, 0)
    assert tolerant.false_alarms.tolist() == [3]


def test_one_detection_between_two_cells_finds_only_one_of_them():
    assert counts(match(on_a_line(0, 2), on_a_line(1), 5, protocol="duplicate-tolerant")) == (1, 0, 1)


def test_radius_itself_counts():
    assert match(on_a_line(0), on_a_line(5), 5).true_positives == 1
    assert match(on_a_line(0), on_a_line(5.001), 5).true_positives == 0


def test_among_equal_counts_the_least_distance_wins():
    result = match(on_a_line(0, 4), on_a_line(1, 5), 10)
    assert result.pairs.tolist() == [[0, 0], [1, 1]]
    assert result.distances.tolist() == [1, 1]


def test_coinciding_points_match_at_distance_zero():
    truth = np.zeros((3, 2))
    result = match(truth, np.zeros((2, 2)), 1)
    assert counts(result) == (2, 0, 1)
    assert result.distances.tolist() == [0, 0]


def test_unknown_protocol_names_the_allowed():
    with pytest.raises(UsageError, match=r"'best'.*one-to-one, greedy, duplicate-tolerant"):
        match(EMPTY, EMPTY, 1, protocol="best")


@pytest.mark.parametrize("radius", [0, -1, float("nan"), float("inf")])
def test_radius_must_be_positive(radius):
    with pytest.raises(UsageError, match="positive number of pixels"):
        match(EMPTY, EMPTY, radius)


def test_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(n, 2\), found \(2, 3\)"):
        match(np.zeros((2, 3)), EMPTY, 1)


def brute_force(truth: np.ndarray, detections: np.ndarray, radius: float) -> tuple[int, float]:
    """Most pairs, then the least total distance, by trying every assignment."""
    distance = np.linalg.norm(truth[:, None] - detections[None], axis=2)
    for size in range(min(len(truth), len(detections)), 0, -1):
        totals = [
            distance[rows, columns].sum()
            for rows in combinations(range(len(truth)), size)
            for columns in permutations(range(len(detections)), size)
            if (distance[rows, columns] <= radius).all()
        ]
        if totals:
            return size, min(totals)
    return 0, 0.0


points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=4).map(
    lambda rows: np.array(rows, dtype=float).reshape(-1, 2)
)


@given(truth=points, detections=points, radius=st.sampled_from([1.0, 1.5, 3.0, 5.0]))
def test_one_to_one_is_optimal_and_never_below_greedy(truth, detections, radius):
    best = match(truth, detections, radius)
    assert (best.true_positives, pytest.approx(best.distances.sum())) == brute_force(
        truth, detections, radius
    )
    assert best.true_positives >= match(truth, detections, radius, protocol="greedy").true_positives
    tolerant = match(truth, detections, radius, protocol="duplicate-tolerant")
    assert tolerant.true_positives == best.true_positives
    assert tolerant.false_positives <= best.false_positives


@given(
    truth=points, detections=points, radius=st.sampled_from([1.0, 3.0]), protocol=st.sampled_from(PROTOCOLS)
)
def test_pairs_are_a_matching_within_the_radius(truth, detections, radius, protocol):
    result = match(truth, detections, radius, protocol=protocol)
    rows, columns = result.pairs.T
    assert len(set(rows)) == len(rows)
    assert len(set(columns)) == len(columns)
    assert (result.distances <= radius).all()
    assert np.linalg.norm(truth[rows] - detections[columns], axis=1) == pytest.approx(result.distances)
    assert sorted([*rows, *result.missed]) == list(range(len(truth)))


@given(truth=points, detections=points, keep=st.lists(st.booleans(), min_size=4, max_size=4))
def test_keeping_some_detections_of_a_gate_is_gating_those(truth, detections, keep):
    kept = np.array(keep[: len(detections)], dtype=bool)
    by_gate = match_gated(gate(truth, detections, 2.5).keep(kept))
    assert counts(by_gate) == counts(match(truth, detections[kept], 2.5))
    assert by_gate.distances.sum() == pytest.approx(match(truth, detections[kept], 2.5).distances.sum())


def test_ten_thousand_crowded_points_stay_exact():
    rng = np.random.default_rng(0)
    truth = rng.random((10_000, 2)) * 1000
    detections = rng.permutation(truth + rng.uniform(-2, 2, truth.shape))
    result = match(truth, detections, 8)  # each cell has two detections within reach, in long chains
    assert result.true_positives == 10_000
    assert result.distances.mean() < 1.6
