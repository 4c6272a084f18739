"""Points to signals on observation axes and back."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from pointsense.encoding import (
    CapacityWarning,
    ObservationAxes,
    candidates,
    capacity,
    measure,
    sensing_matrix,
)
from pointsense.errors import DataError, UsageError


def basis_pursuit(x, D):
    """min |a|_1 with D a = x, for each row of x, as a linear program."""
    D = D.double().numpy()
    n = D.shape[1]
    rows = []
    for row in x.double().reshape(-1, D.shape[0]).numpy():
        scale = max(np.abs(row).max(), 1e-12)
        found = linprog(np.ones(2 * n), A_eq=np.hstack([D, -D]), b_eq=row / scale, bounds=(0, None))
        rows.append((found.x[:n] - found.x[n:]) * scale)
    return torch.tensor(np.array(rows)).reshape(*x.shape[:-1], n)


def points_in(height, width, most):
    """Lists of up to `most` points anywhere in the patch's pixels."""
    return st.lists(
        st.tuples(st.floats(-0.5, height - 0.5), st.floats(-0.5, width - 0.5)), max_size=most
    ).map(lambda points: torch.tensor(points, dtype=torch.float64).reshape(-1, 2))


def farthest(from_points, to_points):
    """Largest distance of a point of the first set to the nearest of the second."""
    if len(from_points) == 0:
        return 0.0
    return torch.cdist(from_points, to_points).min(dim=1).values.max().item()


# geometry -----------------------------------------------------------------------------------------


def test_paper_size():
    axes = ObservationAxes(260, 260, 27)
    assert axes.half_length == math.ceil(260 / math.sqrt(2)) == 184
    assert axes.bins == 369
    assert axes.centre.tolist() == [129.5, 129.5]


def test_four_axes_are_the_tangents_left_above_right_and_below():
    axes = ObservationAxes(9, 9, 4)  # R = ceil(6.36) = 7, centre (4, 4)
    expected = torch.tensor([[4.0, -3], [-3, 4], [4, 11], [11, 4]], dtype=torch.float64)
    assert torch.allclose(axes.feet, expected, atol=1e-12)
    assert torch.allclose(axes.feet + 7 * axes.normals, axes.centre.expand(4, 2))


def test_known_positions_and_distances():
    axes = ObservationAxes(9, 9, 4)
    position, distance = axes.project(torch.tensor([[2.0, 5.0]]))
    # From the left: 8 px away, 2 px above the foot; from above: 5 px away; and so on.
    assert torch.allclose(distance, torch.tensor([[8.0, 5, 6, 9]], dtype=torch.float64))
    assert torch.allclose(position, torch.tensor([[5.0, 6, 9, 8]], dtype=torch.float64))


def test_half_arc_spreads_the_axes_over_half_a_turn():
    axes = ObservationAxes(20, 20, 4, arc="half")
    assert torch.allclose(axes.angles, torch.tensor([0, 0.25, 0.5, 0.75], dtype=torch.float64) * math.pi)


def test_offset_moves_axes_outwards_and_leaves_positions():
    points = torch.tensor([[3.0, 30.0], [12.5, 0.0]])
    position, distance = ObservationAxes(20, 40, 7).project(points)
    moved_position, moved_distance = ObservationAxes(20, 40, 7, offset=15).project(points)
    assert torch.allclose(moved_position, position)
    assert torch.allclose(moved_distance, distance + 15)


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    count=st.integers(1, 30),
    arc=st.sampled_from(["full", "half"]),
    offset=st.floats(0, 30),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_one_axis_alone_gives_the_point_back(height, width, count, arc, offset, data):
    axes = ObservationAxes(height, width, count, arc, offset)
    points = data.draw(points_in(height, width, 5))
    position, distance = axes.project(points)
    assert ((position >= -1e-9) & (position <= axes.bins - 1 + 1e-9)).all()
    assert ((distance >= offset - 1e-9) & (distance <= 2 * axes.half_length + offset + 1e-9)).all()
    for axis in range(count):
        index = torch.full((len(points),), axis)
        seen = axes.candidate(index, position[:, axis], distance[:, axis])
        assert torch.allclose(seen, points, atol=1e-9)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("channels", ["distance", "mass"])
def test_a_rotated_patch_has_the_same_signals_on_other_axes(turns, channels):
    # Odd sizes: on even ones, pixels lie midway between the bins of the upright axes.
    image = torch.zeros(31, 21)
    image[4, 13] = 1
    rotated = torch.rot90(image, turns)
    before = ObservationAxes(*image.shape, count=8).encode(image.nonzero(), channels).signal
    after = ObservationAxes(*rotated.shape, count=8).encode(rotated.nonzero(), channels).signal
    assert torch.allclose(after, before.roll(-2 * turns, dims=0), atol=1e-4)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_cell_in_each_of_the_four_rotations_is_found_where_its_pixel_is(turns):
    image = torch.zeros(64, 64)
    image[9, 50] = 1
    (cell,) = torch.rot90(image, turns).nonzero().double()
    axes = ObservationAxes(64, 64, 9, offset=15)
    found = candidates(axes.encode(cell[None]).signal[None], axes)
    assert len(found) == 9
    assert farthest(found.points, cell[None]) <= 0.5 + 1e-4


# signals ------------------------------------------------------------------------------------------


def test_distance_signal_holds_the_distance_in_the_nearest_bin():
    signal = ObservationAxes(9, 9, 4).encode(torch.tensor([[2.4, 5.0]])).signal
    assert signal.shape == (4, 1, 15)
    assert signal[0, 0, 5] == 8
    assert signal[1, 0, 6] == pytest.approx(5.4)
    assert (signal != 0).sum() == 4


def test_a_collision_keeps_the_later_point_and_is_counted():
    axes = ObservationAxes(21, 21, 4)
    encoded = axes.encode(torch.tensor([[10.0, 5.0], [10.0, 15.0]]))  # one row: they meet on axes 0 and 2
    position, distance = axes.project(torch.tensor([[10.0, 15.0]]))
    assert encoded.collisions == 2
    assert encoded.lost == 0
    assert encoded.signal[0, 0, int(position[0, 0])] == distance[0, 0]
    assert (encoded.signal != 0).sum() == 6


def test_masses_of_a_collision_add_up():
    axes = ObservationAxes(21, 21, 4)
    encoded = axes.encode(torch.tensor([[10.0, 5.0], [10.0, 15.0]]), "mass")
    mass, moment = encoded.signal.unbind(1)
    assert encoded.collisions == 2
    assert mass.max(dim=1).values.tolist() == [2, 1, 2, 1]
    assert moment[0].max() / 2 == axes.project(torch.tensor([[10.0, 10.0]]))[1][0, 0]


@given(points=points_in(40, 55, 12), interpolate=st.booleans())
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore::pointsense.encoding.CapacityWarning")
def test_mass_counts_points_and_moment_sums_distances(points, interpolate):
    axes = ObservationAxes(40, 55, 6)
    signal = axes.encode(points, "mass", interpolate=interpolate, dtype=torch.float64).signal
    assert torch.allclose(signal[:, 0].sum(1), torch.full((6,), len(points), dtype=torch.float64))
    assert torch.allclose(signal[:, 1].sum(1), axes.project(points)[1].sum(0))


def test_interpolated_mass_has_its_centre_at_the_position():
    axes = ObservationAxes(40, 55, 6)
    points = torch.tensor([[7.31, 20.77]])
    mass = axes.encode(points, "mass", interpolate=True).signal[:, 0]
    centre = (mass * torch.arange(axes.bins)).sum(1)
    assert torch.allclose(centre.double(), axes.project(points)[0][0], atol=1e-4)


def test_no_points_give_empty_signals_without_a_warning():
    axes = ObservationAxes(30, 30, 5)
    for channels in ("distance", "mass"):
        encoded = axes.encode(torch.empty(0, 2), channels, measurements=10)
        assert not encoded.signal.any()
        assert (encoded.collisions, encoded.lost) == (0, 0)
        assert len(candidates(encoded.signal[None], axes, channels=channels)) == 0


# limits of the code -------------------------------------------------------------------------------


def test_capacity_warning_says_entries_measurements_and_bound():
    axes = ObservationAxes(64, 64, 12)
    points = torch.rand(20, 2, generator=torch.Generator().manual_seed(0)) * 63
    with pytest.warns(CapacityWarning, match=r"20 measurements of 93 bins bring back about 2 \(2 k ln"):
        axes.encode(points, measurements=20)


def test_warning_for_points_that_coincide_on_every_axis():
    twins = torch.tensor([[10.0, 10.0], [10.0, 10.0], [30.0, 40.0]])
    for channels, lost in (("distance", 1), ("mass", 2)):
        with pytest.warns(CapacityWarning, match=f"{lost} of the points .* on each of the 12 axes"):
            assert ObservationAxes(64, 64, 12).encode(twins, channels).lost == lost


@pytest.mark.parametrize(
    ("interpolate", "apart", "lost"), [(False, 1, 2), (False, 2, 0), (True, 2, 2), (True, 3, 0)]
)
def test_masses_whose_bins_touch_are_one_run_and_count_as_lost(interpolate, apart, lost):
    axes = ObservationAxes(21, 21, 1)  # bins are rows
    pair = torch.tensor([[8.0, 5.0], [8.0 + apart, 15.0]]) + 0.25
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CapacityWarning)
        encoded = axes.encode(pair, "mass", interpolate=interpolate)
    assert encoded.lost == lost
    assert len(candidates(encoded.signal[None], axes, channels="mass")) == (1 if lost else 2)


def test_within_the_limits_there_is_no_warning():
    axes = ObservationAxes(260, 260, 27)
    points = torch.rand(capacity(112, 369), 2, generator=torch.Generator().manual_seed(0)) * 259
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes.encode(points, measurements=112)


# wrong input --------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", [(-0.6, 5.0), (5.0, 19.6), (math.nan, 5.0), (400.0, 5.0)])
def test_points_outside_are_refused(point):
    with pytest.raises(DataError, match="not in the patch of 30 x 20 px"):
        ObservationAxes(30, 20, 3).encode(torch.tensor([point]))


def test_points_of_another_shape_are_refused():
    with pytest.raises(DataError, match=r"shape \(K, 2\), y and x, found \(4, 3\)"):
        ObservationAxes(30, 20, 3).encode(torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height": 0}, "at least 1 x 1 px, found 0 x 20"),
        ({"count": 0}, "at least 1 observation axis is needed, found 0"),
        ({"arc": "third"}, "unknown arc 'third' .* 'full' or 'half'"),
        ({"offset": -1.0}, "cannot be negative, found -1.0"),
        ({"offset": math.nan}, "cannot be negative, found nan"),
    ],
)
def test_wrong_axes(arguments, message):
    with pytest.raises(UsageError, match=message):
        ObservationAxes(**({"height": 30, "width": 20, "count": 3} | arguments))


def test_wrong_channels():
    axes = ObservationAxes(30, 20, 3)
    with pytest.raises(UsageError, match="unknown channels 'area'"):
        axes.encode(torch.zeros(1, 2), "area")
    with pytest.raises(UsageError, match="unknown channels 'area'"):
        candidates(torch.zeros(1, 3, 1, axes.bins), axes, channels="area")
    with pytest.raises(UsageError, match="interpolate needs channels='mass'"):
        axes.encode(torch.zeros(1, 2), interpolate=True)


def test_signals_of_other_axes_are_refused():
    axes = ObservationAxes(30, 20, 3)
    with pytest.raises(UsageError, match=r"\(B, 3, 2, 39\), found \(1, 3, 1, 39\)"):
        candidates(torch.zeros(1, 3, 1, 39), axes, channels="mass")


# decoding -----------------------------------------------------------------------------------------


def test_threshold_cuts_amplitudes_below_15_px_of_either_sign():
    axes = ObservationAxes(40, 40, 2, offset=30)
    signal = torch.zeros(1, 2, 1, axes.bins)
    signal[0, 0, 0, 20:24] = torch.tensor([14.9, -14.9, 15.0, 60.0])
    assert len(candidates(signal, axes, margin=1000)) == 2
    signal[0, 0, 0, 20] = -15.0
    assert len(candidates(signal, axes, margin=1000)) == 3


def test_threshold_zero_takes_no_empty_bin():
    axes = ObservationAxes(40, 40, 2)
    signal = torch.zeros(1, 2, 1, axes.bins)
    signal[0, 1, 0, 30] = 20
    assert len(candidates(signal, axes, threshold=0)) == 1


def test_candidates_far_outside_are_dropped():
    axes = ObservationAxes(40, 40, 1)  # axis 0 looks to the right from x = 19.5 - 29
    signal = torch.zeros(1, 1, 1, axes.bins)
    signal[0, 0, 0, axes.half_length] = 29 + 20 + 7  # x = 46.5, 7 px outside
    assert len(candidates(signal, axes, margin=7.1)) == 1
    assert len(candidates(signal, axes, margin=6.9)) == 0
    signal[0, 0, 0, axes.half_length] = 29 - 20 - 7  # x = -7.5, 7 px outside
    assert len(candidates(signal, axes, threshold=1, margin=7.1)) == 1
    assert len(candidates(signal, axes, threshold=1, margin=6.9)) == 0


def test_runs_of_bins_are_one_candidate_at_their_centre_of_mass():
    axes = ObservationAxes(40, 40, 3)
    signal = torch.zeros(2, 3, 2, axes.bins)
    signal[1, 2, 0, 30:33] = torch.tensor([0.2, 0.4, 0.2])
    signal[1, 2, 1, 30:33] = torch.tensor([0.2, 0.4, 0.2]) * 25
    signal[1, 2, 0, 35] = 0.05  # below the threshold
    found = candidates(signal, axes, channels="mass")
    expected = axes.candidate(torch.tensor([2]), torch.tensor([31.0]), torch.tensor([25.0]))
    assert torch.allclose(found.points, expected, atol=1e-4)
    assert (found.patch.tolist(), found.axis.tolist()) == ([1], [2])
    assert found.weight.item() == pytest.approx(0.8)


def test_runs_do_not_cross_axes_or_patches():
    axes = ObservationAxes(4, 4, 3)
    signal = torch.zeros(2, 3, 2, axes.bins)
    signal[:, :, 0, [0, -1]] = 1
    found = candidates(signal, axes, channels="mass", margin=100)
    assert len(found) == 12
    assert (found.weight == 1).all()


# round trips --------------------------------------------------------------------------------------


@given(points=points_in(64, 64, 8), seed=st.integers(0, 5))
@settings(max_examples=15, deadline=None)
@pytest.mark.filterwarnings("error::pointsense.encoding.CapacityWarning")
def test_encode_measure_recover_decode_distance(points, seed):
    """Any set the code holds without a warning comes back: each point, and nothing else."""
    axes = ObservationAxes(64, 64, 6, offset=16)
    m = 48
    assert capacity(m, axes.bins) >= 8
    try:
        encoded = axes.encode(points, measurements=m)
    except CapacityWarning:  # points drawn on top of each other
        return
    D = sensing_matrix(m, axes.bins, seed=seed, dtype=torch.float64)
    recovered = basis_pursuit(measure(encoded.signal.double(), D), D)
    assert torch.allclose(recovered, encoded.signal.double(), atol=1e-3)
    found = candidates(recovered[None], axes)
    assert farthest(points, found.points) <= 0.51
    assert farthest(found.points, points) <= 0.51


@pytest.mark.parametrize("kind", ["gaussian", "smoothed", "filtered", "fourier"])
@pytest.mark.parametrize("interpolate", [False, True])
def test_encode_measure_recover_decode_mass(kind, interpolate):
    axes = ObservationAxes(64, 64, 8)
    points = torch.tensor([[8.3, 11.9], [50.2, 20.6], [30.4, 55.5]], dtype=torch.float64)
    encoded = axes.encode(points, "mass", interpolate=interpolate, measurements=48, dtype=torch.float64)
    D = sensing_matrix(48, axes.bins, kind, sigma=1.0, dtype=torch.float64)
    recovered = basis_pursuit(measure(encoded.signal, D), D)
    found = candidates(recovered[None], axes, channels="mass")
    near = torch.cdist(points, found.points) <= (0.11 if interpolate else 0.51)
    # Two points may touch on an axis; most axes see each on its own, with all of its mass that is above the
    # threshold.
    for sees in near:
        assert found.axis[sees].unique().numel() >= 6
        assert torch.allclose(found.weight[sees], torch.ones(int(sees.sum())).double(), atol=0.11)


def test_paper_size_at_its_capacity():
    axes = ObservationAxes(260, 260, 3, offset=15)
    points = torch.rand(18, 2, generator=torch.Generator().manual_seed(1)).double() * 259
    encoded = axes.encode(points, measurements=112, dtype=torch.float64)
    D = sensing_matrix(112, axes.bins, dtype=torch.float64)
    found = candidates(basis_pursuit(measure(encoded.signal, D), D)[None], axes)
    assert farthest(points, found.points) <= 0.51
    assert farthest(found.points, points) <= 0.51
