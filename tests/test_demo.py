"""The demo end to end, on fewer images and for a few steps: its files, its page and its last lines."""

import json
import re

import numpy as np
import pytest

from conftest import TINY
from pointsense import demo
from pointsense.cli import main
from pointsense.demo import DemoResult, run_demo
from pointsense.reporting.code_section import _window


def test_files_page_and_scores(tmp_path):
    result = run_demo(tmp_path, images=8, settings=TINY)
    assert result.page == tmp_path / "report.html"
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["pointsense"]["overall"]["f1"] == result.f1
    assert scores["log"]["overall"]["f1"] == result.log_f1
    assert set(scores["pointsense"]["images"]) == set(scores["log"]["images"])
    chosen_on = json.loads((tmp_path / "model" / "metrics.json").read_text())["selection"]["images"]
    assert not set(scores["pointsense"]["images"]) & set(chosen_on)

    page = result.page.read_text()
    assert "http" not in re.sub(r"http://www\.w3\.org\S*", "", page)  # nothing is fetched
    for heading in ("Held-out images", "The code of one window", "Training and the choice of the threshold"):
        assert f"<h2>{heading}</h2>" in page
    held_out = len(scores["pointsense"]["images"])
    assert page.count("data:image/png;base64,") == 2 * min(held_out, demo.SHOWN_IMAGES) + 3
    assert f"<b>{result.f1:.2f}</b><span>F1 of pointsense" in page


def test_last_lines(tmp_path, capsys, monkeypatch):
    page = tmp_path / "demo" / "report.html"
    seen = {}

    def quick(out, **options):
        seen.update(options, out=out)
        return DemoResult(page, f1=0.9749, log_f1=0.8)

    monkeypatch.setattr(demo, "run_demo", quick)
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--out", str(tmp_path / "demo"), "--seed", "4"])
    assert not stop.value.code
    assert capsys.readouterr().out.splitlines()[-3:] == [f"report: {page}", "LoG F1 0.80", "F1 0.97"]
    assert (seen["out"], seen["seed"]) == (tmp_path / "demo", 4)


def test_folder_in_use(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert "is not empty; give another --out, or --overwrite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("box", "part"),
    [((1, 2, 3, 5), np.s_[1:3, 2:5]), ((0, 0, 6, 7), np.s_[:, :])],
)
def test_window_inside(box, part):
    image = np.arange(6 * 7, dtype=np.uint8).reshape(6, 7, 1)
    np.testing.assert_array_equal(_window(image, box), image[part])


def test_window_beyond_the_image_is_black():
    image = np.full((6, 7, 1), 9, np.uint8)
    window = _window(image, (-2, 5, 8, 10))
    assert window.shape == (10, 5, 1)
    assert window[2:8, :2].min() == 9
    assert window.sum() == 9 * 6 * 2
