"""The exact solvers, compiled and in batches: bounds, weights, warm starts, degenerate problems, kept inverses."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear
from sklearn.linear_model import Lasso

from pointsense.recovery import (
    SparseRecovery,
    Status,
    debias,
    lam_from_noise,
    lam_max,
    lasso,
    methods,
    omp,
    relative_gap,
    sparse_code,
    weights_from_noise,
)
from pointsense.recovery import compiled as compiled_module
from pointsense.recovery.batched import driver as batched
from pointsense.recovery.orthogonal import orthogonal_active_set
from pointsense.recovery.problem import Problem
from recovery_problems import measurements, random_problem, sensing_matrix

EXACT = [(m, b) for m in ("active_set", "homotopy") for b in ("compiled", "torch")]
BOUNDS = [{}, {"positive": True}, {"upper": 50.0}, {"positive": True, "upper": 50.0}]


def assert_optimal(code, x, D, lam, *, positive=False, upper=None, tol=1e-9):
    """The conditions of Karush, Kuhn and Tucker, column by column; tol is relative to the largest |D^T x|."""
    c = (x - code @ D.T) @ D
    slack = tol * (x @ D).abs().amax(-1, keepdim=True).expand_as(c)
    lam = torch.as_tensor(lam, dtype=c.dtype).reshape(-1, 1).expand_as(c)
    bound = torch.full_like(c, torch.inf) if upper is None else torch.as_tensor(upper).expand_as(c)
    sign = torch.sign(code)
    assert (code.abs() <= bound).all()
    if positive:
        assert (code >= 0).all()
    zero, full = code == 0, code.abs() == bound
    free = ~zero & ~full
    assert ((c if positive else c.abs())[zero] <= (lam + slack)[zero]).all()
    assert ((c - lam * sign).abs()[free] <= slack[free]).all()
    assert ((sign * c)[full] >= (lam - slack)[full]).all()


@pytest.mark.parametrize(("method", "backend"), EXACT)
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("fraction", [0.5, 0.05, 0.001])
def test_the_conditions_of_optimality_hold(method, backend, bounds, fraction):
    D = sensing_matrix(1)
    x = measurements(D, 12, 1)
    lam = fraction * lam_max(x, D).clamp_min(1.0)
    result = lasso(x, D, lam, method=method, backend=backend, **bounds)
    assert (result.duality_gap <= 1e-10).all()
    assert_optimal(result.code, x, D, lam, **bounds)
    if "upper" in bounds:
        assert (result.code.abs() == 50).any()


@pytest.mark.parametrize(("method", "backend"), EXACT)
def test_bounds_for_each_column_as_scipy_finds_them(method, backend):
    """With lam as a linear term: lsq_linear knows none, so it goes into x by D^T D = I on the range."""
    rng = np.random.default_rng(3)
    D, x = rng.standard_normal((20, 8)), 3 * rng.standard_normal(20)
    upper, lam = rng.uniform(0.05, 0.8, 8), 1.5
    shifted = x - np.linalg.pinv(D.T) @ np.full(8, lam)  # 1/2 |x - D a|^2 + lam 1^T a up to a constant
    wanted = lsq_linear(D, shifted, (np.zeros(8), upper), method="bvls", tol=1e-14).x
    options = {"positive": True, "upper": torch.from_numpy(upper), "method": method, "backend": backend}
    code = lasso(torch.from_numpy(x), torch.from_numpy(D), lam, **options).code
    np.testing.assert_allclose(code, wanted, atol=1e-9)
    assert 0 < np.isclose(code, upper).sum() < (code != 0).sum()


@pytest.mark.parametrize("method", ["fista", "ista"])
def test_iterative_methods_keep_to_bounds(method):
    D = sensing_matrix(0, 40, 60)
    x = measurements(D, 5, 0)
    lam = 0.1 * lam_max(x, D)
    options = {"positive": True, "upper": 100.0}
    exact = lasso(x, D, lam, **options).code
    result = lasso(x, D, lam, method=method, tol=1e-10, max_iter=20_000, **options)
    assert result.converged.all()
    torch.testing.assert_close(result.code, exact, atol=1e-3, rtol=1e-4)
    with pytest.raises(ValueError, match="'dal' knows neither positive nor upper"):
        lasso(x, D, lam, method="dal", positive=True)


@pytest.mark.parametrize("backend", ["compiled", "torch"])
@pytest.mark.parametrize("positive", [False, True])
def test_weights_of_columns(backend, positive):
    D = sensing_matrix(2, 30, 50)
    x = measurements(D, 4, 2)
    weights = torch.linspace(0.5, 2, 50, dtype=torch.float64)
    lam = 0.1 * lam_max(x, D)
    result = lasso(x, D, lam, weights=weights, backend=backend, positive=positive)
    assert result.converged.all()
    model = Lasso(float(lam[2]) / 30, fit_intercept=False, tol=1e-12, max_iter=100_000, positive=positive)
    wanted = model.fit((D / weights).numpy(), x[2].numpy()).coef_ / weights.numpy()
    np.testing.assert_allclose(result.code[2], wanted, atol=1e-4)
    bounded = lasso(x, D, lam, weights=weights, upper=40.0, backend=backend, positive=positive)
    assert bounded.converged.all()
    assert float(bounded.code.abs().max()) == pytest.approx(40)


@pytest.mark.parametrize(
    ("method", "backend"), [("auto", "compiled"), ("homotopy", "compiled"), ("auto", "torch")]
)
@pytest.mark.parametrize("bounds", BOUNDS[:2], ids=str)
def test_random_problems_are_certified(method, backend, bounds):
    """The first of the 10,000 of benchmarks/recovery.py."""
    for seed in range(250):
        x, D, lam = random_problem(seed)
        result = lasso(x, D, lam, method=method, backend=backend, **bounds)
        assert torch.isfinite(result.code).all(), seed
        assert result.converged, (seed, float(result.duality_gap))
        assert result.status == Status.CONVERGED


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_exact_non_negative_least_squares_is_certified(backend):
    """lam = 0 and nothing left: the residual is rounding, and so are its correlations."""
    rng = np.random.default_rng(0)
    D = torch.from_numpy(rng.standard_normal((5, 3)))
    code = torch.from_numpy(np.maximum(rng.standard_normal((300, 3)), 0))
    result = lasso(code @ D.T, D, 0.0, positive=True, backend=backend)
    assert result.converged.all()
    torch.testing.assert_close(result.code, code)


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_many_columns_at_bounds_without_the_gram_matrix(backend):
    D = sensing_matrix(0, 40, 4200)
    x = measurements(D, 2, 0)
    lam = 0.1 * lam_max(x, D).clamp_min(1)
    result = lasso(x, D, lam, upper=0.05, backend=backend)
    assert result.converged.all()
    assert (result.code.abs() == 0.05).sum() > 1000
    again = lasso(x, D, lam, upper=0.05, backend=backend, warm_start=result.code)
    assert again.converged.all()
    assert (again.iterations <= 2).all()


class TestCertificate:
    def test_codes_outside_their_bounds_have_none(self):
        D = sensing_matrix(0, 20, 40)
        x = measurements(D, 6, 0)[1:]
        code = lasso(x, D, 0.3).code
        assert (relative_gap(code, x, D, 0.3) < 1e-9).all()
        assert (relative_gap(code, x, D, 0.3, upper=0.01) == torch.inf).all()
        assert (relative_gap(-code.abs(), x, D, 0.3, positive=True) == torch.inf).all()
        bound = lasso(x.float(), D.float(), 0.3, upper=1.7)  # rounding in float32 is no way out
        assert (relative_gap(bound.code.double(), x, D, 0.3, upper=1.7) < 1e-5).all()

    def test_neither_has_what_is_no_number(self):
        D = sensing_matrix(0, 20, 40)
        x = measurements(D, 6, 0)[1:]
        assert (relative_gap(x.new_full((5, 40), torch.nan), x, D, 0.3) == torch.inf).all()

    @pytest.mark.parametrize("backend", ["compiled", "torch"])
    @pytest.mark.parametrize(("of_x", "of_D"), [(1, 1e160), (1, 1e-160), (1e200, 1), (1e-200, 1)])
    def test_numbers_whose_squares_overflow_are_right_or_not_certified(self, backend, of_x, of_D):
        D = sensing_matrix(0, 20, 40)
        x = measurements(D, 6, 0)[1:]
        result = lasso(of_x * x, of_D * D, 0.3 * of_x * of_D, backend=backend)
        assert of_x == 1 or not result.converged.any()
        right = lasso(x, D, 0.3).code
        torch.testing.assert_close((result.code * of_D)[result.converged], right[result.converged])


def test_gradient_of_weights_beside_columns_without_a_bound():
    D = sensing_matrix(0, 20, 40)
    x = measurements(D, 6, 0)[1:]
    upper = torch.full((40,), 20.0, dtype=torch.float64)
    weights = torch.ones(40, dtype=torch.float64, requires_grad=True)
    grads = []
    for far in (torch.inf, 1e9):
        upper[::3] = far
        grads += torch.autograd.grad(
            sparse_code(x, D, 0.3, weights=weights, upper=upper).square().sum(), weights
        )
    torch.testing.assert_close(*grads)
    assert grads[0].any()


def test_backends_and_methods_agree():
    D = sensing_matrix(0)
    x = measurements(D, 40, 0)
    codes = [lasso(x, D, 0.4, method=m, backend=b).code for m, b in EXACT]
    for code in codes[1:]:
        torch.testing.assert_close(code, codes[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("path", [False, True])
def test_single_precision_is_only_a_start(bounds, path):
    """What other devices than the CPU begin with."""
    D = sensing_matrix(0)
    x = 1e30 * measurements(D, 20, 0)
    if "upper" in bounds:
        bounds = bounds | {"upper": 50e10}
    problem = Problem.check(x, 1e20 * D, 0.4e50, warm_start=torch.ones(20, 368), **bounds).in_float64()
    options = {"path": path, "max_changes": 5000, "kept": torch.float64, "limit": 1 << 30}
    double, single = (batched.solve(problem, single=s, **options) for s in (False, True))
    assert (problem.relative_gap(single.code) <= 1e-9).all()
    torch.testing.assert_close(single.code, double.code, rtol=1e-7, atol=1e5)


def test_what_the_gram_matrix_cannot_tell_is_rescued():
    """Pairs of columns 1e-6 apart: 1e-12 in the Gram matrix. Without that difference x is not explained."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal((12, 3))
    D = torch.from_numpy(np.concatenate([base, base + 1e-6 * rng.standard_normal((12, 3))], axis=1))
    truth = torch.tensor([30.0, -40.0, 20.0, -29.0, 41.0, -20.0], dtype=torch.float64)
    x, lam = D @ truth, 1e-12
    for bounds in BOUNDS:
        problem = Problem.check(x[None], D, lam, **bounds).in_float64()
        code, changes = orthogonal_active_set(problem, 1000)
        assert problem.relative_gap(code) <= 1e-9
        assert 0 < int(changes) < 1000
    torch.testing.assert_close(
        orthogonal_active_set(Problem.check(x[None], D, lam), 99)[0][0], truth, rtol=0, atol=1.0
    )
    without = lasso(x, D, lam, max_iter=50)
    assert (without.code - truth).abs().max() > 10
    assert lasso(x, D, lam).duality_gap < without.duality_gap


def test_more_steps_are_no_worse():
    """Two columns 1e-6 apart explain x, by opposite amplitudes of 1e6: both ways need the rescue."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal((12, 10))
    D = torch.from_numpy(np.concatenate([base, base + 1e-6 * rng.standard_normal((12, 10))], axis=1))
    x = (D[:, 0] - D[:, 10]) * 1e6 + D[:, 3]
    lam = 1e-7 * lam_max(x, D)
    assert lasso(x, D, lam, max_iter=1000).duality_gap <= lasso(x, D, lam).duality_gap + 1e-12


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_nothing_to_explain_is_explained_by_nothing(backend):
    """Whatever the start: in units of |D^T x| = 0 no step would be short enough."""
    places = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None] - torch.linspace(
        0, 1, 11, dtype=torch.float64
    )
    D, x = torch.exp(-places.square() / 0.02), torch.zeros(1, 7, dtype=torch.float64)
    for seed in range(160, 170):
        start = torch.randn(1, 11, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        result = lasso(x, D, 0.0, warm_start=start, backend=backend)
        assert result.converged
        assert not result.code.any()


def test_numbers_whose_products_overflow_come_to_an_end():
    D = 1e150 * torch.rand(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for method, backend in EXACT:
        result = lasso(torch.full((1, 3), 1e200, dtype=torch.float64), D, 1.0, method=method, backend=backend)
        assert not result.converged


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_what_is_certified_is_optimal_where_rounding_is_large(backend):
    """lam = 0, smooth columns, half of them bounded: codes of 1e6 whose products cancel."""
    rng = np.random.default_rng(0)
    certified = 0
    for _ in range(40):
        m, n = int(rng.integers(2, 20)), int(rng.integers(2, 40))
        D = np.exp(-((np.arange(m)[:, None] - np.linspace(0, m, n)) ** 2) / 2)
        x, upper = rng.standard_normal(m), np.where(rng.random(n) < 0.5, np.inf, 0.3)
        least = lsq_linear(D, x, (-upper, upper), method="bvls", tol=1e-14, max_iter=5000).cost
        result = lasso(*map(torch.from_numpy, (x, D)), 0.0, upper=torch.from_numpy(upper), backend=backend)
        reached = ((x - D @ result.code.numpy()) ** 2).sum() / 2
        certified += bool(result.converged)
        assert not result.converged or reached <= least + 1e-5 * (x @ x)
    assert certified >= 20
    away = torch.tensor([[1e16, -1e16]], dtype=torch.float64)
    one, both = torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)
    assert relative_gap(away, one, both, 0.0, upper=torch.inf) > 0.5


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("backend", ["compiled", "torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_exact_gradient_of_a_support_that_is_nearly_dependent(backend, dtype, keep):
    """Rounding leaves nothing of the inverse's product with g = (1, 1), which is (1, 0) + 1e4 (..)."""
    D = torch.tensor([[1, 1], [0, 1e-4]], dtype=dtype)
    x = torch.tensor([[2, 1e-4]], dtype=dtype, requires_grad=True)
    lam = torch.tensor(1e-13, dtype=dtype, requires_grad=True)
    sparse_code(x, D, lam, backend=backend, keep_inverse=keep).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[1.0, 0.0]], dtype=dtype), rtol=1e-4, atol=1e-4)
    assert float(lam.grad) == pytest.approx(-1, rel=1e-4)


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_the_exact_gradient_of_smooth_columns_is_that_without_a_kept_inverse(backend):
    places = torch.arange(120.0, dtype=torch.float64)
    kernel = torch.exp(-((places[:, None] - places).square()) / 50)
    D = sensing_matrix(3, 40, 120) @ kernel
    D = D / D.norm(dim=0)
    code = torch.zeros(8, 120, dtype=torch.float64)
    code[:, ::40] = torch.rand(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 20 + 1
    found = []
    for keep in (True, False):
        x = (code @ D.T).float().requires_grad_()
        sparse_code(x, D.float(), 0.4, backend=backend, keep_inverse=keep).sum().backward()
        found.append(x.grad)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_a_short_column_is_not_a_dependent_one():
    D, x = torch.diag(torch.tensor([1.0, 1e-7])).double(), torch.ones(1, 2, dtype=torch.float64)
    torch.testing.assert_close(debias(torch.ones_like(x), x, D), torch.tensor([[1.0, 1e7]]).double())
    for keep in (True, False):
        x.requires_grad_().grad = None
        sparse_code(x, D, 1e-12, backend="compiled", keep_inverse=keep).sum().backward()
        torch.testing.assert_close(x.grad, torch.tensor([[1.0, 1e7]]).double())


@pytest.mark.parametrize(("method", "backend"), EXACT)
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_any_warm_start_leads_to_the_certified_solution(method, backend, bounds):
    D = sensing_matrix(1)
    x = measurements(D, 30, 1)
    lam = 0.02 * lam_max(x, D).clamp_min(1.0)
    options = {"method": method, "backend": backend, **bounds}
    cold = lasso(x, D, lam, **options)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(cold.code.shape, generator=generator, dtype=torch.float64)
    for start in (cold.code, 1.1 * cold.code, -cold.code, 10 * noise, cold.code.roll(1, 1), 0 * noise + 7):
        warm = lasso(x, D, lam, warm_start=start, **options)
        assert warm.converged.all()
        assert_optimal(warm.code, x, D, lam, **bounds)
        assert (warm.duality_gap <= 1e-9).all()
        torch.testing.assert_close(warm.code @ D.T, cold.code @ D.T, rtol=1e-6, atol=1e-6)
    again = lasso(x, D, lam, warm_start=cold.code, **options)
    if method == "homotopy":
        assert torch.equal(again.iterations, cold.iterations)
    else:
        assert (again.iterations <= 2).all()


@pytest.mark.parametrize(("method", "backend"), EXACT)
def test_status_tells_what_ran_out(method, backend):
    D = sensing_matrix(0)
    x = measurements(D, 4, 0)
    result = lasso(x, D, 0.39, method=method, backend=backend, max_iter=4)
    assert result.status.tolist() == [Status.CONVERGED] + 3 * [Status.MAX_ITER]
    torch.testing.assert_close(result.duality_gap, relative_gap(result.code, x, D, 0.39))


@pytest.mark.parametrize("backend", ["compiled", "torch"])
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("keep", [True, False])
def test_gradcheck(backend, bounds, keep):
    generator = torch.Generator().manual_seed(5)
    D = torch.randn(6, 9, generator=generator, dtype=torch.float64)
    x = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    weights = torch.linspace(0.8, 1.2, 9, dtype=torch.float64)
    leaves = [x, D, 0.2 * lam_max(x, D), weights]
    if "upper" in bounds:
        leaves.append(0.25 * weights.flip(0))
    leaves = [v.clone().requires_grad_() for v in leaves]

    def code(x, D, lam, weights, upper=None):
        options = {"weights": weights, "upper": upper, "positive": "positive" in bounds, "keep_inverse": keep}
        return sparse_code(x, D, lam, backend=backend, **options)

    found = code(*leaves)
    assert (found != 0).sum() > 4
    if "upper" in bounds:
        assert torch.isclose(found.abs(), leaves[-1]).any()
    assert torch.autograd.gradcheck(code, leaves, rtol=1e-5)
    first = torch.autograd.grad(code(*leaves).square().sum(), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first[0].sum().backward()


def saved(function):
    """Bytes of the tensors that autograd keeps, each storage once, and what the function returns."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = function()
    return storages, out


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_memory_kept_for_the_backward_pass(backend):
    D = sensing_matrix(0).float()
    x = measurements(D.double(), 200, 0).float().requires_grad_()
    sizes = (lasso(x, D, 0.4).code != 0).sum(-1)
    triangles = int((sizes * (sizes + 1) // 2).sum())
    for keep, wanted in (
        (True, 4 * triangles + 4 * int(sizes.sum()) + 800),
        (False, 4 * int(sizes.sum()) + 800),
    ):
        storages, out = saved(lambda keep=keep: sparse_code(x, D, 0.4, backend=backend, keep_inverse=keep))
        for known in (x, D, out):
            storages.pop(known.untyped_storage().data_ptr(), None)
        assert sum(storages.values()) == wanted


def test_inverses_above_the_limit_are_not_kept(monkeypatch):
    D = sensing_matrix(0)
    x = measurements(D, 20, 0).requires_grad_()
    grads = {}
    for limit in (1 << 20, 1000):
        monkeypatch.setattr(methods, "INVERSE_LIMIT", limit)
        for backend in ("compiled", "torch"):
            storages, out = saved(lambda backend=backend: sparse_code(x, D, 0.4, backend=backend))
            assert (max(storages.values()) > 1 << 19) == (limit > 1000) or sum(storages.values()) < 1 << 20
            (grads[limit, backend],) = torch.autograd.grad(out.square().sum(), x)
    for grad in grads.values():
        torch.testing.assert_close(grad, grads[1000, "torch"], rtol=1e-8, atol=1e-8)


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # torch looks at it itself
@pytest.mark.parametrize("backend", ["compiled", "torch"])
@pytest.mark.parametrize("backward", ["exact", "paper"])
def test_torch_compile(backend, backward):
    D = sensing_matrix(0, 20, 40)
    x = measurements(D, 5, 0)

    def loss(x, D):
        return sparse_code(2 * x, D, 3.0, backend=backend, backward=backward).square().sum() + x.sum()

    plain = [v.clone().requires_grad_() for v in (x, D)]
    loss(*plain).backward()
    traced = [v.clone().requires_grad_() for v in (x, D)]
    torch.compile(loss, backend="aot_eager")(*traced).backward()
    for one, two in zip(plain, traced, strict=True):
        torch.testing.assert_close(one.grad, two.grad)


def test_several_threads_give_the_same():
    D = sensing_matrix(0)
    x = measurements(D, 300, 0)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            leaves = [x.clone().requires_grad_(), D.clone().requires_grad_()]
            code = sparse_code(*leaves, 5.0)
            results.append((code.detach(), *torch.autograd.grad(code.square().sum(), leaves), omp(x, D, 4)))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("method", ["auto", "homotopy", "fista"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gpu_gives_the_same(method, dtype):
    D = sensing_matrix(0).to(dtype)
    x = measurements(D.double(), 100, 0).to(dtype)
    results = []
    for device in ("cpu", "cuda"):
        leaves = [v.to(device, copy=True).requires_grad_() for v in (x, D)]
        code = sparse_code(*leaves, 5.0, method=method)
        grads = torch.autograd.grad(code.square().sum(), leaves)
        results.append([v.detach().cpu() for v in (code, *grads, omp(*leaves, 4))])
        assert lasso(*leaves, 5.0, method=method).converged.all()
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-3 * float(one.abs().max()))


class TestBackends:
    def test_without_numba_batches_serve(self, monkeypatch):
        monkeypatch.setattr(compiled_module, "installed", lambda: False)
        D = sensing_matrix(0, 20, 40)
        x = measurements(D, 3, 0)
        assert lasso(x, D, 1.0).converged.all()
        with pytest.raises(ValueError, match=r"numba is not installed: pip install numba"):
            lasso(x, D, 1.0, backend="compiled")

    def test_mistakes_are_named(self):
        D = sensing_matrix(0, 20, 40)
        x = measurements(D, 3, 0)
        with pytest.raises(ValueError, match="backend must be one of auto, compiled, torch, got 'numba'"):
            lasso(x, D, 1.0, backend="numba")
        with pytest.raises(ValueError, match="upper must be above 0, got -1"):
            lasso(x, D, 1.0, upper=-1.0)
        with pytest.raises(ValueError, match=r"weights must be one number or one for each of the 40 columns"):
            lasso(x, D, 1.0, weights=torch.ones(3))
        with pytest.raises(TypeError, match="upper must be a number or a tensor, got str"):
            lasso(x, D, 1.0, upper="1")

    @pytest.mark.parametrize(
        ("options", "error", "text"),
        [
            (
                {"weights": torch.tensor([1.0, torch.inf] * 20)},
                ValueError,
                "weights contains infinite values",
            ),
            (
                {"weights": 2.0, "warm_start": torch.ones(3)},
                ValueError,
                r"a code of shape \(3, 40\), got \(3,\)",
            ),
            ({"tol": "a"}, TypeError, "tol must be a number, got str"),
            ({"positive": 1}, TypeError, "positive must be True or False, got int"),
            ({"method": "dal", "upper": 1.0}, ValueError, "'dal' knows neither positive nor upper"),
        ],
    )
    def test_more_mistakes_are_named(self, options, error, text):
        D = sensing_matrix(0, 20, 40)
        with pytest.raises(error, match=text):
            lasso(measurements(D, 3, 0), D, 1.0, **options)

    def test_mistakes_that_are_not_of_numbers(self):
        D = sensing_matrix(0, 20, 40)
        x = measurements(D, 3, 0)
        with pytest.raises(TypeError, match=r"D must be a torch.Tensor, got list"):
            lasso(x, D.tolist(), 1.0, weights=2.0)
        with pytest.raises(TypeError, match=r"lam must be real, got torch\.complex"):
            lasso(x, D, torch.tensor(1j))
        with pytest.raises(TypeError, match=r"x must be a torch\.Tensor, got list"):
            sparse_code(x.tolist(), D, 1.0)
        with pytest.raises(TypeError, match="ridge must be a number, got Tensor"):
            sparse_code(x, D, 1.0, ridge=torch.tensor(0.1))
        with pytest.raises(ValueError, match="backend must be one of"):
            sparse_code(x, D, 1.0, backward="unrolled", backend="nope")
        with pytest.raises(TypeError, match=r"code must be a torch\.Tensor, got list"):
            debias([], x, D)
        with pytest.raises(ValueError, match=r"'dal' knows neither"):
            SparseRecovery(D, 1.0, method="dal", positive=True)
        assert lasso(x, D, 1.0, max_iter=np.int64(500)).converged.all()

    def test_a_bound_for_each_column_is_a_buffer_of_the_layer(self):
        D = sensing_matrix(0, 20, 40)
        layer = SparseRecovery(D, 1.0, upper=torch.full((40,), 5.0), learn_lam=True)
        assert layer.state_dict()["upper"].shape == (40,)
        assert layer(measurements(D, 3, 0)).abs().max() == 5
        assert "lam=1" in repr(layer)

    def test_the_first_compilation_is_announced(self, monkeypatch, tmp_path, caplog):
        from pointsense.recovery.compiled import rows

        class Stats:
            cache_path = str(tmp_path)

        monkeypatch.setattr(type(rows.solve_rows), "stats", Stats)
        compiled_module._announce.cache_clear()
        with caplog.at_level(logging.WARNING):
            assert compiled_module.serves("auto", torch.ones(1))
        assert "compiling the recovery solvers for this machine: once" in caplog.text
        compiled_module._announce.cache_clear()
        Stats.cache_path = None
        compiled_module.serves("auto", torch.ones(1))
        assert "about 20 s in every process" in caplog.text
        compiled_module._announce.cache_clear()

    def test_without_a_place_to_keep_it_it_compiles_all_the_same(self, monkeypatch):
        import numba

        from pointsense.recovery.compiled import compiler

        plain = numba.njit

        def njit(*args, cache=False, **options):
            decorator = plain(*args, **options)

            def decorate(function):
                if cache:
                    raise RuntimeError("cannot cache function: no locator available")
                return decorator(function)

            return decorate

        monkeypatch.setattr(numba, "njit", njit)

        def double(number):
            return 2 * number

        assert compiler._compiler()(double)(3) == 6


class TestNoise:
    def test_weights_of_lengths_silence_every_column_alike(self):
        D = sensing_matrix(0, 60, 200) * torch.linspace(0.1, 1, 200, dtype=torch.float64)
        D[:, 5] = 0
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(2000, 60, generator=generator, dtype=torch.float64)
        weights = weights_from_noise(D)
        assert weights[5] == 1
        assert float(weights.max()) == 1
        code = lasso(noise, D, 0.8 * lam_from_noise(1.0, D), weights=weights).code
        entered = (code != 0).double().mean(0)
        short, long = entered[10:60].mean(), entered[150:].mean()
        assert 0.5 < short / long < 2
        plain = (lasso(noise, D, 0.8 * lam_from_noise(1.0, D)).code != 0).double().mean(0)
        assert plain[10:60].sum() == 0

    def test_debias_takes_back_the_shrinkage(self):
        D = sensing_matrix(0)
        truth = torch.zeros(2, 368, dtype=torch.float64)
        truth[0, [3, 100, 300]] = torch.tensor([50.0, -200.0, 120.0], dtype=torch.float64)
        x = truth @ D.T
        code = lasso(x, D, 20.0).code
        assert (code[0] - truth[0]).abs().max() > 10
        torch.testing.assert_close(debias(code, x, D, threshold=5.0), truth)
        assert debias(code.float(), x.float(), D.float()).dtype == torch.float32
        assert not debias(code, x, D, threshold=1e3).any()
        with pytest.raises(ValueError, match=r"code must be of shape \(2, 368\), got \(368,\)"):
            debias(code[0], x, D)
