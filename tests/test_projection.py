"""The windowed projection code, off-the-grid recovery from it, and the decoder."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsense.encoding import ProjectionCode, splat
from pointsense.inference.decode import decode_windows
from pointsense.inference.off_grid import CAP, local_maxima, matched_filter, recover_measure, subcell
from pointsense.model.classes import Reading
from pointsense.model.config import Config

CODE = ProjectionCode(24, 12, 8, 12)


def spread_points(count: int, seed: int, side: float = 44.0, apart: float = 8.0) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    points: list[np.ndarray] = []
    while len(points) < count:
        p = generator.uniform(1, side, 2)
        if all(np.hypot(*(p - q)) >= apart for q in points):
            points.append(p)
    return torch.tensor(np.array(points), dtype=torch.float32)


def codes_of(points: torch.Tensor, side: int = 48) -> torch.Tensor:
    mass = splat(points, torch.zeros(len(points), dtype=torch.long), (1, side, side))
    return CODE.measure(mass)[0]


def test_splat_keeps_mass_and_centre():
    points = torch.tensor([[3.25, 4.5], [7.0, 2.75]])
    maps = splat(points, torch.tensor([0, 1]), (2, 10, 10))
    grid = torch.stack(torch.meshgrid(torch.arange(10.0), torch.arange(10.0), indexing="ij"), -1)
    assert maps.sum((1, 2, 3)).tolist() == pytest.approx([1, 1])
    for k in range(2):
        torch.testing.assert_close((maps[k, 0, ..., None] * grid).sum((0, 1)), points[k])


def test_measuring_a_map_is_measuring_its_signals():
    points = torch.tensor([[10.0, 12.0], [25.0, 30.0], [47.0, 0.0]])  # on cells: splatting changes nothing
    codes = codes_of(points)
    signal = CODE.signals(points, torch.ones(3), (codes.shape[1], codes.shape[2]))
    torch.testing.assert_close(
        signal @ CODE.sensing_matrix.T, CODE.per_axis(codes[None])[0], atol=1e-5, rtol=1e-4
    )


def test_back_projection_is_the_adjoint():
    mass = torch.randn(2, 1, 36, 48)
    codes = torch.randn(2, CODE.numbers, *CODE.lattice(36, 48))
    left = (CODE.measure(mass) * codes).sum()
    right = (mass * CODE.back_project(codes)).sum()
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-2)


def test_a_cell_has_about_unit_energy_wherever_it_lies():
    energy = [
        codes_of(torch.tensor([[float(y), float(x)]])).square().sum() for y in (5, 20, 24) for x in (7, 30)
    ]
    assert 0.7 < min(energy) <= max(energy) < 1.3


def recovered(points: torch.Tensor) -> bool:
    """Whether the codes of points alone give all of them back, and no other."""
    found = recover_measure(CODE, codes_of(points), floor=0.3)
    if len(found.positions) != len(points):
        return False
    distance = torch.cdist(points, found.positions).min(1).values
    return bool(distance.max() < 0.75 and (found.masses - 1).abs().max() < 0.35)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10_000))
def test_points_come_back_from_their_codes_alone(count, seed):
    assert recovered(spread_points(count, seed, apart=4.0))


@pytest.mark.parametrize("apart", [1.5, 2.0, 2.5, 3.0])
def test_close_pairs_come_back_as_pairs(apart):
    """Two cells nearer than the width of a code, in any direction; three atoms explain them almost as well."""
    generator = np.random.default_rng(0)
    pairs = []
    for _ in range(40):
        middle, angle = generator.uniform(12, 36, 2), generator.uniform(0, np.pi)
        offset = apart / 2 * np.array([np.sin(angle), np.cos(angle)])
        pairs.append(torch.tensor(np.stack([middle + offset, middle - offset]), dtype=torch.float32))
    assert np.mean([recovered(pair) for pair in pairs]) >= 0.85


def test_what_is_found_in_one_place_does_not_depend_on_another():
    """A crowd far off takes more rounds; here nothing changes."""
    here = spread_points(4, 1, side=20.0, apart=3.0)
    crowd = spread_points(12, 2, side=18.0, apart=2.0) + torch.tensor([90.0, 90.0])
    alone = recover_measure(CODE, codes_of(here, 120), floor=0.3)
    beside = recover_measure(CODE, codes_of(torch.cat([here, crowd]), 120), floor=0.3)
    near = beside.positions[:, 0] < 40
    torch.testing.assert_close(beside.positions[near], alone.positions, atol=1e-3, rtol=0)
    torch.testing.assert_close(beside.masses[near], alone.masses, atol=1e-3, rtol=0)


def test_a_touching_pair_is_two():
    points = torch.tensor([[20.0, 20.0], [20.0, 22.5]])
    found = recover_measure(CODE, codes_of(points), floor=0.3)
    assert len(found.positions) == 2
    assert found.masses.max() <= CAP


def test_a_warm_start_cannot_keep_what_the_codes_deny():
    start = torch.tensor([[5.0, 5.0], [40.0, 40.0]])
    found = recover_measure(CODE, codes_of(torch.tensor([[20.0, 25.0]])), start=start, floor=0.3)
    assert len(found.positions) == 1
    torch.testing.assert_close(found.positions[0], torch.tensor([20.0, 25.0]), atol=0.3, rtol=0)


def test_axes_agree_on_a_true_point():
    found = recover_measure(CODE, codes_of(torch.tensor([[20.0, 25.0]])), floor=0.3)
    assert (found.axis_masses > 0.5).all()
    assert found.axis_offsets.abs().max() < 0.5


def test_no_codes_no_points():
    assert len(recover_measure(CODE, torch.zeros(CODE.numbers, 5, 5)).positions) == 0


WIDE = Reading(blur=2.0, matched=True)


def doubted(points: torch.Tensor, mass: float = 1.0, cells: float = 2.5) -> torch.Tensor:
    """Codes of points whose mass lies in eight parts around them, `cells` away."""
    angles = torch.arange(8) * (math.pi / 4)
    around = cells * torch.stack([angles.sin(), angles.cos()], 1)
    return torch.stack([mass / 8 * codes_of(points + offset) for offset in around]).sum(0)


@pytest.mark.parametrize("seed", range(5))
def test_a_matched_filter_gathers_what_doubt_has_spread(seed):
    """Recovery makes several points of it, none of which has its mass."""
    points = spread_points(3, seed, apart=14.0).clamp(6, 40)
    found = matched_filter(CODE, doubted(points), WIDE, floor=0.4)
    assert len(found.positions) == len(points)
    assert torch.cdist(points, found.positions).min(1).values.max() < 0.3
    assert (found.supported - 0.6).abs().max() < 0.15
    recovered = recover_measure(CODE, doubted(points), Reading(0.5, 0.65), floor=0.1)
    assert len(recovered.positions) > len(points)
    assert recovered.supported.max() < 0.7


def test_a_matched_filter_has_no_cap_and_says_what_the_axes_support():
    points = torch.tensor([[20.0, 25.0], [40.0, 8.0]])
    once, thrice = (matched_filter(CODE, doubted(points, mass), WIDE) for mass in (1.0, 3.0))
    assert once.positions.shape == thrice.positions.shape
    torch.testing.assert_close(thrice.supported, 3 * once.supported, rtol=0.01, atol=0.01)
    assert thrice.supported.min() > CAP
    tight = matched_filter(CODE, codes_of(points), WIDE)
    torch.testing.assert_close(tight.supported, torch.ones(2), rtol=0, atol=0.15)
    assert (once.axis_masses.std(1) > 0).all()
    assert len(matched_filter(CODE, torch.zeros(CODE.numbers, 5, 5), WIDE).positions) == 0


def test_lumps_of_an_object_do_not_take_from_one_another():
    """With the others' atoms taken away a lump of a wide ring would have less than nothing."""
    point = torch.tensor([[24.0, 24.0]])
    ring = matched_filter(CODE, doubted(point, cells=4.5), WIDE)
    lump = matched_filter(CODE, codes_of(point) / 8, WIDE, floor=0.05)
    assert len(ring.positions) > 1
    assert ring.supported.min() > lump.supported.max()


def test_a_matched_reading_needs_the_codes_alone():
    codes = doubted(torch.tensor([[20.0, 25.0]]))
    mass = torch.rand(48, 48)
    alone, beside = (
        decode_windows(CODE, codes, given, Config(stride=4), WIDE, decoder=decoder)
        for given, decoder in ((None, "codes"), (mass, "full"))
    )
    assert len(alone.points) == 1
    np.testing.assert_array_equal(alone.points, beside.points)
    np.testing.assert_array_equal(alone.scores, beside.scores)
    assert (alone.votes > 0).all()
    assert (alone.spread > 0).all()


def test_of_equal_neighbours_one_is_a_maximum():
    values = torch.zeros(6, 6)
    values[2, 2:4] = 1.0
    assert local_maxima(values, 0.5).tolist() == [[2, 2]]


def test_subcell_finds_the_top_of_a_parabola():
    y, x = torch.meshgrid(torch.arange(7.0), torch.arange(7.0), indexing="ij")
    values = 5 - (y - 3.2) ** 2 - (x - 2.7) ** 2
    torch.testing.assert_close(subcell(values, torch.tensor([[3, 3]])), torch.tensor([[3.2, 2.7]]))


def test_peaks_in_the_outermost_cells_stay_there():
    """A parabola through two of three neighbours would put them on the image's edge."""
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    values = 4 - (y - 0.2) ** 2 - (x - 6.3) ** 2
    torch.testing.assert_close(subcell(values, torch.tensor([[0, 6]])), torch.tensor([[0.0, 6.0]]))
    values = 4 - (y - 0.2) ** 2 - (x - 2.7) ** 2
    torch.testing.assert_close(subcell(values, torch.tensor([[0, 3]])), torch.tensor([[0.0, 2.7]]))
    assert subcell(torch.ones(1, 1), torch.tensor([[0, 0]])).tolist() == [[0, 0]]


@pytest.mark.parametrize("y", [0.0, 0.2, 0.4, 0.6, 1.0])
def test_a_matched_filter_finds_objects_in_the_outermost_cells_near_where_they_are(y):
    found = matched_filter(CODE, codes_of(torch.tensor([[y, 30.2]])), WIDE, floor=0.4)
    assert len(found.positions) == 1
    assert (found.positions[0] - torch.tensor([y, 30.2])).abs().max() <= 0.5
