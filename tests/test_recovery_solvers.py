"""Solvers of the lasso and their certificates, checked against scikit-learn."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning as SklearnConvergenceWarning
from sklearn.linear_model import Lasso
from torch.utils._python_dispatch import TorchDispatchMode

import pointsense.recovery
from pointsense.recovery import (
    duality_gap,
    lam_from_noise,
    lam_max,
    lasso,
    objective,
    relative_gap,
    sparse_code,
)
from recovery_problems import M, measurements, sensing_matrix

MATRICES, PER_MATRIX = 10, 20  # 200 problems
METHODS = ["auto", "homotopy", "fista", "ista", "dal"]


@pytest.fixture(scope="module")
def problems():
    """(x, D, lam, minimum by scikit-learn) per matrix: the first half at .39 px, the rest at .05 lam_max."""
    out = []
    for seed in range(MATRICES):
        D = sensing_matrix(seed)
        x = measurements(D, PER_MATRIX, seed)
        lam = 0.05 * lam_max(x, D)
        lam[: PER_MATRIX // 2] = 0.39
        code = np.zeros((PER_MATRIX, D.shape[1]))
        columns = np.asfortranarray(D.numpy())
        for i in range(1, PER_MATRIX):
            # scikit-learn divides the data term by the number of rows.
            model = Lasso(float(lam[i]) / M, fit_intercept=False, tol=1e-9, max_iter=20_000)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SklearnConvergenceWarning)
                code[i] = model.fit(columns, x[i].numpy()).coef_
        out.append((x, D, lam, objective(torch.from_numpy(code), x, D, lam)))
    return out


@pytest.mark.parametrize("method", METHODS)
def test_200_problems_of_the_papers_size(problems, method):
    converged, excess, gaps = [], [], []
    for x, D, lam, minimum in problems:
        result = lasso(x, D, lam, method=method)
        energy = (x.square().sum(-1) / 2).clamp_min(1e-300)
        excess.append((objective(result.code, x, D, lam) - minimum) / energy)
        converged.append(result.converged)
        gaps.append(result.duality_gap)
        assert result.duality_gap[0] == 0
        assert not result.code[0].any()
    converged, excess, gaps = torch.cat(converged), torch.cat(excess), torch.cat(gaps)
    assert len(converged) == 200
    assert torch.equal(converged, gaps <= 1e-6)
    assert (excess[converged] <= 3e-6).all()
    # The gap bounds the excess from above: were it too small, "converged" would mean nothing.
    assert (excess <= gaps + 1e-7).all()
    if method in ("auto", "homotopy"):
        assert converged.all()
    elif method in ("fista", "dal"):
        assert converged.double().mean() >= 0.99
    else:  # at .39 px ISTA runs out of iterations, and says so
        assert not converged.all()
        assert (gaps[~converged] > 1e-6).all()


@pytest.mark.parametrize("method", METHODS)
def test_float32_is_certified_in_float64(method):
    D = sensing_matrix(0).float()
    x = measurements(D.double(), 6, 0).float()
    lam = 0.1 * lam_max(x, D)
    result = lasso(x, D, lam, method=method)
    assert result.code.dtype == torch.float32
    assert result.duality_gap.dtype == torch.float64
    assert result.converged.all()
    exact = lasso(x.double(), D.double(), lam.double(), method="homotopy").code
    gap = relative_gap(result.code.double(), x.double(), D.double(), lam.double())
    assert (gap <= 2e-6).all()
    if method in ("auto", "homotopy"):
        torch.testing.assert_close(result.code.double(), exact, rtol=1e-6, atol=1e-4)


@st.composite
def degenerate_problems(draw):
    """Small integers: ties, dependent, duplicate and zero columns, exact hits, m = 1 and n < m abound."""
    m, n, rows = draw(st.integers(1, 7)), draw(st.integers(1, 12)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([(-1.0, 1.0), (-1.0, 0.0, 1.0), (0.0, 0.5, 2.0)]))
    D = torch.from_numpy(rng.choice(levels, (m, n)))
    x = torch.from_numpy(rng.integers(-3, 4, (rows, m)).astype(float))
    fraction = draw(st.sampled_from([1e-3, 0.1, 0.5, 1.0, 2.0]))
    return x, D, fraction * lam_max(x, D).clamp_min(0.1)


@settings(max_examples=60, deadline=None)
@given(problem=degenerate_problems())
def test_degenerate_problems_are_solved(problem):
    x, D, lam = problem
    for method in ("auto", "homotopy", "dal"):
        result = lasso(x, D, lam, method=method)
        assert result.converged.all(), method
        assert not result.code[lam >= lam_max(x, D)].any(), method


@settings(max_examples=40, deadline=None)
@given(problem=degenerate_problems())
def test_lam_zero_is_least_squares_by_the_exact_solvers(problem):
    x, D, _ = problem
    best = torch.linalg.lstsq(D, x.T, driver="gelsd").solution.T
    for method in ("auto", "homotopy"):
        result = lasso(x, D, 0.0, method=method)
        assert result.converged.all(), method
        excess = objective(result.code, x, D, 0.0) - objective(best, x, D, 0.0)
        assert (excess <= 1e-6 * x.square().sum(-1) / 2 + 1e-12).all(), method


def test_smooth_sensing_matrix():
    """Neighbouring columns nearly parallel, as along a smoothed axis."""
    offsets = torch.arange(-9, 10, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / 3) ** 2)
    D = torch.nn.functional.conv1d(sensing_matrix(0)[:, None], kernel[None, None], padding=9)[:, 0]
    x = measurements(D, 6, 0)
    for method in ("auto", "homotopy"):
        assert lasso(x, D, 0.02 * lam_max(x, D), method=method).converged.all()


def test_homotopy_stays_on_the_path_when_it_may_not_finish():
    D = sensing_matrix(0)
    x = measurements(D, 3, 0)[1:]
    short = lasso(x, D, 0.39, method="homotopy", max_iter=5)
    assert not short.converged.any()
    assert (short.iterations == 5).all()
    reached = (D.T @ (x - short.code @ D.T).T).abs().amax(0)
    assert lasso(x, D, reached, method="homotopy").code.sub(short.code).abs().max() < 1e-8


@pytest.mark.parametrize("method", METHODS)
def test_running_out_of_iterations_is_reported(method):
    D = sensing_matrix(0)
    x = measurements(D, 4, 0)
    result = lasso(x, D, 0.39, method=method, max_iter=3)
    assert result.converged.tolist() == [True, False, False, False]
    assert result.iterations.tolist()[0] == 0
    assert (result.iterations[1:] <= 4).all()
    assert torch.isfinite(result.code).all()


@pytest.mark.parametrize("method", ["auto", "ista", "fista", "dal"])
def test_warm_start_saves_iterations(method):
    D = sensing_matrix(0)
    x = measurements(D, 6, 0)
    lam = 0.05 * lam_max(x, D)
    cold = lasso(x, D, lam, method=method)
    warm = lasso(x, D, lam, method=method, warm_start=cold.code)
    assert warm.converged.all()
    assert warm.iterations.sum() < cold.iterations.sum()


def test_shapes_and_one_weight_per_right_hand_side():
    D = sensing_matrix(0, 20, 50)
    x = measurements(D, 6, 0).reshape(2, 3, 20)
    lam = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
    result = lasso(x, D, lam)
    assert result.code.shape == (2, 3, 50)
    assert result.duality_gap.shape == result.iterations.shape == result.converged.shape == (2, 3)
    torch.testing.assert_close(result.code[1, 2], lasso(x[1, 2], D, 6.0).code)
    torch.testing.assert_close(lasso(x, D, lam[:1]).code[1, 1], lasso(x[1, 1], D, 2.0).code)
    assert lasso(x[:0], D, 1.0).code.shape == (0, 3, 50)


def test_scale_does_not_matter():
    D = sensing_matrix(0, 20, 50)
    x = measurements(D, 4, 0)
    lam = 0.1 * lam_max(x, D)
    code = lasso(x, D, lam).code
    scaled = lasso(1e30 * x, 1e20 * D, 1e50 * lam)
    assert scaled.converged.all()
    torch.testing.assert_close(scaled.code / 1e10, code)


class LargestTensor(TorchDispatchMode):
    """Records the number of entries of the largest tensor made."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, torch.Tensor):
                self.entries = max(self.entries, value.untyped_storage().nbytes() // 8)
        return out


@pytest.mark.filterwarnings("ignore:.*singular|.*right-hand sides have:RuntimeWarning")
@pytest.mark.parametrize("method", METHODS)
def test_no_matrix_of_n_by_n_above_the_limit(method):
    m, n = 20, 5000
    D = sensing_matrix(0, m, n)
    x = measurements(D, 3, 0).requires_grad_()
    sparse_code(x[:, :4], D[:4, :9], 0.1, method=method, tol=0.5).sum().backward()  # compiles what it needs
    with LargestTensor() as largest:
        _ = x + x  # loads what the dispatch mode needs
        tracemalloc.start()  # for the arrays of NumPy
        code = sparse_code(x, D, 0.3 * lam_max(x, D).detach(), method=method, tol=1e-3)
        code.sum().backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert m * n <= largest.entries <= n * n / 10
    assert peak <= 8 * n * n / 10


def test_certificate_by_hand():
    D = torch.eye(3, dtype=torch.float64)
    x = torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64)
    solution = torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64)
    assert duality_gap(solution, x, D, 1.0) == 0
    # At a = 0 the dual point is x / 3: gap = 1/2 |x|^2 (1 - 1/3)^2.
    torch.testing.assert_close(duality_gap(torch.zeros_like(x), x, D, 1.0), x.square().sum() / 2 * 4 / 9)
    assert relative_gap(x, 0 * x, D, 1.0) == torch.inf
    assert relative_gap(0 * x, 0 * x, D, 1.0) == 0
    # With lam = 0 the gap is that of least squares.
    torch.testing.assert_close(duality_gap(solution, x, D, 0.0), objective(solution, x, D, 0.0))


def test_certificate_does_not_cancel():
    """Primal minus dual would leave 1e-16 |x|^2 of rounding; the sum of vanishing terms does not."""
    D = sensing_matrix(0)
    x = measurements(D, 4, 0)[1:]
    lam = 0.05 * lam_max(x, D)
    code = lasso(x, D, lam, method="homotopy").code
    assert (relative_gap(code, x, D, lam) < 1e-14).all()
    worse = code * (1 + 1e-6)
    difference = objective(worse, x, D, lam) - objective(code, x, D, lam)
    assert (duality_gap(worse, x, D, lam) >= difference * 0.99).all()


def test_lam_from_noise_silences_noise():
    D = sensing_matrix(0)
    noise = 0.7 * torch.randn(2000, M, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    lam = lam_from_noise(0.7, D)
    assert (lam_max(noise, D) > lam).double().mean() < 0.2
    assert (lam_max(noise, D) > lam / 2).all()
    torch.testing.assert_close(
        lam, 0.7 * D.norm(dim=0).max() * (2 * torch.tensor(368.0).double().log()).sqrt()
    )


D0, X0 = torch.eye(2, 3), torch.ones(4, 2)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: lasso(X0, D0, 1.0, method="lars"),
            ValueError,
            "one of auto, active_set, homotopy, fista, ista, dal, got 'lars'",
        ),
        (lambda: lasso(X0, D0, -1.0), ValueError, "lam must not be negative, got -1"),
        (lambda: lasso(X0, D0, float("nan")), ValueError, "lam contains NaN"),
        (lambda: lasso(X0, D0, "1"), TypeError, "lam must be a number or a tensor, got str"),
        (lambda: lasso(X0, D0, torch.ones(3)), ValueError, r"broadcasts to \(4,\), got \(3,\)"),
        (lambda: lasso(X0.numpy(), D0, 1.0), TypeError, "x must be a torch.Tensor, got ndarray"),
        (
            lambda: lasso(X0.int(), D0, 1.0),
            TypeError,
            "x must be of a real floating point dtype, got torch.int32",
        ),
        (lambda: lasso(X0[:, :1], D0, 1.0), ValueError, "x must have the 2 rows of D as its last dimension"),
        (lambda: lasso(X0 / 0, D0, 1.0), ValueError, "x contains NaN or infinite values"),
        (lambda: lasso(X0, D0 / 0, 1.0), ValueError, "D contains NaN or infinite values"),
        (
            lambda: lasso(X0, D0[0], 1.0),
            ValueError,
            r"D must be a non-empty \(m, n\) matrix, got shape \(3,\)",
        ),
        (lambda: lasso(X0, D0, 1.0, tol=0.0), ValueError, "tol must be above 0, got 0"),
        (lambda: lasso(X0, D0, 1.0, max_iter=0), ValueError, "max_iter must be an integer, 1 or more, got 0"),
        (lambda: lasso(X0, D0, 1.0, warm_start=X0), ValueError, r"code of shape \(4, 3\), got \(4, 2\)"),
    ],
)
def test_mistakes_are_named(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_copy_of_the_folder_works_alone(tmp_path):
    """Liftable: under another name, without pointsense."""
    folder = Path(pointsense.recovery.__file__).parent
    shutil.copytree(folder, tmp_path / "lifted", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import sys, torch; sys.modules['pointsense'] = None; import lifted;"
        "print(lifted.lasso(torch.ones(2), torch.eye(2), 0.25).code.tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[0.75, 0.75]", done.stderr
