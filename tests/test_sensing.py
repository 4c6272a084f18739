"""Sensing matrices and what they hold."""

import math

import pytest
import torch

from pointsense.encoding import ObservationAxes, capacity, measure, sensing_matrix
from pointsense.errors import UsageError

KINDS = ["gaussian", "smoothed", "filtered", "fourier"]
FIRST_NUMBERS = [-1.1552058458, -0.1866254359, -0.5304083228]


def neighbour_correlation(D, lag):
    """Mean cosine of columns `lag` apart."""
    D = D / D.norm(dim=0)
    return (D[:, lag:] * D[:, : D.shape[1] - lag]).sum(0).mean().item()


def test_gaussian_entries_are_iid_with_variance_1_over_m():
    D = sensing_matrix(112, 369)
    assert D.shape == (112, 369)
    assert D.dtype == torch.float32
    assert abs(D.mean().item()) < 4 / math.sqrt(112 * 112 * 369)
    assert D.var().item() * 112 == pytest.approx(1, abs=0.03)
    assert abs(neighbour_correlation(D, 1)) < 0.03


def test_the_seed_decides_and_its_numbers_are_these_everywhere():
    assert torch.equal(sensing_matrix(16, 40, seed=3), sensing_matrix(16, 40, seed=3))
    assert not torch.equal(sensing_matrix(16, 40, seed=3), sensing_matrix(16, 40, seed=4))
    state = torch.get_rng_state()
    D = sensing_matrix(4, 8, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert D[0, :3].tolist() == pytest.approx(FIRST_NUMBERS, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_the_rounded_float64(kind):
    double = sensing_matrix(8, 30, kind, dtype=torch.float64)
    assert torch.equal(sensing_matrix(8, 30, kind), double.float())


@pytest.mark.parametrize("kind", ["smoothed", "filtered"])
@pytest.mark.parametrize("sigma", [0, 1, 3])
def test_columns_have_norm_one_on_average_at_the_ends_too(kind, sigma):
    norms = sensing_matrix(1000, 120, kind, sigma=sigma, dtype=torch.float64).norm(dim=0)
    assert norms.mean().item() == pytest.approx(1, abs=1e-9)
    assert norms.min() > 0.85
    assert norms.max() < 1.15


def test_smoothing_correlates_columns_like_its_kernel():
    sigma = 3.0
    D = sensing_matrix(2000, 200, "smoothed", sigma=sigma)
    for lag in (1, 3, 6):  # the autocorrelation of a Gaussian of width sigma
        assert neighbour_correlation(D, lag) == pytest.approx(math.exp(-(lag**2) / (4 * sigma**2)), abs=0.03)


def test_filtering_makes_distant_columns_anticorrelated():
    """The ramp |f| has no energy at frequency 0: its kernel integrates to nearly nothing."""
    D = sensing_matrix(2000, 400, "filtered", sigma=2.0, dtype=torch.float64)
    correlations = [neighbour_correlation(D, lag) for lag in range(1, 200)]
    assert correlations[0] > 0.8
    assert min(correlations) < -0.15
    assert 1 + 2 * sum(correlations) == pytest.approx(0, abs=0.5)


def projection_code(points, axes, D):
    mass = axes.encode(points, "mass", interpolate=True, dtype=torch.float64).signal[:, 0]
    return measure(mass, D).flatten() / math.sqrt(axes.count)


def energies(kind, m=96):
    """|code|^2 per point for sets of 12 points at least 12 px apart, on 24 projections of m measurements."""
    axes = ObservationAxes(96, 96, 24, arc="half")
    D = sensing_matrix(m, axes.bins, kind, sigma=1.5, dtype=torch.float64)
    grid = torch.cartesian_prod(torch.arange(6), torch.arange(6)).double() * 16 + 6
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(30):
        chosen = grid[torch.randperm(36, generator=generator)[:12]]
        points = chosen + torch.rand(12, 2, generator=generator) * 4
        found.append(projection_code(points, axes, D).square().sum() / 12)
    return torch.stack(found)


def test_filtered_sensing_is_close_to_an_isometry_on_projections_of_points():
    filtered, smoothed = energies("filtered"), energies("smoothed")
    assert filtered.min() > 0.85
    assert filtered.max() < 1.15
    # Without the filter the projections of different points overlap with one sign: the energy grows faster
    # than the number of points.
    assert smoothed.min() > 1.25


def test_fourier_rows_are_as_good_an_isometry_with_fewer_measurements():
    fourier, filtered = energies("fourier", 48), energies("filtered", 48)
    assert (fourier / fourier.mean() - 1).abs().max() < 0.1
    assert (fourier / fourier.mean()).std() < 0.5 * (filtered / filtered.mean()).std()


def test_what_the_lowest_frequencies_hold():
    """The figures of docs/theory.md, for the default's twelve rows."""
    power = sensing_matrix(34, 35, "fourier", sigma=0.8, dtype=torch.float64).square().sum(1)
    assert (power[:12].sum() / power.sum()).item() == pytest.approx(0.58, abs=0.005)
    assert (power.sort(descending=True).values[:12].sum() / power.sum()).item() == pytest.approx(
        0.66, abs=0.005
    )
    assert sorted((power.argsort(descending=True)[:12] // 2 + 1).unique().tolist()) == [3, 4, 5, 6, 7, 8]


def test_fourier_columns_depend_on_each_other_by_distance_alone():
    D = sensing_matrix(20, 35, "fourier", sigma=0.8, dtype=torch.float64)
    gram = D.T @ D
    for lag in range(18):
        assert torch.diagonal(gram, lag).std() < 1e-9
    random = sensing_matrix(4000, 35, "filtered", sigma=0.8, dtype=torch.float64)
    middle = slice(8, 27)  # where the period of the rows does not show
    assert (gram - random.T @ random)[middle, middle].abs().max() < 0.15


def test_filtered_codes_of_two_points_are_as_similar_as_their_blurred_spots():
    """Radon-Parseval: the inner product of codes is that of Gaussian spots of width sigma."""
    axes = ObservationAxes(64, 64, 32, arc="half")
    D = sensing_matrix(256, axes.bins, "filtered", sigma=2.0, dtype=torch.float64)
    origin = projection_code(torch.tensor([[30.0, 30.0]]), axes, D)
    for distance in (2.0, 4.0, 8.0, 20.0):
        other = projection_code(torch.tensor([[30.0 + 0.6 * distance, 30.0 + 0.8 * distance]]), axes, D)
        cosine = (origin @ other / (origin.norm() * other.norm())).item()
        assert cosine == pytest.approx(math.exp(-(distance**2) / (4 * 2.0**2)), abs=0.08)


def test_measure_is_the_matrix_product_of_every_axis():
    signal, D = torch.rand(2, 3, 1, 20), sensing_matrix(7, 20)
    x = measure(signal, D)
    assert x.shape == (2, 3, 1, 7)
    assert torch.allclose(x[1, 2, 0], D @ signal[1, 2, 0], atol=1e-6)


def test_capacity():
    for m, n in [(112, 369), (48, 93), (32, 200)]:
        k = capacity(m, n)
        assert 2 * k * math.log(n / k) <= m < 2 * (k + 1) * math.log(n / (k + 1))
    assert capacity(1, 100) == 0
    assert capacity(90, 100) == 45
    assert capacity(100, 100) == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"m": 0}, "found 0 x 20"),
        ({"kind": "cauchy"}, "unknown sensing matrix 'cauchy'; use gaussian, smoothed, filtered, fourier"),
        ({"sigma": -1.0}, "cannot be negative, found -1.0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UsageError, match=message):
        sensing_matrix(**({"m": 10, "n": 20} | arguments))
