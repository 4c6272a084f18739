"""Orthogonal matching pursuit and LISTA, by their own definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsense.recovery import LISTA, lam_max, lasso, omp
from pointsense.recovery.problem import largest_eigenvalue
from recovery_problems import measurements, sensing_matrix


def omp_by_definition(x, D, k):
    """One right-hand side: best cosine, least squares, repeat."""
    chosen: list[int] = []
    code = torch.zeros(D.shape[1], dtype=torch.float64)
    for _ in range(k):
        cosine = ((x - D @ code) @ D).abs() / D.norm(dim=0).clamp_min(1e-300)
        chosen.append(int(cosine.argmax()))
        code = torch.zeros_like(code)
        code[chosen] = torch.linalg.lstsq(D[:, chosen], x[:, None]).solution[:, 0]
    return code


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_omp_is_its_definition(seed):
    D = sensing_matrix(seed, 30, 70) * torch.linspace(0.5, 2, 70)
    if seed == 5:
        D[:, 20:] += 1e-3 * sensing_matrix(0, 30, 50)  # no exact duplicates: ties have no definition
        D[:, :10] = 0
    x = measurements(D, 6, seed, noise=0.1)
    code = omp(x, D, 5)
    assert not code[0].any()
    for row, wanted in zip(code[1:], x[1:], strict=True):
        torch.testing.assert_close(row, omp_by_definition(wanted, D, 5))


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_omp_takes_nothing_where_all_may_be_left(backend):
    D = sensing_matrix(0, 30, 70)
    assert not omp(measurements(D, 4, 0), D, 5, tol=1.0, backend=backend).any()


def test_omp_finds_a_sparse_code_and_stops():
    D = sensing_matrix(0)
    truth = torch.zeros(3, 368, dtype=torch.float64)
    truth[0, [3, 100, 300]] = torch.tensor([50.0, -200.0, 120.0], dtype=torch.float64)
    truth[1, 7] = 9.0
    torch.testing.assert_close(omp(truth @ D.T, D, 20), truth)
    # tol stops earlier: one atom leaves |120 and 50 of 239|.
    rough = omp(truth @ D.T, D, 20, tol=0.7)
    assert (rough != 0).sum(-1).tolist() == [1, 1, 0]
    assert not omp(truth @ D.T, D, 0).any()


@settings(max_examples=50, deadline=None)
@given(
    m=st.integers(1, 8),
    n=st.integers(1, 12),
    k=st.integers(0, 15),
    seed=st.integers(0, 1000),
    whole=st.booleans(),
)
def test_omp_is_a_projection(m, n, k, seed, whole):
    """Residual orthogonal to the chosen columns, at most k of them, never NaN: dependent columns included."""
    generator = torch.Generator().manual_seed(seed)
    D = torch.randn(m, n, generator=generator, dtype=torch.float64)
    D = D.round() if whole else D
    x = torch.randn(3, m, generator=generator, dtype=torch.float64).mul(3).round()
    code = omp(x, D, k)
    assert torch.isfinite(code).all()
    assert ((code != 0).sum(-1) <= min(k, m, n)).all()
    correlation = (x - code @ D.T) @ D
    assert correlation[code != 0].abs().max().item() < 1e-9 if code.any() else True
    if k >= min(m, n):
        assert correlation.abs().max() < 1e-9


def test_omp_keeps_shape_and_dtype_and_names_mistakes():
    D = sensing_matrix(0, 10, 20)
    x = measurements(D, 6, 0).float().reshape(2, 3, 10)
    assert omp(x, D, 2).shape == (2, 3, 20)
    assert omp(x, D, 2).dtype == torch.float32
    with pytest.raises(ValueError, match="k must be a number of non-zeros, 0 or more, got -1"):
        omp(x, D, -1)
    with pytest.raises(ValueError, match="tol must be 0 or more"):
        omp(x, D, 1, tol=-0.1)
    with pytest.raises(ValueError, match="10 rows of D"):
        omp(x[..., :4], D, 1)


@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_lista_at_its_initialisation_is_ista(steps):
    D = sensing_matrix(0)
    x = measurements(D, 5, 0)
    lam = 0.05 * float(lam_max(x, D).max())
    ista = lasso(x, D, lam, method="ista", max_iter=steps, tol=1e-15).code
    torch.testing.assert_close(LISTA(D, lam, steps)(x), ista, rtol=1e-10, atol=1e-10)


def test_lista_as_printed_diverges():
    """W = D^T, S = D^T D of the paper's text, as an update."""
    D = sensing_matrix(0)
    x = measurements(D, 3, 0)[1:]
    sound = LISTA(D, 0.39, 40)
    printed = LISTA(D, 0.39, 40)
    printed.load_state_dict({"W": D.T, "S": D.T @ D, "theta": torch.full((368,), 0.39)})
    assert sound(x).abs().max() < 1e3
    assert printed(x).abs().max() > 1e20
    assert 6.5 < float(largest_eigenvalue(D)) < 8.5  # (1 + sqrt(n / m))^2 = 7.9


def test_lista_learns_to_be_better_than_ista():
    D = sensing_matrix(0, 16, 32)
    x = measurements(D, 65, 0)[1:] / 100
    truth = lasso(x, D, 0.1).code
    model = LISTA(D, 0.1, 5)
    assert {name for name, _ in model.named_parameters()} == {"W", "S", "theta"}
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    before = float((model(x) - truth).square().mean().detach())
    for _ in range(60):
        loss = (model(x) - truth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad.abs().sum() > 0 for p in model.parameters())
        optimizer.step()
    assert float(loss.detach()) < 0.5 * before


def test_lista_names_mistakes():
    D = sensing_matrix(0, 4, 6)
    with pytest.raises(ValueError, match="steps must be an integer, 1 or more, got 0"):
        LISTA(D, 0.1, 0)
    with pytest.raises(ValueError, match="lam must be a number, 0 or more, got -1"):
        LISTA(D, -1.0)
    with pytest.raises(ValueError, match=r"n = 5000 is above 4096.*unrolled"):
        LISTA(torch.zeros(2, 5000), 0.1)
