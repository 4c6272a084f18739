"""The code's ablations: what comes back of points, and the page that says so."""

import json

import pytest

from pointsense.experiments import ablations
from pointsense.experiments.ablations import ablate, best_of, paper
from pointsense.experiments.simulation import Setting, exact_supports, through_axes, through_map
from test_cli import cli, one_error  # noqa: F401  fixtures

FEW = Setting(patches=3, points=4, side=260, radius=20.0)


def test_points_are_apart_and_drawn_alike():
    one, other = FEW.draw(), FEW.draw()
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert FEW.score(one, one).overall.f1 == 1
    for points in one:
        distances = [((p - q) ** 2).sum() ** 0.5 for p in points for q in points if (p != q).any()]
        assert min(distances) >= 50


def test_too_few_measurements_bring_no_support_back():
    dense = Setting(3, 16, 260, 8.0)
    assert exact_supports(paper(), FEW) == 1
    assert exact_supports(paper(measurements=28), dense) < 0.1
    assert exact_supports(paper(measurements=224), dense) == 1


def test_axes_and_maps_bring_points_back_until_noise_hides_them():
    assert through_axes(paper(), FEW, 0.0).overall.f1 == 1
    assert through_axes(paper(), FEW, 0.4).overall.f1 < 0.5
    small = Setting(3, 4, 64, 5.0)
    assert through_map(128, 0.03, small, 0.0).overall.f1 == 1
    assert through_map(16, 0.03, small, 0.4).overall.f1 < 0.9


def test_a_weight_is_chosen_on_other_patches():
    def score(lam, seed):
        asked.append((lam, seed))
        return through_axes(paper(lam=lam, axes=3), Setting(2, 2, 260, 20.0, seed), 0.0)

    asked = []
    assert best_of((0.39, 390.0), score, 5) == 1
    assert asked == [(0.39, 6), (390.0, 6), (0.39, 5)]


def test_the_page(monkeypatch, tmp_path):
    tiny = {"steps": 2, "batch": 2, "patch": 64, "width": 8, "checks": 1}
    for name, value in {
        "SETTINGS": tiny, "SEEDS": 1, "AXES": (1, 3), "NOISES": (0.0,), "WEIGHTS": (0.39,), "THRESHOLDS": (15.0,),
        "BUDGETS": (64,), "MAP_WEIGHTS": (0.1,), "MEASUREMENTS": (112,), "OBJECTS": (1,),
    }.items():  # fmt: skip
        monkeypatch.setattr(ablations, name, value)
    text = ablate(tmp_path, minutes=1.0, patches=2, device="cpu")
    assert (tmp_path / "ablations.md").read_text() == text
    assert text.count("\n## ") == 7
    assert "\n| 0.39 | 1.000 |\n" in text
    assert (tmp_path / "ablations.png").read_bytes().startswith(b"\x89PNG")
    tables = json.loads((tmp_path / "ablations.json").read_text())["tables"]
    assert set(tables[-1]["lines"]) == {
        "F1 with a count", "F1 without a count", "count MAE with a count", "count MAE without a count",
    }  # fmt: skip


def test_from_the_command_line(cli, one_error, monkeypatch, tmp_path):  # noqa: F811
    said = {}
    monkeypatch.setattr(ablations, "ablate", lambda out, **options: said.update(options) or "the page")
    assert cli("reproduce", "ablations", "-o", tmp_path, "--budget", 2, "--seed", 3)[:2] == (
        0,
        f"the page\n{tmp_path / 'ablations.md'}\n",
    )
    assert (said["minutes"], said["seed"]) == (2, 3)
    code, error = one_error("reproduce", "ablations", "-o", tmp_path, "--data", tmp_path)
    assert (code, "they need no data" in error) == (2, True)
    code, error = one_error("reproduce", "table2", "-o", tmp_path)
    assert (code, "give their folder with --data" in error) == (2, True)


@pytest.mark.parametrize("name", ["table9", "figure"])
def test_unknown_experiments(one_error, tmp_path, name):  # noqa: F811
    code, error = one_error("reproduce", name, "-o", tmp_path)
    assert (code, "ablations or agreement" in error) == (2, True)
