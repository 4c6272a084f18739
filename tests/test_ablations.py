"""The code's ablations: what comes back of points, and the page that says so."""

import json

import pytest

from conftest import TINY
from pointsense.datasets import load_dataset
from pointsense.errors import UsageError
from pointsense.experiments import ablations, code_ablations
from pointsense.experiments.ablations import ablate
from pointsense.experiments.code_ablations import best_of, paper
from pointsense.experiments.simulation import Setting, exact_supports, through_axes, through_map
from pointsense.model.config import override
from pointsense.model.presets import preset
from test_cli import cli, one_error  # noqa: F401  fixtures

FEW = Setting(patches=3, points=4, side=260, radius=20.0)


def test_points_are_apart_and_drawn_alike():
    one, other = FEW.draw(), FEW.draw()
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert FEW.score(one, one).overall.f1 == 1
    for points in one:
        distances = [((p - q) ** 2).sum() ** 0.5 for p in points for q in points if (p != q).any()]
        assert min(distances) >= 50


def test_a_patch_may_be_too_small_for_its_points():
    with pytest.raises(UsageError, match=r"a patch of 60 px has no room for 9 points 50 px apart"):
        Setting(patches=1, points=9, side=60, radius=20.0).draw()


def test_too_few_measurements_bring_no_support_back():
    dense = Setting(3, 16, 260, 8.0)
    assert exact_supports(paper(FEW), FEW) == 1
    assert exact_supports(paper(FEW, measurements=28), dense) < 0.1
    assert exact_supports(paper(FEW, measurements=224), dense) == 1
    assert exact_supports(paper(FEW, lam=300.0), FEW) < 1  # entries below the threshold are missed


def test_axes_and_maps_bring_points_back_until_noise_hides_them():
    assert through_axes(paper(FEW), FEW, 0.0).overall.f1 == 1
    assert through_axes(paper(FEW), FEW, 0.4).overall.f1 < 0.5
    small = Setting(3, 4, 64, 5.0)
    assert through_map(128, small, 0.0, lam=0.03, threshold=0.5).overall.f1 == 1
    assert through_map(16, small, 0.4, lam=0.03, threshold=0.5).overall.f1 < 0.9


def test_the_threshold_grows_with_the_patch():
    assert paper(FEW).amplitude_threshold == 15
    assert paper(Setting(1, 1, 130, 5.0)).amplitude_threshold == 7.5


def test_a_choice_is_made_on_other_patches():
    def score(choice, setting):
        asked.append((choice["lam"], setting.seed))
        return through_axes(paper(setting, axes=3, **choice), setting, 0.0)

    asked = []
    two = Setting(2, 2, 260, 20.0, seed=5)
    assert best_of([{"lam": 390.0}, {"lam": 0.39}], score, two) == (1, {"lam": 0.39})
    assert asked == [(390.0, 6), (0.39, 6), (0.39, 5)]


def test_the_page(monkeypatch, tmp_path):
    monkeypatch.setattr(ablations, "SEEDS", 1)
    monkeypatch.setattr(ablations, "SMALL", {"steps": 2, "batch": 2, "patch": 64, "width": 8, "checks": 1})
    for name, value in {
        "AXES": (1, 3), "NOISES": (0.0,), "COMPARED_NOISES": (0.0,), "WEIGHTS": (0.39,), "THRESHOLDS": (15.0,),
        "BUDGETS": (64,), "MAP_WEIGHTS": (0.03,), "MAP_THRESHOLDS": (0.5,), "MEASUREMENTS": (112,), "OBJECTS": (1,),
    }.items():  # fmt: skip
        monkeypatch.setattr(code_ablations, name, value)
    said = []
    text = ablate(tmp_path, minutes=1.0, patches=2, device="cpu", told=said.append)
    assert len(said) == 6
    assert (tmp_path / "ablations.md").read_text() == text
    assert text.count("\n## ") == 7
    assert "\n| 0.39 | 1.00 |\n" in text
    assert (tmp_path / "ablations.png").read_bytes().startswith(b"\x89PNG")
    tables = json.loads((tmp_path / "ablations.json").read_text())["tables"]
    assert tables[3]["chosen"]["1"] == [{"lam": 0.39, "minimum_votes": 1}]
    assert tables[-1]["lines"]["steps, β = 0"] == [2.0]
    assert len(tables[-1]["lines"]) == 6


def test_the_count_on_given_images(monkeypatch, cells, tmp_path):
    monkeypatch.setattr(ablations, "SEEDS", 1)
    monkeypatch.setattr(ablations, "preset", lambda name: override(preset(name), TINY | {"steps": 2}))
    table = ablations.count_label(
        tmp_path, load_dataset(cells), minutes=1.0, seed=0, device="cpu", report=None
    )
    assert "trained on 4 images of data, and scored on 2 others within 6 px" in table.words
    assert table.lines["steps, β = 0.02"] == [2.0]


def test_from_the_command_line(cli, one_error, cells, monkeypatch, tmp_path):  # noqa: F811
    said = {}
    monkeypatch.setattr(
        ablations, "ablate", lambda out, dataset, **options: said.update(options, data=dataset) or "the page"
    )
    assert cli("reproduce", "ablations", "-o", tmp_path, "--budget", 2, "--seed", 3)[:2] == (
        0,
        f"the page\n{tmp_path / 'ablations.md'}\n",
    )
    assert (said["minutes"], said["seed"], said["data"]) == (2, 3, None)
    assert cli("reproduce", "ablations", "-o", tmp_path, "--data", cells)[0] == 0
    assert len(said["data"].samples) == 6
    for strange in (("--scale", 0.5), ("--um-per-px", 0.25), ("--set", "steps=2")):
        code, error = one_error("reproduce", "ablations", "-o", tmp_path, *strange)
        assert (code, "ablations know --data" in error) == (2, True)
    for name, place in (
        ("table2", "the ICPR 2012 mitosis contest"),
        ("agreement", "TUPAC16_AlternativeLabels"),
    ):
        code, error = one_error("reproduce", name, "-o", tmp_path)
        assert (code, place in error, "their folder with --data" in error) == (2, True, True)


@pytest.mark.parametrize("name", ["table9", "figure"])
def test_unknown_experiments(one_error, tmp_path, name):  # noqa: F811
    code, error = one_error("reproduce", name, "-o", tmp_path)
    assert (code, "ablations or agreement" in error) == (2, True)
