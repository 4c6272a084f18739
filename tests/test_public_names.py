"""`import pointsense` and --help are quick: nothing heavy is imported before it is needed."""

import subprocess
import sys

import pytest

import pointsense

TELL = (
    "import sys; print(sorted({'torch', 'torch._dynamo', 'numpy', 'matplotlib', 'timm'} & set(sys.modules)))"
)


def heavy_after(code):
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{TELL}"], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.splitlines()[-1]


def test_import_is_light():
    assert heavy_after("import pointsense") == "[]"
    assert "torch" in heavy_after("import pointsense; pointsense.lasso")  # the list can tell


def test_image_side_needs_no_torch():
    code = "import pointsense as p; p.read_image, p.load_dataset, p.Detections, p.match, p.evaluate, p.check"
    assert "torch" not in heavy_after(code)


def test_prediction_needs_neither_timm_nor_the_compiler():
    code = """import numpy as np, pointsense as p
p.Detector.load('blood').predict(np.zeros((64, 64, 3), np.uint8))"""
    assert heavy_after(code) == "['numpy', 'torch']"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["predict"]])
def test_command_line_starts_light(arguments):
    code = f"from pointsense.cli import main\ntry: main({arguments!r})\nexcept SystemExit: pass"
    assert heavy_after(code) == "[]"


@pytest.mark.parametrize("arguments", [["check", "nowhere"], ["predict", "nowhere", "-m", "a", "-o", "b"]])
def test_verbs_on_files_fail_before_torch(arguments):
    code = f"from pointsense.cli import main\ntry: main({arguments!r})\nexcept SystemExit: pass"
    assert "torch" not in heavy_after(code)


def test_every_public_name_is_there():
    assert set(pointsense.__all__) == set(pointsense._HOMES)
    for name in pointsense.__all__:
        assert getattr(pointsense, name).__name__ == name
        assert name in dir(pointsense)


def test_unknown_name():
    with pytest.raises(AttributeError, match="module 'pointsense' has no attribute 'nothing'"):
        pointsense.nothing  # noqa: B018
