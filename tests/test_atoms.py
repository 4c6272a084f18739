"""What atoms leave of the codes of an image: by torch, and compiled for the CPU."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsense.encoding import ProjectionCode
from pointsense.errors import DataError
from pointsense.inference.atoms import Atoms
from pointsense.inference.off_grid import atoms_of, highest, matched_filter, recover_measure
from pointsense.model.classes import Reading
from pointsense.recovery import compiled

pytest.importorskip("numba")
from pointsense.inference.compiled_atoms import CompiledAtoms, _add_signals, _correlate, _move


def random_case(kind, code, seed, count, side=(36, 50), blur=0.5):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(code.numbers, *code.lattice(*side), generator=generator)
    atoms = kind(code, codes, Reading(blur))
    # Anywhere that the windows cover: recovery may push atoms beyond the map, up to here.
    p = torch.rand(count, 2, generator=generator) * (atoms.extent - 0.01) - 0.499
    return atoms, p, torch.rand(count, generator=generator)


@given(
    seed=st.integers(0, 1000),
    count=st.integers(0, 60),
    shape=st.sampled_from([(24, 12, 8, 12), (24, 8, 5, 9), (16, 16, 4, 8)]),
    blur=st.sampled_from([0.0, 1.5]),
)
@settings(max_examples=25, deadline=None)
def test_compiled_atoms_are_those_of_torch(seed, count, shape, blur):
    code = ProjectionCode(*shape)
    plain, p, mass = random_case(Atoms, code, seed, count, blur=blur)
    fast, _, _ = random_case(CompiledAtoms, code, seed, count, blur=blur)
    for part in (slice(None), slice(count // 2)):  # the second time nothing of the first is left
        for ours, theirs in zip(
            fast.correlate(p[part], mass[part]), plain.correlate(p[part], mass[part]), strict=True
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_compiled_atoms_slide_as_those_of_torch():
    plain, p, mass = random_case(Atoms, ProjectionCode(24, 12, 8, 12), 4, 80)
    fast, _, _ = random_case(CompiledAtoms, ProjectionCode(24, 12, 8, 12), 4, 80)
    given = p.clone(), mass.clone()
    slid, expected = (atoms.slide(p, mass, 0.7, 5) for atoms in (fast, plain))
    for ours, theirs in zip(slid, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
    # All that ends a step takes part: the cap, no mass at all, and the borders.
    assert (slid[1] == 0.7).any()
    assert (slid[1] == 0).any()
    assert (slid[0] == -0.499).any()
    assert (slid[0] == plain.extent - 0.501).any()
    assert torch.equal(p, given[0])
    assert torch.equal(mass, given[1])


def test_compiled_atoms_take_the_steps_that_are_set_now(monkeypatch):
    before, p, mass = random_case(CompiledAtoms, ProjectionCode(24, 12, 8, 12), 4, 20)
    slid = before.slide(p, mass, 1.0, 1)
    monkeypatch.setattr("pointsense.inference.compiled_atoms.MASS_STEP", 0.0)
    monkeypatch.setattr("pointsense.inference.compiled_atoms.POSITION_STEP", 0.0)
    still = before.slide(p, mass, 1.0, 1)
    assert not torch.equal(slid[1], mass)
    assert torch.equal(still[0], p)
    assert torch.equal(still[1], mass)


@pytest.mark.parametrize("side", [(60, 60), (72, 72), (60, 84)])
def test_atoms_that_are_nowhere_are_in_no_window(side):
    fast, p, mass = random_case(CompiledAtoms, ProjectionCode(24, 12, 8, 12), 0, 6, side)
    alone = fast.correlate(p[:3], mass[:3])
    p[3], p[4], p[5] = (
        torch.tensor([math.nan, 5.0]),
        torch.tensor([1e30, -math.inf]),
        torch.tensor([3.0, 1e9]),
    )
    for ours, expected in zip(fast.correlate(p, mass), alone, strict=True):
        torch.testing.assert_close(ours[:3], expected)
        assert not ours[3:].any()


def test_codes_that_are_not_finite_are_told():
    code = ProjectionCode(24, 12, 8, 12)
    codes = torch.zeros(code.numbers, *code.lattice(48, 48))
    codes[0, 1, 1] = math.nan
    for read in (recover_measure, matched_filter):
        with pytest.raises(
            DataError, match="output is not finite: its weights are damaged, or half precision"
        ):
            read(code, codes)


def test_a_numba_that_fails_only_costs_time(monkeypatch, caplog):
    code = ProjectionCode(24, 12, 8, 12)
    codes = torch.zeros(code.numbers, *code.lattice(48, 48))

    def fails(name):
        raise ImportError("Numba needs NumPy 2.3 or less")

    compiled.installed.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(compiled.importlib, "import_module", fails)
            assert type(atoms_of(code, codes, Reading())) is Atoms
    finally:
        compiled.installed.cache_clear()
    assert "numba fails" in caplog.text
    assert "Numba needs NumPy 2.3 or less" in caplog.text


@pytest.mark.parametrize("kind", [Atoms, CompiledAtoms])
def test_correlations_are_the_derivatives_of_the_misfit(kind):
    seen, p, mass = random_case(kind, ProjectionCode(24, 12, 8, 12), 0, 12, blur=1.0)

    def misfit(p, mass):
        return 0.5 * seen.residual(p, mass).double().square().sum().item()

    each, _, gradient = seen.correlate(p, mass)
    step = 1e-2
    for k in range(len(p)):
        change = torch.zeros(len(p))
        change[k] = step
        by_mass = (misfit(p, mass + change) - misfit(p, mass - change)) / (2 * step)
        assert -by_mass == pytest.approx(each[k].sum().item(), rel=2e-3, abs=2e-2)
        for axis in range(2):
            shift = torch.zeros_like(p)
            shift[k, axis] = step
            moved = (misfit(p + shift, mass) - misfit(p - shift, mass)) / (2 * step)
            assert -moved == pytest.approx(mass[k].item() * gradient[k, axis].item(), rel=0.05, abs=0.03)


def test_what_is_found_does_not_depend_on_what_computes_it(monkeypatch):
    code = ProjectionCode(24, 12, 8, 12)
    generator = np.random.default_rng(3)
    points = torch.from_numpy(generator.uniform(2, 70, (40, 2))).float()
    lattice = code.lattice(72, 72)
    signal = code.signals(points, torch.ones(len(points)), lattice)
    codes = (signal @ code.sensing_matrix.T).permute(1, 2, 0).reshape(code.numbers, *lattice)
    assert isinstance(atoms_of(code, codes, Reading()), CompiledAtoms)
    found = recover_measure(code, codes)
    monkeypatch.setattr(compiled, "installed", lambda: False)
    assert type(atoms_of(code, codes, Reading())) is Atoms
    plain = recover_measure(code, codes)
    assert len(found.positions) == len(plain.positions) > 30
    torch.testing.assert_close(found.positions, plain.positions, atol=0.01, rtol=0)
    torch.testing.assert_close(found.supported, plain.supported, atol=0.01, rtol=0)
    peaks = matched_filter(code, codes, Reading(1.5, matched=True))
    monkeypatch.undo()
    compiled_peaks = matched_filter(code, codes, Reading(1.5, matched=True))
    torch.testing.assert_close(peaks.positions, compiled_peaks.positions, atol=1e-4, rtol=0)
    torch.testing.assert_close(peaks.supported, compiled_peaks.supported, atol=1e-3, rtol=0)


def test_nothing_is_compiled_twice():
    code = ProjectionCode(24, 12, 8, 12)
    codes = torch.randn(code.numbers, *code.lattice(36, 50), generator=torch.Generator().manual_seed(0))
    guesses = torch.rand(2, 30, generator=torch.Generator().manual_seed(1)).T * 30  # columns that lie apart
    for start in (None, guesses, guesses.contiguous()):
        recover_measure(code, codes, start=start)
    assert [len(loop.signatures) for loop in (_add_signals, _correlate, _move)] == [1, 1, 1]


@pytest.mark.parametrize("radius", [1, 4])
def test_the_highest_of_a_neighbourhood_is_what_pooling_finds(radius):
    values = torch.randn(13, 7, generator=torch.Generator().manual_seed(0))
    values[0, 0] = -math.inf
    pooled = torch.nn.functional.max_pool2d(values[None, None], 2 * radius + 1, 1, radius)[0, 0]
    assert torch.equal(highest(values, radius), pooled)
