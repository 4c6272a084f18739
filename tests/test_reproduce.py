"""Tables of the paper: what was printed, and our rows beside it."""

import json
import shutil

import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from pointsense.datasets.dataset import Dataset, Sample
from pointsense.datasets.official import FORMATS
from pointsense.datasets.synthetic import draw_image
from pointsense.evaluation.challenges import CHALLENGES
from pointsense.experiments.published import TABLES
from pointsense.experiments.rows import OURS, systems
from pointsense.experiments.tables import divided
from test_cli import cli, one_error  # noqa: F401  fixtures


@pytest.mark.parametrize("name", TABLES)
def test_published_rows_agree_with_themselves(name):
    table = TABLES[name]
    assert table.contest in FORMATS.keys() & CHALLENGES.keys()
    for row in table.rows:
        if row.precision and row.recall:
            f1 = 2 * row.precision * row.recall / (row.precision + row.recall)
            assert row.f1 == pytest.approx(f1, abs=0.002)


def test_the_papers_settings_are_the_tables():
    configs = systems(TABLES["table5"], {"backbone": "unet", "pretrained": False})
    assert list(configs) == list(OURS)
    paper = configs["ECNNCS-2"]
    assert (paper.measurements, paper.axes, paper.patch, paper.alpha) == (118, 25, 200, 1.4)
    assert configs["CNNCS"].alpha == 0
    assert configs["pointsense"].patch != 200
    assert {config.backbone for config in configs.values()} == {"unet"}


def test_images_are_held_back_by_group_unless_the_data_divide_them():
    def sample(k, split):
        return Sample(f"{k}.png", None, np.array([(1.0, 1.0)]), ("mitosis",), f"slide {k // 2}", split)

    undivided = Dataset(None, tuple(sample(k, "train") for k in range(10)), {})
    halves, words = divided(undivided)
    assert not {one.group for one in halves.train} & {one.group for one in halves.val}
    assert len(halves.val) == 2
    assert words == f"a part of the training images (2 images, of {halves.val[0].group})"
    official = Dataset(None, tuple(sample(k, "test" if k > 7 else "train") for k in range(10)), {})
    halves, words = divided(official)
    assert [one.name for one in halves.val] == ["8.png", "9.png"]
    assert words.startswith("the data's test images (2 images, of slide 4")


@pytest.fixture
def contest(tmp_path):
    """ICPR 2012's layout, of synthetic cells on five slides."""
    for slide in range(5):
        folder = tmp_path / "data" / f"A0{slide}_v2"
        folder.mkdir(parents=True)
        pixels, points = draw_image(96, seed=0, slide=slide, number=0)[:2]
        pixels = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
        Image.fromarray(pixels).save(folder / f"A0{slide}_00.bmp")
        (folder / f"A0{slide}_00.csv").write_text("".join(f"{x},{y}\n" for y, x in points))
    return tmp_path / "data"


SMALL = (
    "pretrained=false", "steps=4", "batch=2", "patch=64", "checks=1", "look=0", "width=8", "axes=2", "measurements=8",
)  # fmt: skip
SETTINGS = [part for pair in SMALL for part in ("--set", pair)]


def test_a_table_from_the_command_line(cli, contest, tmp_path, monkeypatch):  # noqa: F811
    out, weights = tmp_path / "out", tmp_path / "weights.safetensors"
    save_file(timm.create_model("mobilenetv2_050", pretrained=False).state_dict(), weights)
    backbone = ("--encoder", "mobilenetv2_050", "--weights", weights, "--device", "cpu")
    command = ("reproduce", "table2", "--data", contest, "-o", out, "--um-per-px", 1, *backbone, *SETTINGS)
    assert cli(*command)[0] == 0
    page = (out / "table2.md").read_text()
    assert "| ECNNCS-2 | published | 0.879 | 0.845 | 0.862 |" in page
    assert "do not compare" in page
    assert "at most 48 minutes of training on the CPU" in page
    assert page.count("| ours |") == 5
    assert "| F1 by group | CNNCS | ECNNCS-1 | ECNNCS-2 | Faster R-CNN | pointsense |" in page
    content = json.loads((out / "table2.json").read_text())
    assert (content["radius_px"], content["protocol"]) == (5.0, "one-to-one")
    assert {one["settings"]["backbone"] for one in content["ours"].values()} == {"mobilenetv2_050"}
    assert {one["settings"]["weights"] for one in content["ours"].values()} == {"weights.safetensors"}
    assert {one["training"]["steps"] for one in content["ours"].values()} == {4}
    # An object of one pixel has a radius of .56 px.
    assert content["rho_px"] == pytest.approx(0.564, abs=1e-3)
    assert page.count("F1 within ρ") == 1
    assert all(one["within_rho"]["f1"] <= one["overall"]["f1"] for one in content["ours"].values())

    def again(problem):
        raise AssertionError("trained again")

    monkeypatch.setattr("pointsense.peers.faster_rcnn.fit", again)
    assert cli(*command)[0] == 0  # all is there
    assert (out / "table2.md").read_text() == page
    for trained in ("cnncs", "ecnncs-1", "ecnncs-2"):
        shutil.rmtree(out / trained)
    code, _, said = cli(*command, "--seed", 1)
    assert (code, "faster-r-cnn holds a training with other settings" in " ".join(said)) == (2, True)


def test_faster_rcnn_is_left_out_where_it_cannot_start(cli, contest, tmp_path):  # noqa: F811
    command = ("reproduce", "table2", "--data", contest, "-o", tmp_path / "out", "--um-per-px", 1, *SETTINGS)
    code, said, _ = cli(*command, "--encoder", "unet", "--device", "cpu")
    assert (code, said.count("Faster R-CNN is left out")) == (0, 2)  # before all trainings, and in the table
    page = (tmp_path / "out" / "table2.md").read_text()
    assert page.count("| ours |") == 4
    assert "| F1 by group | CNNCS | ECNNCS-1 | ECNNCS-2 | pointsense |" in page


def test_mistakes(one_error, contest, tmp_path):  # noqa: F811
    code, said = one_error("reproduce", "table9", "--data", contest, "-o", tmp_path / "out")
    assert (code, "use table2, table3" in said) == (2, True)
    code, said = one_error("reproduce", "table4", "--data", contest, "-o", tmp_path / "out")
    assert (code, "is not mitos14: expected A03/mitosis" in said) == (1, True)
    assert "mitos-atypia-14.grand-challenge.org" in said
