"""Gradients through the lasso: the rules of eqs. (5)-(9) against differences, each other and autograd."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pointsense.recovery import ConvergenceWarning, SparseRecovery, lam_max, lasso, sparse_code
from pointsense.recovery import gradients as gradients_module
from pointsense.recovery.problem import soft_threshold
from recovery_problems import measurements, sensing_matrix

H = 1e-4
"""Step of the differences."""


def moved(x, D, lam, direction, step):
    """The solution of a problem that is moved along (dx, dD, dlam)."""
    return lasso(*(v + step * d for v, d in zip((x, D, lam), direction, strict=True)), method="homotopy").code


def one_by_one(directions):
    """Directions that move x, D and lam alone."""
    return [[d if j == i else 0 * d for j, d in enumerate(directions)] for i in range(3)]


def central_difference(x, D, lam, weights, direction, support, h=H):
    """Directional derivative of sum(weights * code) along (dx, dD, dlam), of fourth order in h."""

    def value(step):
        code = moved(x, D, lam, direction, step)
        assert torch.equal(code != 0, support), "the support moves: no derivative to compare with"
        return (code * weights).sum()

    return (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)


def gradients(x, D, lam, weights, **options):
    leaves = [v.clone().requires_grad_() for v in (x, D, lam)]
    (sparse_code(*leaves, **options) * weights).sum().backward()
    return [v.grad for v in leaves]


def problem(seed, m=20, n=40, rows=3, fraction=0.2):
    """Well-scaled problem, random loss weights and random directions: of unit size, for D of its own size.

    The solution bends the more in D the smaller D is.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    D, x = normal(m, n) / m**0.5, 3 * normal(rows, m)
    lam = fraction * lam_max(x, D)
    return x, D, lam, normal(rows, n), (normal(rows, m), normal(m, n) * D.abs().max(), normal(rows))


def assert_matches_differences(x, D, lam, weights, directions, **options):
    """To 1e-6 relative, for x, D and lam one at a time, where the support holds on all sides."""
    support = lasso(x, D, lam, method="homotopy").code != 0
    grads = gradients(x, D, lam, weights, **options)
    for i, (name, direction) in enumerate(zip(("x", "D", "lam"), one_by_one(directions), strict=True)):
        numeric = central_difference(x, D, lam, weights, direction, support)
        terms = grads[i] * directions[i]
        tolerance = {"rtol": 1e-6, "atol": 1e-9 + 1e-8 * float(terms.abs().sum())}
        torch.testing.assert_close(terms.sum(), numeric, **tolerance, msg=lambda m, n=name: f"d{n}: {m}")


@pytest.mark.parametrize("method", ["auto", "homotopy", "fista", "dal"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_exact_equals_central_differences(method, seed):
    assert_matches_differences(*problem(seed), method=method)


def test_exact_at_the_papers_size():
    D = sensing_matrix(0)
    x = measurements(D, 4, 0)
    lam = torch.full((4,), 20.0, dtype=torch.float64)
    _, _, _, weights, directions = problem(0, *D.shape, rows=4)
    assert_matches_differences(x, D, lam, weights, directions)


def test_exact_for_an_empty_support():
    x, D, _, weights, directions = problem(4)
    lam = 1.5 * lam_max(x, D)
    assert_matches_differences(x, D, lam, weights, directions)
    assert not any(g.any() for g in gradients(x, D, lam, weights))


def test_exact_for_a_full_support():
    """All n columns of a tall matrix, and m of the n columns of a wide one."""
    x, D, _, weights, directions = problem(5, m=20, n=8)
    lam = 1e-3 * lam_max(x, D)
    assert (sparse_code(x, D, lam) != 0).all()
    assert_matches_differences(x, D, lam, weights, directions)

    x, D, _, weights, directions = problem(6, m=8, n=20)
    lam = 1e-4 * lam_max(x, D)
    assert ((sparse_code(x, D, lam) != 0).sum(-1) == 8).all()
    assert_matches_differences(x, D, lam, weights, directions)


@settings(max_examples=25, deadline=None)
@given(
    m=st.integers(1, 12),
    n=st.integers(1, 16),
    seed=st.integers(0, 10_000),
    fraction=st.sampled_from([0.1, 0.5, 0.9]),
)
def test_exact_over_sizes(m, n, seed, fraction):
    x, D, lam, weights, directions = problem(seed, m, n, fraction=fraction)
    code = lasso(x, D, lam, method="homotopy").code
    margin = lam[:, None] - ((x - code @ D.T) @ D).abs()
    off = margin[code == 0].min() if (code == 0).any() else torch.tensor(1.0)
    assume(off > 1e-2 and code[code != 0].abs().min() > 1e-2)
    smallest = [torch.linalg.svdvals(D[:, row != 0]).amin() for row in code if row.any()]
    assume(all(value > 0.05 for value in smallest))
    # Where columns are nearly alike even such a margin may be too small for the steps of the differences.
    ends = [(d, step) for d in one_by_one(directions) for step in (-2 * H, 2 * H)]
    assume(all(torch.equal(moved(x, D, lam, *end) != 0, code != 0) for end in ends))
    assert_matches_differences(x, D, lam, weights, directions)


def test_gradcheck():
    x, D, lam, _, _ = problem(7, m=6, n=9, rows=2, fraction=0.3)
    leaves = [v.requires_grad_() for v in (x, D, lam)]
    assert torch.autograd.gradcheck(lambda *v: sparse_code(*v, method="homotopy"), leaves, rtol=1e-5)
    scalar = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: sparse_code(x.detach(), D.detach(), w), [scalar], rtol=1e-5)


def test_paper_rule_is_eqs_8_and_9():
    x, D, lam, g, _ = problem(8)
    code = lasso(x, D, lam, method="homotopy").code
    dx, dD, dlam = gradients(x, D, lam, g, backward="paper", method="homotopy")
    want_D = torch.zeros_like(D)
    for b in range(len(x)):
        p = code[b].nonzero()[:, 0]
        Dp, gp, ap, r = D[:, p], g[b, p], code[b, p], x[b] - D @ code[b]
        torch.testing.assert_close(dx[b], Dp @ gp, rtol=1e-10, atol=1e-10)  # eq. (8)
        want_D[:, p] += torch.outer(r, gp) - torch.outer(Dp @ gp, ap)  # eq. (9)
        torch.testing.assert_close(dlam[b], -(ap.sign() @ gp), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(dD, want_D, rtol=1e-10, atol=1e-10)


def test_exact_rule_is_eqs_5_to_7():
    x, D, lam, g, _ = problem(8)
    code = lasso(x, D, lam, method="homotopy").code
    dx, dD, dlam = gradients(x, D, lam, g)
    want_D = torch.zeros_like(D)
    for b in range(len(x)):
        p = code[b].nonzero()[:, 0]
        Dp, ap, r = D[:, p], code[b, p], x[b] - D @ code[b]
        u = torch.linalg.inv(Dp.T @ Dp) @ g[b, p]
        torch.testing.assert_close(dx[b], Dp @ u)  # eq. (5)
        want_D[:, p] += torch.outer(r, u) - torch.outer(Dp @ u, ap)  # eq. (6)
        torch.testing.assert_close(dlam[b], -(ap.sign() @ u))
    torch.testing.assert_close(dD, want_D)
    never = (code == 0).all(0)
    assert never.any()
    assert not dD[:, never].any()  # eq. (7)


def test_paper_rule_is_the_derivative_of_one_unit_ista_step():
    x, D, lam, g, _ = problem(9)
    code = lasso(x, D, lam, method="homotopy").code
    leaves = [v.clone().requires_grad_() for v in (x, D, lam)]
    step = soft_threshold(code + (leaves[0] - code @ leaves[1].T) @ leaves[1], leaves[2][:, None])
    torch.testing.assert_close(step, code)
    (step * g).sum().backward()
    for analytic, leaf in zip(gradients(x, D, lam, g, backward="paper"), leaves, strict=True):
        torch.testing.assert_close(analytic, leaf.grad)


def test_paper_rule_for_x_is_the_gauss_newton_step():
    """Moving x by -t D_p g moves a_p by -t g, as long as the support holds."""
    x, D, lam, g, _ = problem(10)
    dx, _, _ = gradients(x, D, lam, g, backward="paper")
    code = lasso(x, D, lam, method="homotopy").code
    t = 1e-4
    moved = lasso(x - t * dx, D, lam, method="homotopy").code
    torch.testing.assert_close(moved, code - t * g * (code != 0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["fista", "ista", "auto"])
def test_unrolled_tends_to_exact(method):
    x, D, lam, g, _ = problem(11)
    exact = gradients(x, D, lam, g)
    for a, b in zip(
        gradients(x, D, lam, g, backward="unrolled", method=method, max_iter=800), exact, strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    # A given number of steps is kept to.
    few = sparse_code(x, D, lam, backward="unrolled", method=method, max_iter=3)
    many = sparse_code(x, D, lam, backward="unrolled", method=method, max_iter=4)
    assert not torch.allclose(few, many)


def test_ridge_damps_the_exact_gradient():
    x, D, lam, g, _ = problem(12)
    code = lasso(x, D, lam).code
    dx, _, _ = gradients(x, D, lam, g, ridge=0.5)
    p = code[0] != 0
    u = torch.linalg.solve(D[:, p].T @ D[:, p] + 0.5 * torch.eye(int(p.sum())), g[0, p])
    torch.testing.assert_close(dx[0], D[:, p] @ u)


@pytest.fixture
def fresh_warning(monkeypatch):
    monkeypatch.setattr(gradients_module, "_said_singular", False)


@pytest.mark.parametrize("method", ["fista", "dal"])
def test_singular_support_takes_the_minimum_norm_and_warns_once(method, fresh_warning):
    """Two equal columns share their coefficient: D_p^T D_p is singular."""
    x, D, lam, g, _ = problem(13)
    first = int(lasso(x, D, lam).code[0].abs().argmax())
    D = torch.cat([D, D[:, first : first + 1]], dim=1)
    g = torch.cat([g, g[:, first : first + 1]], dim=1)  # in the range: there a small ridge tends to it
    with pytest.warns(RuntimeWarning, match="singular on the support"):
        grads = gradients(x, D, lam, g, method=method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = gradients(x, D, lam, g, method=method)
        sound = gradients(x, D, lam, g, method=method, ridge=1e-6)
    for one, two, three in zip(grads, again, sound, strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, two)
        torch.testing.assert_close(one, three, rtol=1e-3, atol=1e-3)
    code = lasso(x, D, lam, method=method).code[0]
    p = code != 0
    assert p[first]
    assert p[-1]
    u = torch.linalg.pinv(D[:, p].T @ D[:, p], hermitian=True) @ g[0, p]
    torch.testing.assert_close(grads[0][0], D[:, p] @ u)


def test_zero_measurements_and_zero_columns_have_zero_gradients():
    x, D, lam, g, _ = problem(14)
    x[0], D[:, 3] = 0, 0
    for backward in ("exact", "paper", "unrolled"):
        dx, dD, dlam = gradients(x, D, lam, g, backward=backward)
        assert not dx[0].any()
        assert dlam[0] == 0
        assert torch.isfinite(dD).all()
        assert dx[1].any()


def test_not_converged_warns_only_when_a_gradient_is_asked_for():
    x, D, lam, _, _ = problem(15)
    sparse_code(x, D, lam, method="ista", max_iter=2)
    with pytest.warns(ConvergenceWarning, match="3 of 3 right-hand sides") as told:
        sparse_code(x.requires_grad_(), D, lam, method="ista", max_iter=2)
    assert told[0].filename == __file__  # who called
    with torch.no_grad():
        sparse_code(x, D, lam, method="ista", max_iter=2)
    sparse_code(x, D, lam, backward="unrolled", max_iter=2)  # a fixed depth promises nothing
    with pytest.warns(ConvergenceWarning):
        sparse_code(x, D, lam, backward="unrolled", max_iter=2, tol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backward", ["exact", "paper", "unrolled"])
def test_dtypes_are_kept_and_autocast_does_no_harm(dtype, backward):
    x, D, lam, g, _ = problem(16)
    rounded = x.to(dtype)
    want = gradients(rounded.double(), D, lam, g, backward=backward)
    leaves = [v.requires_grad_() for v in (rounded, D.float(), lam.float())]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        code = sparse_code(*leaves, backward=backward)
        loss = (code.float() * g.float()).sum()
    loss.backward()
    assert code.dtype == dtype
    for leaf, wanted in zip(leaves, want, strict=True):
        assert leaf.grad.dtype == leaf.dtype
        similarity = torch.nn.functional.cosine_similarity(
            leaf.grad.double().flatten(), wanted.flatten(), dim=0
        )
        assert similarity > 0.999


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"backward": "implicit"}, "backward must be one of exact, paper, unrolled, got 'implicit'"),
        ({"method": "omp"}, "method must be one of auto, active_set, homotopy, fista, ista, dal, got 'omp'"),
        ({"ridge": -1.0}, "ridge must be 0 or more"),
        ({"backward": "unrolled", "method": "dal"}, "goes with method auto, fista or ista, got 'dal'"),
    ],
)
def test_mistakes_are_named(options, text):
    x, D, lam, _, _ = problem(1)
    with pytest.raises(ValueError, match=text):
        sparse_code(x, D, lam, **options)


def examples_of_the_docs():
    text = (Path(__file__).parent.parent / "docs" / "recovery.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_network_of_the_docs_runs():
    scope: dict = {}
    torch.manual_seed(0)
    exec(examples_of_the_docs()[0], scope)
    assert scope["recover"].D.grad.any()
    assert scope["result"].converged.all()


def test_the_worked_example_of_the_docs_finds_pulse_and_spikes():
    scope: dict = {}
    exec(examples_of_the_docs()[1], scope)
    assert abs(float(scope["width"].detach()) - 3) < 0.15
    assert scope["result"].converged.all()
    assert torch.equal(scope["found"], scope["truth"][10:] > 0)
    error = (scope["spikes"] - scope["truth"][10:]).norm() / scope["truth"][10:].norm()
    assert error < 0.15


class TestLayer:
    def test_learns_what_it_is_told_to(self):
        _, D, _, _, _ = problem(17)
        assert not list(SparseRecovery(D, 0.1).parameters())
        assert {k for k, _ in SparseRecovery(D, 0.1, learn_sensing=True).named_parameters()} == {"D"}
        both = SparseRecovery(D, 0.1, learn_sensing=True, learn_lam=True)
        assert {k for k, _ in both.named_parameters()} == {"D", "log_lam"}
        torch.testing.assert_close(both.lam.detach(), torch.tensor(0.1, dtype=torch.float64))

    def test_forward_is_sparse_code(self):
        x, D, _, _, _ = problem(18)
        layer = SparseRecovery(D, 0.5, backward="paper")
        torch.testing.assert_close(layer(x), sparse_code(x, D, 0.5, backward="paper"))
        assert layer(x.reshape(3, 1, 20)).shape == (3, 1, 40)
        assert "m=20, n=40, lam=0.5" in repr(layer)

    def test_gradient_descent_learns_the_matrix_and_the_weight(self):
        """Codes of another matrix and weight are fitted through the exact gradient."""
        x, D, _, _, (_, noise, _) = problem(19, rows=30)
        target = sparse_code(x, D, 0.3)
        layer = SparseRecovery(D + 0.05 * noise, 0.6, learn_sensing=True, learn_lam=True)
        optimizer = torch.optim.Adam(layer.parameters(), lr=5e-3)
        losses = []
        for _ in range(40):
            loss = (layer(x) - target).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.5 * losses[0]
        assert float(layer.lam.detach()) < 0.6

    def test_state_goes_round(self):
        x, D, _, _, _ = problem(20)
        layer = SparseRecovery(D, 0.5, learn_sensing=True)
        other = SparseRecovery(torch.zeros_like(D), 1.0, learn_sensing=True)
        other.load_state_dict(layer.state_dict())
        torch.testing.assert_close(other(x), layer(x))

    def test_mistakes_are_named(self):
        _, D, _, _, _ = problem(21)
        with pytest.raises(ValueError, match="lam must be above 0, got 0"):
            SparseRecovery(D, 0.0, learn_lam=True)
        with pytest.raises(ValueError, match="method must be one of"):
            SparseRecovery(D, 1.0, method="lars")
        with pytest.raises(ValueError, match=r"\(m, n\) tensor"):
            SparseRecovery(D[0], 1.0)
        with pytest.raises(ValueError, match="lam must not be negative"):
            SparseRecovery(D, -1.0)
