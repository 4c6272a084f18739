"""The verbs end to end, and every kind of bad input: one sentence on stderr, the right exit code."""

import csv
import errno
import json
import logging
import os
import resource
import shutil

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageDraw

import pointsense
from conftest import TINY
from pointsense.cli import main
from pointsense.cli.words import log_to_stderr
from pointsense.evaluation.challenges import CHALLENGES
from pointsense.inference.detector import Detector
from pointsense.inference.folder import plan_jobs, predict_files
from pointsense.model.config import OF_THE_DATA, Config, override, read_config
from pointsense.points import COLUMNS, Detections

HEADER = ",".join(COLUMNS)


@pytest.fixture
def cli(capsys):
    """Run the command line in this process; return exit code, stdout and the lines of stderr."""

    def call(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return stop.value.code or 0, out, err.splitlines()

    return call


@pytest.fixture
def one_error(cli):
    """Run a command that must fail; return its exit code and its one sentence."""

    def call(*arguments):
        code, _, err = cli(*arguments)
        assert code
        assert len(err) == 1
        assert err[0].startswith("error: ")
        return code, err[0]

    return call


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def draw(path, shape=(40, 50, 3), dtype=np.uint8, seed=0):
    """An image of noise; TIFF for what PNG cannot hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    high = {"uint8": 256, "uint16": 65536, "float32": 1}[np.dtype(dtype).name]
    values = (np.random.default_rng(seed).random(shape) * high).astype(dtype)
    if path.suffix == ".tif":
        colours = "rgb" if shape[2:] == (3,) else "minisblack"
        tifffile.imwrite(path, values, photometric=colours, metadata={"axes": "YXC"[: len(shape)]})
    else:
        Image.fromarray(values).save(path)
    return path


def tiny_set(folder, more="", header="image,y,x\n", lines="a.png,5,6\nb.png,7,8\nc.png,9,9\n"):
    """Three images of 30 x 40 px with a point each, and `more` lines."""
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        draw(folder / "images" / name, (30, 40), seed=number)
    write(folder / "points.csv", header + lines + more)
    return folder


def content(folder):
    """Every file of a folder with its bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- the command line itself ---


def test_version(cli):
    assert cli("--version")[:2] == (0, f"pointsense {pointsense.__version__}\n")


def test_help_lists_the_verbs(cli):
    code, out, _ = cli("--help")
    assert code == 0
    for verb in ("train", "predict", "evaluate", "check", "demo"):
        assert f"\n  {verb} " in out


@pytest.mark.parametrize(
    "wrong",
    [
        ["nothing"],
        ["train", "data"],
        ["train", "data", "--out", "run", "--selection-fraction", "2"],
        ["train", "data", "--out", "run", "--time-limit", "0"],
        ["predict", "a.png", "-m", "run", "-o", "out", "--tile", "8"],
    ],
)
def test_wrong_usage(cli, wrong):
    code, _, err = cli(*wrong)
    assert code == 2
    assert err[-1].startswith("Error: ")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/a"),
            "error: No space left on device (/a); free some",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "error: Permission denied (/a)"),
        (MemoryError(), "error: not enough memory; take smaller images"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            "error: not enough memory; take smaller images",
        ),
        (torch.OutOfMemoryError("CUDA out of memory."), "error: not enough memory; take smaller images"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
            "error: not enough memory; take smaller images",
        ),
    ],
)
def test_what_the_machine_lacks_is_one_sentence(one_error, monkeypatch, error, sentence):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("pointsense.datasets.check", fails)
    code, said = one_error("check", "data")
    assert code == 1
    assert said.startswith(sentence)


def test_interrupt_leaves_no_traceback(cli, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pointsense.datasets.check", interrupted)
    assert cli("check", "data")[0] in (1, 130)


# --- check ---


def test_check_passes(cli, cells):
    code, out, err = cli("check", cells)
    summary = "images: 4 train, 2 val, 0 without a point; points: 25 (cell 25)"
    assert (code, out, err) == (0, f"{summary}\n{cells}: 0 errors, 0 warnings\n", [])


def test_check_counts_warnings_but_exits_with_0(cli, tmp_path):
    data = tiny_set(tmp_path, "a.png,5,6\n")
    code, out, _ = cli("check", data)
    assert code == 0
    assert "warning: 1 point repeats another" in out
    assert "warning: the match radius is not known" in out
    assert out.endswith("0 errors, 2 warnings\n")


def adding(lines):
    return lambda data: tiny_set(data, lines)


# What is wrong with a data set, and the words of the sentence about it.
BAD_DATA = {
    "row with no image": (adding("d.png,1,2\n"), "names an image not in images/: 'd.png' (line 5)"),
    "text": (adding("a.png,five,2\n"), "line 5: y is 'five'"),
    "NaN": (adding("a.png,1,nan\n"), "line 5: x is 'nan'"),
    "headerless": (lambda data: tiny_set(data, header=""), "has no header line"),
    "no table": (lambda data: (data / "points.csv").unlink(), "points.csv does not exist"),
    "outside": (
        adding("a.png,35,45\n"),
        "a.png (30 rows x 40 columns) has a point outside: (y, x) = (35, 45); correct or delete",
    ),
    "swapped": (
        adding("a.png,35,5\na.png,36,7\n"),
        "has 2 points outside: (y, x) = (35, 5); inside with y and x exchanged",
    ),
    "zero-byte image": (lambda data: write(data / "images" / "a.png", ""), "a.png is empty (0 bytes)"),
    "unreadable image": (
        lambda data: write(data / "images" / "a.png", "not an image"),
        "a.png is not a PNG, JPEG, TIFF or BMP image",
    ),
    "no images": (lambda data: shutil.rmtree(data / "images"), "no image in"),
    "no data": (lambda data: shutil.rmtree(data), "does not exist; expected a folder with images/"),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_check_finds_bad_data(cli, tmp_path, kind):
    data = tiny_set(tmp_path / "data")
    spoil, words = BAD_DATA[kind]
    spoil(data)
    code, out, err = cli("check", data)
    assert (code, err) == (1, [])
    assert any(line.startswith("error: ") and words in line for line in out.splitlines())


@pytest.mark.parametrize("kind", BAD_DATA)
def test_train_refuses_bad_data(one_error, tmp_path, kind):
    data = tiny_set(tmp_path / "data")
    spoil, words = BAD_DATA[kind]
    spoil(data)
    code, said = one_error("train", data, "--out", tmp_path / "run", "--radius", 5, *settings())
    assert code == 1
    assert words in said
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("kind", BAD_DATA)
def test_evaluate_refuses_bad_data(one_error, tmp_path, run, kind):
    data = tiny_set(tmp_path / "data")
    spoil, words = BAD_DATA[kind]
    spoil(data)
    code, said = one_error("evaluate", data, "--model", run, "--split", "train", "--radius", 5)
    assert code == 1
    assert words in said


# --- train ---


def settings(**changes):
    pairs = {**TINY, "steps": 2, "checks": 1, **changes}
    return [text for key, value in pairs.items() for text in ("--set", f"{key}={json.dumps(value)}")]


def test_train_predict_evaluate(cli, cells, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    code, said, err = cli(
        "train", cells, "--out", run, "--device", "cpu", "--max-train-images", 3, *settings(steps=4, checks=2)
    )
    assert (code, err) == (0, [])
    assert "3 train images; match radius 6 px (from dataset.json)" in said
    assert "step 3 of 4: loss " in said
    assert ", selection F1 0." in said
    assert "ratio 0." in said
    assert "device: cpu" in said
    for name in ("config.json", "model.safetensors", "metrics.json", "history.csv", "curve.png", "README.md"):
        assert (run / name).stat().st_size
    selection = json.loads((run / "metrics.json").read_text())["selection"]["images"]
    val = {sample.name for sample in pointsense.load_dataset(cells).val}
    assert selection
    assert val
    assert not val & set(selection)

    assert cli("predict", cells / "images", "-m", run, "-o", out, "--device", "cpu")[0] == 0
    code, said, err = cli("evaluate", cells, "--predictions", out, "--json", tmp_path / "a.json")
    assert (code, err) == (0, [])
    code, again, err = cli(
        "evaluate", cells, "--model", run, "--json", tmp_path / "b.json", "--device", "cpu"
    )
    assert err == []
    learned = cli("evaluate", cells, "--model", run, "--split", "train", "--device", "cpu")[2]
    assert "3 of 4 images have names of images that the model was trained or chosen on" in learned[0]
    assert code == 0
    assert said.splitlines()[-1] == again.splitlines()[-1]
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert first["overall"]["f1"] == second["overall"]["f1"]
    assert (first["split"], set(first["images"])) == ("val", val)


def test_existing_run_is_not_replaced(one_error, cells, tmp_path):
    write(tmp_path / "run" / "notes.txt", "mine")
    code, said = one_error("train", cells, "--out", tmp_path / "run", *settings())
    assert code == 2
    assert "--overwrite" in said
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "stesp=3"], "unknown setting 'stesp': did you mean 'steps'? the settings are preset, "),
        (["--set", "steps=many"], "setting steps: "),
        (["--set", "head=heads"], "setting head: Input should be 'global', 'spatial' or 'projection'"),
        (["--set", "steps"], "--set expects key=value, found 'steps'"),
        (["--preset", "fast"], "unknown preset 'fast'; the presets are pointsense, mitoses"),
        (["--config", "nowhere.json"], "cannot read the configuration nowhere.json"),
        (
            ["--weights", "nowhere.safetensors", "--set", "backbone=resnet18"],
            "there is no file nowhere.safetensors",
        ),
        (["--set", "radius=3"], "setting radius: the match radius is the data's; give --radius PX"),
        (["--radius", "0"], "--radius is 0, expected a positive number"),
        (["--class", "nucleus"], "no point of the class 'nucleus'"),
        (["--device", "gpu"], "gpu"),
        (["--val-fold", "0"], "--val-fold 0 needs a column fold"),
    ],
)
def test_train_options(one_error, cells, tmp_path, arguments, words):
    code, said = one_error("train", cells, "--out", tmp_path / "run", *arguments)
    assert code == 2
    assert words in said
    assert not (tmp_path / "run").exists()


def test_config_file_is_overridden_by_set(one_error, cells, tmp_path):
    config = write(tmp_path / "config.json", '{"steps": "many"}')
    assert "setting steps" in one_error("train", cells, "-o", tmp_path / "run", "--config", config)[1]
    config.write_text('{"head": "heads"}')
    said = one_error("train", cells, "-o", tmp_path / "run", "--config", config, "--set", "head=spatial")[1]
    assert "setting head" in said  # each layer must be right by itself


def test_the_config_of_a_model_is_a_configuration(one_error, cells, run, tmp_path):
    said = one_error(
        "train", cells, "-o", tmp_path / "again", "--config", run / "config.json", "--set", "batch=0"
    )[1]
    assert said.startswith("error: setting batch: ")  # its own keys, radius and all, are fine
    stored = json.loads((run / "config.json").read_text())["settings"]
    given = read_config(run / "config.json")
    assert set(stored) - set(given) == set(OF_THE_DATA)
    assert given.items() <= stored.items()


def test_a_configuration_brings_its_preset(one_error, cells, tmp_path):
    config = write(tmp_path / "config.json", '{"preset": "fast"}')
    assert "unknown preset 'fast'" in one_error("train", cells, "-o", tmp_path / "run", "--config", config)[1]
    config.write_text('{"preset": "mitoses"}')
    arguments = (
        "train",
        cells,
        "-o",
        tmp_path / "run",
        "--config",
        config,
        "--each-class",
        "--set",
        "weights=none.st",
    )
    assert "no file none.st" in one_error(*arguments)[1]  # of its MobileNet, which the default does not have


def test_settings_are_listed_with_what_they_are(cli, one_error):
    code, out, _ = cli("settings", "--preset", "mitoses")
    assert code == 0
    rows = out.splitlines()
    for name, field in Config.model_fields.items():
        assert field.description
        assert [row for row in rows if row.split()[:1] == [name]]
    assert [row.split()[1] for row in rows if row.startswith("look ")] == ["96"]
    assert one_error("settings", "--preset", "fast")[0] == 2


def test_refit_of_data_that_are_divided_by_fold(cli, cells, run, tmp_path):
    lines = [f"{s.name},{'B' if s.split == 'val' else 'A'}" for s in pointsense.load_dataset(cells).samples]
    folds = write(tmp_path / "folds.csv", "\n".join(["image,fold", *lines]) + "\n")
    divided = ("--split-file", folds, "--val-fold", "B")
    assert cli("refit", cells, *divided, "-m", run, "-o", tmp_path / "final", "--device", "cpu")[0] == 0
    assert (tmp_path / "final" / "model.safetensors").exists()


def test_refit(cli, one_error, cells, run, tmp_path):
    code, said, err = cli("refit", cells, "--model", run, "--out", tmp_path / "final", "--device", "cpu")
    images = len(pointsense.load_dataset(cells).train)
    assert (code, err) == (0, [])
    assert f"once more after {run}" in said
    assert f"{run}: F1 " in said
    assert f"learned from {images} images, with the threshold of {run}" in said
    assert cli("predict", cells / "images", "-m", tmp_path / "final", "-o", tmp_path / "out")[0] == 0
    code, said = one_error("refit", cells, "--model", tmp_path / "none", "--out", tmp_path / "b")
    assert code == 2
    assert f"{tmp_path / 'none'} holds no finished training" in said


def test_radius_is_asked_for(one_error, tmp_path):
    code, said = one_error("train", tiny_set(tmp_path / "data"), "--out", tmp_path / "run")
    assert code == 2
    assert "give --radius PX" in said


def test_interrupted_training_says_how_to_go_on(cli, cells, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pointsense.learning.fit.train", interrupted)
    code, _, err = cli("train", cells, "--out", tmp_path / "run", "--device", "cpu")
    assert code == 130
    assert err == [f"stopped; go on with the same command and --resume, as far as {tmp_path / 'run'} got"]


@pytest.mark.parametrize("verb", ["train", "predict", "evaluate"])
def test_cuda_without_one(one_error, cells, run, tmp_path, monkeypatch, verb):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    commands = {
        "train": ["train", cells, "--out", tmp_path / "out", *settings()],
        "predict": ["predict", cells / "images", "--model", run, "--out", tmp_path / "out"],
        "evaluate": ["evaluate", cells, "--model", run],
    }
    code, said = one_error(*commands[verb], "--device", "cuda:x")
    assert (code, "unknown device 'cuda:x'" in said) == (2, True)
    code, said = one_error(*commands[verb], "--device", "cuda")
    assert code == 2
    assert "cuda" in said
    assert "--device cpu" in said or "auto" in said
    assert not (tmp_path / "out").exists()


# --- predict ---


def test_predict_writes_every_format(cli, cells, run, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(cells / "images", source / "sub")
    first = sorted((source / "sub").iterdir())[0]
    dotted = shutil.copy(first, source / "a.b.png")  # no suffix but the last is cut off
    code, said, err = cli(
        "predict", source, "-m", run, "-o", out, "--format", "csv,geojson", "--overlay", "--device", "cpu"
    )
    assert (code, err) == (0, [])
    assert said.splitlines()[0] in ("device: cpu, 32-true", "device: cpu, bf16-mixed")
    assert said.splitlines()[-1] == f"7 of 7 images done: {out}"
    names = [f"sub/{path.stem}" for path in (source / "sub").iterdir()] + ["a.b"]
    expected = {name + suffix for name in names for suffix in (".csv", ".geojson", ".overlay.png")}
    expected |= {"predict.counts.csv", "predict.json"}
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == expected
    table = Detections.read_csv(out / "a.b.csv")
    assert (out / "a.b.csv").read_text().startswith(HEADER)
    np.testing.assert_allclose(Detections.read_geojson(out / "a.b.geojson").points, table.points, atol=2e-3)
    alone = pointsense.Detector.load(run, device="cpu").predict(pointsense.read_image(dotted))
    np.testing.assert_allclose(table.points, alone.points, atol=1e-3)
    np.testing.assert_array_equal(table.votes, alone.votes)
    rows = csv.reader((out / "predict.counts.csv").read_text().splitlines())
    counts = {row[0]: row[1:] for row in rows}
    assert counts["image"] == ["points", "diameter", "problem"]
    assert counts[str(dotted)] == [str(len(table)), "", ""]
    record = json.loads((out / "predict.json").read_text())
    assert record["version"] == pointsense.__version__
    assert (record["model"], record["diameter"], record["device"]) == (str(run), None, "cpu")
    assert {one["image"]: [str(n) for n in one["points"].values()] for one in record["images"]} == {
        name: row[:1] for name, row in counts.items() if name != "image"
    }


def test_counts_are_by_class_and_replaced_by_no_image(cli, tmp_path):
    source = [draw(tmp_path / "a.png", (64, 64, 3)), write(tmp_path / "bad.png", "")]
    assert cli("predict", *source, "-m", "blood", "-o", tmp_path / "out", "--diameter", 50)[0] == 1
    head, good, bad = (tmp_path / "out" / "predict.counts.csv").read_text().splitlines()
    assert head == "image,RBC,WBC,Platelets,diameter,problem"
    assert good.startswith(str(source[0]))
    assert good.endswith(",50,")
    assert bad.startswith(f"{source[1]},,,,,")
    assert "is empty" in bad
    image = draw(tmp_path / "predict.counts.png")
    code, _, err = cli("predict", image, "-m", "blood", "-o", tmp_path / "other")
    assert code == 2
    assert "would replace the counts of all images; rename it" in err[0]


def test_no_points_still_give_a_table(cli, run, tmp_path):
    image, out = draw(tmp_path / "a.png"), tmp_path / "out"
    arguments = ("predict", image, "-m", run, "-o", out, "--threshold", 1e9)
    code, said, err = cli(*arguments, "--format", "geojson,csv")
    assert (code, err) == (0, [])
    assert "a.png: 0 points" in said
    assert (out / "a.csv").read_text().splitlines()[1:] == []
    assert (out / "a.csv").read_text().startswith(HEADER)
    assert json.loads((out / "a.geojson").read_text())["features"] == []


def test_threshold_selects(cli, cells, run, tmp_path):
    image = sorted((cells / "images").iterdir())[0]
    counts = []
    for name, threshold in (("low", 0.0), ("high", 1e9)):
        assert cli("predict", image, "-m", run, "-o", tmp_path / name, "-t", threshold)[0] == 0
        counts.append(len(Detections.read_csv(tmp_path / name / f"{image.stem}.csv")))
    assert counts[0] > counts[1] == 0


def test_thresholds_of_classes(cli, cells, tmp_path):
    """The model's classes are told apart by theirs; points already found, too."""
    blood = Image.new("RGB", (200, 200), (220, 210, 215))
    ImageDraw.Draw(blood).ellipse((50, 50, 150, 150), fill=(200, 140, 140))
    blood.save(image := tmp_path / "a.png")
    asked = ("-t", 0, "-t", "WBC=1e9")
    assert cli("predict", image, "-m", "blood", "-o", tmp_path / "out", *asked)[0] == 0
    found = set(Detections.read_csv(tmp_path / "out" / "a.csv").classes)
    assert "RBC" in found
    assert "WBC" not in found
    record = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert record["thresholds"] == {"RBC": 0.0, "WBC": 1e9, "Platelets": 0.0}
    for given, words in {
        "T=1": "a threshold is given for 'T', but the model's classes are: RBC, WBC, Platelets",
        "high": "--threshold is high, expected a number, or CLASS=T",
    }.items():
        code, _, err = cli("predict", image, "-m", "blood", "-o", tmp_path / "other", "-t", given)
        assert code == 2
        assert words in err[0]


def test_views_take_the_place_of_the_models(cli, cells, run, tmp_path):
    image, scores = sorted((cells / "images").iterdir())[0], []
    for views in (1, 8):
        out = tmp_path / str(views)
        assert cli("predict", image, "-m", run, "-o", out, "-t", 0, "--views", views)[0] == 0
        recorded = json.loads((out / "predict.json").read_text())
        assert (recorded["views"], recorded["look_views"]) == (views, 0)  # without a second look
        scores.append(Detections.read_csv(out / f"{image.stem}.csv").scores.tolist())
    assert scores[0] != scores[1]
    code, _, err = cli("predict", image, "-m", run, "-o", tmp_path / "three", "--views", 3)
    assert code == 2
    assert "setting views: Input should be 1, 2, 4 or 8, found 3" in err[0]


def test_precision_is_as_asked(cli, cells, run, tmp_path):
    image = sorted((cells / "images").iterdir())[0]
    for precision in ("32-true", "bf16-mixed"):
        code, said, _ = cli("predict", image, "-m", run, "-o", tmp_path / precision, "--precision", precision)
        assert code == 0
        assert f"device: cpu, {precision}\n" in said
        assert json.loads((tmp_path / precision / "predict.json").read_text())["precision"] == precision
    code, _, err = cli("predict", image, "-m", run, "-o", tmp_path / "half", "--precision", "half")
    assert code == 2
    assert "setting precision: Input should be 'auto', '32-true', 'bf16-mixed' or '16-mixed'" in err[0]


def test_options_of_models_are_not_for_points_already_found(cli, cells, tmp_path):
    for option in ("--diameter", "--views", "--precision"):
        code, _, err = cli("evaluate", cells, "--predictions", tmp_path, option, 2)
        assert code == 2
        assert f"{option} is for --model" in err[0]


def test_bad_files_are_told_and_the_others_done(cli, run, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    for name in ("a.png", "z.png"):
        draw(source / name)
    write(source / "empty.png", "")
    write(source / "text.jpg", "no image")
    cut = draw(source / "cut.png")
    cut.write_bytes(cut.read_bytes()[:1000])
    Image.fromarray(np.zeros((40, 40, 4), np.uint8), "CMYK").save(source / "cmyk.jpg")
    tifffile.imwrite(source / "pages.tif", np.zeros((5, 40, 40), np.uint8))
    draw(source / "five.tif", (40, 40, 5))
    draw(source / "float.tif", (40, 40), np.float32)
    tifffile.imwrite(source / "degrees.tif", np.full((40, 40), 300, np.float32))
    code, said, err = cli("predict", source, "-m", run, "-o", out)
    assert code == 1
    record = {"predict.counts.csv", "predict.json"}
    assert {path.name for path in out.iterdir()} == {"a.csv", "z.csv", "float.csv"} | record
    assert said.splitlines()[-1] == f"3 of 10 images done: {out}"
    for name, words in {
        "empty.png": "is empty (0 bytes)",
        "text.jpg": "is not a PNG, JPEG, TIFF or BMP image",
        "cut.png": "damaged or truncated",
        "cmyk.jpg": "is a CMYK image",
        "pages.tif": "holds 5 pages",
        "five.tif": "has 5 channels, the model was trained on 3 channels",
        "degrees.tif": "is a float image from 300 to 300",
    }.items():
        sentences = [line for line in err if name in line]
        assert len(sentences) == 1
        assert sentences[0].startswith("error: ")
        assert words in sentences[0]


@pytest.mark.parametrize(
    ("shape", "dtype", "suffix"),
    [
        ((60, 70, 3), np.uint16, ".tif"),
        ((60, 70), np.uint16, ".png"),
        ((60, 70), np.uint8, ".png"),
        ((60, 70, 4), np.uint8, ".png"),
        ((60, 70, 3), np.float32, ".tif"),
        ((7, 5, 3), np.uint8, ".png"),  # smaller than a patch, a window, an object
        ((1, 1), np.uint8, ".png"),
        ((400, 3, 3), np.uint8, ".png"),
    ],
)
def test_every_kind_of_image_is_converted(cli, run, tmp_path, shape, dtype, suffix):
    image = draw(tmp_path / f"a{suffix}", shape, dtype)
    pixels = pointsense.read_image(image)
    is_grey = bool((pixels == pixels[..., :1]).all() and np.ptp(pixels))
    code, _, err = cli("predict", image, "-m", run, "-o", tmp_path / "out", "--overlay", "-t", 0)
    assert code == 0
    said = ["transparent pixels"] * (shape[2:] == (4,)) + [
        "is grey, the model has seen colours alone"
    ] * is_grey
    assert [words for words in said if any(words in line for line in err)] == said
    assert len(err) == len(said)
    points = Detections.read_csv(tmp_path / "out" / "a.csv").points
    assert ((points >= -0.5) & (points <= np.array(shape[:2]) - 0.5)).all()


@pytest.mark.parametrize(("trained", "diameter"), [(0.25, None), (0.5, None), (0.25, 10.0), (None, None)])
def test_micrometres_are_of_the_image(run, tmp_path, caplog, trained, diameter):
    """Where its file states their size; of another than the training's it is told, unless that is known."""
    detector = Detector.load(run, device="cpu")
    detector.um_per_px, detector.config = trained, override(detector.config, {"diameter": 12.0})
    image, plain = tmp_path / "a.tif", draw(tmp_path / "b.png")
    pixels, options = pointsense.read_image(plain), {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(image, pixels, photometric="rgb", **options)
    jobs = plan_jobs([image, plain], tmp_path / "out")
    outcomes = list(predict_files(detector, jobs, diameter=diameter, threshold={"": 0.0}))
    assert not any(one.problem for one in outcomes)
    rows = list(csv.DictReader((tmp_path / "out" / "a.csv").read_text().splitlines()))
    assert rows
    assert all(float(row["y_um"]) == pytest.approx(0.5 * float(row["y"]), abs=2e-3) for row in rows)
    other = (tmp_path / "out" / "b.csv").read_text().splitlines()[0]
    assert ("y_um" in other) == (trained is not None and diameter is None)
    assert ("states pixels of 0.5 um, the model was trained at 0.25 um" in caplog.text) == (
        trained == 0.25 and diameter is None
    )


def test_colliding_names(one_error, run, tmp_path):
    draw(tmp_path / "a" / "x.png")
    draw(tmp_path / "a" / "x.tif")
    draw(tmp_path / "b" / "x.png")
    for paths in ([tmp_path / "a"], [tmp_path / "a" / "x.png", tmp_path / "b"]):
        code, said = one_error("predict", *paths, "-m", run, "-o", tmp_path / "out")
        assert code == 2
        assert "would write the same output" in said
        assert not (tmp_path / "out").exists()


def test_existing_folder(cli, one_error, run, tmp_path):
    image, out = draw(tmp_path / "a.png"), tmp_path / "out"
    write(out / "a.csv", "old")
    write(out / "b.csv", "other")
    code, said = one_error("predict", image, "-m", run, "-o", out)
    assert code == 2
    assert "is not empty; give another --out, or --overwrite" in said
    assert (out / "a.csv").read_text() == "old"
    assert cli("predict", image, "-m", run, "-o", out, "--overwrite")[0] == 0
    assert (out / "a.csv").read_text().startswith(HEADER)
    assert (out / "b.csv").read_text() == "other"
    code, said = one_error("predict", image, "-m", run, "-o", image, "--overwrite")
    assert code == 2
    assert "is a file, expected a folder" in said


def test_annotations_beside_images_are_safe(one_error, run, tmp_path):
    draw(tmp_path / "train" / "a.png")
    truth = write(tmp_path / "train" / "a.csv", "y,x\n1,2\n")
    for paths, out in (([tmp_path / "train"], tmp_path / "train"), ([tmp_path], tmp_path)):
        code, said = one_error("predict", *paths, "-m", run, "-o", out, "--overwrite")
        assert code == 2
        assert "would lie beside it" in said
        assert truth.read_text() == "y,x\n1,2\n"


def test_results_of_images_that_are_gone_are_replaced_too(cli, run, tmp_path):
    for name in ("a.png", "b.png"):
        draw(tmp_path / "in" / name)
    out = tmp_path / "out"
    assert cli("predict", tmp_path / "in", "-m", run, "-o", out, "--overlay")[0] == 0
    mine, edited = write(out / "mine.csv", "y,x\n1,2\n"), write(out / "b.geojson", "mine, too")
    (tmp_path / "in" / "b.png").unlink()
    assert cli("predict", tmp_path / "in", "-m", run, "-o", out, "--overwrite", "--format", "geojson")[0] == 0
    left = {path.name for path in out.iterdir()}
    assert left == {"a.geojson", "b.geojson", "mine.csv", "predict.counts.csv", "predict.json"}
    assert edited.read_text() == "mine, too"
    assert mine.read_text() == "y,x\n1,2\n"


def test_what_is_deleted_is_told(cli, run, tmp_path):
    images = [draw(tmp_path / "in" / name) for name in ("a.png", "b.png")]
    arguments = ("predict", tmp_path / "in", "-m", run, "-o", tmp_path / "out")
    assert cli(*arguments)[0] == 0
    assert "deleted the results" not in cli(*arguments, "--overwrite")[1]
    images[1].rename(tmp_path / "b.png")
    assert (
        f"deleted the results of images that are no longer there: {images[1]}\n"
        in cli(*arguments, "--overwrite")[1]
    )


def test_a_run_that_is_stopped_leaves_no_results_of_the_one_before(cli, run, tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        draw(tmp_path / "in" / name)
    out = tmp_path / "out"
    arguments = ("predict", tmp_path / "in", "-m", run, "-o", out)
    assert cli(*arguments)[0] == 0

    def stopped(self, outcome):
        raise KeyboardInterrupt

    monkeypatch.setattr("pointsense.inference.record.Record.add", stopped)
    assert cli(*arguments, "--overwrite")[0] == 130
    assert not (out / "b.csv").exists()


def test_names_that_are_no_letters(cli, run, tmp_path):
    image = tmp_path / "in" / os.fsdecode(b"m\xfcller.png")
    draw(image)
    code, out, _ = cli("predict", tmp_path / "in", "-m", run, "-o", tmp_path / "out")
    assert code == 0
    assert "m\\udcfcller.png" in out
    assert json.loads((tmp_path / "out" / "predict.json").read_text())["images"]
    assert "m\\udcfcller.png" in (tmp_path / "out" / "predict.counts.csv").read_text()


def test_what_was_just_written_stays(cli, run, tmp_path):
    """An image that was converted, and one whose results move into a folder: the old files' names are taken again."""
    image, out = draw(tmp_path / "in" / "a.tif"), tmp_path / "out"
    assert cli("predict", image, "-m", run, "-o", out)[0] == 0
    image.rename(image.with_suffix(".tiff"))
    assert cli("predict", tmp_path / "in", "-m", run, "-o", out, "--overwrite")[0] == 0
    assert (out / "a.csv").exists()
    draw(tmp_path / "b" / "sub" / "c.png")
    assert cli("predict", tmp_path / "b" / "sub", "-m", run, "-o", tmp_path / "ob")[0] == 0
    draw(tmp_path / "b" / "c.png")
    assert cli("predict", tmp_path / "b", "-m", run, "-o", tmp_path / "ob", "--overwrite")[0] == 0
    assert (tmp_path / "ob" / "c.csv").exists()
    assert (tmp_path / "ob" / "sub" / "c.csv").exists()


def test_a_failed_image_keeps_no_results_of_another_run(cli, run, tmp_path):
    images = [draw(tmp_path / "in" / name) for name in ("a.png", "b.png")]
    assert cli("predict", tmp_path / "in", "-m", run, "-o", tmp_path / "out")[0] == 0
    images[1].write_bytes(b"")
    assert cli("predict", tmp_path / "in", "-m", run, "-o", tmp_path / "out", "--overwrite")[0] == 1
    assert (tmp_path / "out" / "a.csv").exists()
    assert not (tmp_path / "out" / "b.csv").exists()


def test_a_preset_is_no_model(one_error, tmp_path):
    image = draw(tmp_path / "a.png")
    code, said = one_error("predict", image, "-m", "mitoses", "-o", tmp_path / "out")
    assert code == 1
    assert "mitoses is a preset, to train a model with (pointsense train DATA --preset mitoses)" in said


def test_no_point_at_all_is_told(cli, run, tmp_path):
    image = draw(tmp_path / "a.png")
    _, out, _ = cli("predict", image, "-m", run, "-o", tmp_path / "none", "-t", 99)
    assert "no image has a point; if some should: another --diameter? a lower --threshold?" in out


def test_results_of_images_that_are_elsewhere_stay(cli, run, tmp_path, monkeypatch):
    draw(tmp_path / "first" / "in" / "a.png")
    other = draw(tmp_path / "other" / "b.png")
    out = tmp_path / "out"
    monkeypatch.chdir(tmp_path / "first")
    assert cli("predict", "in", "-m", run, "-o", out)[0] == 0
    monkeypatch.chdir(tmp_path)  # where there is no in/a.png
    assert cli("predict", other, "-m", run, "-o", out, "--overwrite")[0] == 0
    assert (out / "a.csv").exists()
    assert cli("predict", tmp_path / "first" / "in", "-m", run, "-o", out, "--overwrite")[0] == 0
    (tmp_path / "first").rename(tmp_path / "a drive that is away")
    assert cli("predict", other, "-m", run, "-o", out, "--overwrite")[0] == 0
    assert (out / "a.csv").exists()


def test_what_evaluate_refuses_before_it_works(one_error, cells, tmp_path):
    found = tmp_path / "found"
    for sample in pointsense.load_dataset(cells).val:
        write(
            found / sample.path.with_suffix(".csv").name,
            "y,x\n" + "".join(f"{y},{x}\n" for y, x in sample.points),
        )
    arguments = ("evaluate", cells, "--predictions", found, "--radius", 6)
    assert "--threshold is for detections with scores" in one_error(*arguments, "--threshold", 0.9)[1]
    assert (
        "--report is a.png, expected the name of a .html file"
        in one_error(*arguments, "--report", "a.png")[1]
    )
    assert "--json is ., expected the name of a .json file" in one_error(*arguments, "--json", ".")[1]
    folder = tmp_path / "a.html"
    folder.mkdir()
    assert "which is a folder; give the name of a file" in one_error(*arguments, "--report", folder)[1]


def test_what_train_refuses_before_it_works(one_error, cells, tmp_path):
    code, said = one_error("train", cells, "-o", tmp_path / "a", "--radius", 10_000)
    assert code == 2
    assert "the match radius is 10000 px, that of an object larger than the images (96 px)" in said
    copy = shutil.copytree(cells, tmp_path / "copy")
    assert "is a data set; give another --out" in one_error("train", cells, "-o", copy, "--overwrite")[1]
    names = [path.name for path in (copy / "images").iterdir()]
    write(copy / "split.csv", "image,split\n" + "".join(f"{name},val\n" for name in names))
    assert "has no training image" in one_error("train", copy, "-o", tmp_path / "b")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere.png"], 1, "nowhere.png does not exist"),
        (["."], 1, "holds no image"),
        ([".", "--format", "csv,xml"], 2, "unknown format 'xml'; use csv, geojson"),
    ],
)
def test_predict_arguments(one_error, run, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    found, said = one_error("predict", *arguments, "-m", run, "-o", "out")
    assert found == code
    assert words in said


# --- model folders ---


def edit(run, change):
    stored = json.loads((run / "config.json").read_text())
    change(stored)
    write(run / "config.json", json.dumps(stored))


def newer(run):
    value = json.loads((run / "config.json").read_text())
    value["format"] += 1
    value["settings"]["unheard_of"] = 1
    write(run / "config.json", json.dumps(value))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BAD_MODELS = {
    "empty": lambda run: [path.unlink() for path in run.iterdir()],
    "missing": lambda run: shutil.rmtree(run),
    "without weights": lambda run: (run / "model.safetensors").unlink(),
    "truncated weights": lambda run: truncate(run / "model.safetensors"),
    "empty weights": lambda run: write(run / "model.safetensors", ""),
    "truncated settings": lambda run: truncate(run / "config.json"),
    "newer": newer,
    "threshold in words": lambda run: edit(run, lambda stored: stored["classes"][0].update(threshold="high")),
    "no threshold": lambda run: edit(run, lambda stored: stored["classes"][0].update(threshold=None)),
    "threshold that is none": lambda run: edit(
        run, lambda stored: stored["classes"][0].update(threshold=float("nan"))
    ),
    "negative radius": lambda run: edit(run, lambda stored: stored["classes"][0].update(radius=-7.0)),
    "blur in words": lambda run: edit(run, lambda stored: stored["classes"][0]["reading"].update(blur="a")),
    "unknown key": lambda run: edit(run, lambda stored: stored["classes"][0].update(colour="red")),
    "classes of one name": lambda run: edit(run, lambda stored: stored.update(classes=stored["classes"] * 2)),
    "pixel size in words": lambda run: edit(run, lambda stored: stored.update(um_per_px="x")),
    "no scale": lambda run: edit(run, lambda stored: stored["settings"].update(scale=0.0)),
}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"train_images": []}'])
@pytest.mark.parametrize("verb", ["evaluate", "refit"])
def test_damaged_metrics(one_error, cells, run, tmp_path, text, verb):
    bad = shutil.copytree(run, tmp_path / "bad")
    write(bad / "metrics.json", text)
    out = ["--out", tmp_path / "out"] if verb == "refit" else []
    code, said = one_error(verb, cells, "--model", bad, "--device", "cpu", *out)
    assert code == 1
    assert f"{bad / 'metrics.json'} " in said
    assert "copy the run again" in said


@pytest.mark.parametrize("kind", BAD_MODELS)
@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_bad_model(one_error, cells, run, tmp_path, kind, verb):
    bad = shutil.copytree(run, tmp_path / "bad")
    BAD_MODELS[kind](bad)
    out = tmp_path / "out"
    command = ["predict", cells / "images", "--out", out] if verb == "predict" else ["evaluate", cells]
    code, said = one_error(*command, "--model", bad, "--device", "cpu")
    assert code == 1
    assert str(bad) in said
    assert not out.exists()
    if kind == "newer":
        assert "newer" in said


# --- evaluate ---


@pytest.fixture
def two_images(tmp_path):
    """Two images of classes A and B, both `val`, and a folder of results: two hits, one miss, one alarm."""
    data = tiny_set(
        tmp_path / "data", header="image,y,x,class\n", lines="a.png,5,6,A\na.png,20,20,B\nb.png,9,9,A\n"
    )
    write(data / "split.csv", "image,split\na.png,val\nb.png,val\nc.png,train\n")
    write(tmp_path / "found" / "a.csv", "y,x,score,class\n5,7,0.9,A\n25,35,0.2,A\n20,21,0.8,B\n")
    write(tmp_path / "found" / "b.csv", "y,x,score,class\n")
    return data, tmp_path / "found"


def evaluated(cli, tmp_path, *arguments):
    code, out, err = cli("evaluate", *arguments, "--json", tmp_path / "scores.json")
    assert code == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    reports = [scores] if "overall" in scores else list(scores.values())
    kinds = ("true_positives", "false_positives", "false_negatives")
    counts = tuple(sum(report["overall"][kind] for report in reports) for kind in kinds)
    of = f" of {reports[-1]['class']}" if len(reports) > 1 else ""
    assert out.splitlines()[-1] == f"F1{of} {reports[-1]['overall']['f1']:.3f}"
    return counts, reports[0], err


def test_evaluate_predictions(cli, two_images, tmp_path):
    data, found = two_images
    arguments = (data, "--predictions", found, "--radius", 3)
    counts, scores, err = evaluated(cli, tmp_path, *arguments)
    assert (counts, err) == ((2, 1, 1), [])
    assert (scores["protocol"], scores["radius_px"], scores["split"]) == ("one-to-one", 3.0, "val")
    assert scores["threshold"] is None
    above = evaluated(cli, tmp_path, *arguments, "--threshold", 0.5)
    assert above[0] == (2, 0, 1)
    assert above[1]["threshold"] == 0.5
    assert evaluated(cli, tmp_path, *arguments, "--class", "A")[0] == (1, 1, 1)
    assert evaluated(cli, tmp_path, *arguments, "--protocol", "greedy")[1]["protocol"] == "greedy"


def test_a_threshold_below_what_was_kept_is_told(cli, two_images, tmp_path):
    data, found = two_images
    arguments = (data, "--predictions", found, "--radius", 3)
    write(found / "predict.json", json.dumps({"thresholds": {"A": 0.4, "B": 0.05, "C": None}, "images": []}))
    [said] = evaluated(cli, tmp_path, *arguments, "--threshold", 0.1)[2]
    assert "holds what scores at least 0.4 of A, the threshold is 0.1: nothing lower was kept" in said
    assert "predict again with --threshold A=0.1" in said
    assert evaluated(cli, tmp_path, *arguments, "--threshold", 0.5)[2] == []


def test_a_table_of_two_images_is_refused(one_error, two_images):
    data, found = two_images
    draw(data / "images" / "a.tif")
    write(data / "split.csv", "image,split\na.png,val\na.tif,val\nb.png,val\nc.png,val\n")
    code, said = one_error("evaluate", data, "--predictions", found, "--radius", 3)
    assert (code, "could be of a.png and of a.tif: rename one of the images" in said) == (1, True)


def test_a_class_that_was_never_found_is_scored_where_the_record_names_it(cli, two_images, tmp_path):
    data, found = two_images
    write(found / "a.csv", "y,x,score,class\n5,7,0.9,A\n")
    arguments = (data, "--predictions", found, "--radius", 3)
    assert "not scored, as only the model or only the data know them: B" in "".join(
        cli("evaluate", *arguments)[2]
    )
    write(found / "predict.json", json.dumps({"images": [{"points": None}, {"points": {"A": 1, "B": 0}}]}))
    assert evaluated(cli, tmp_path, *arguments)[0] == (1, 0, 2)  # A and B


def test_names_of_groups_are_no_markup(cli, two_images):
    data, found = two_images
    write(data / "split.csv", "image,split\na.png,val\nb.png,val\nc.png,val\n")
    write(data / "groups.csv", "image,group\na.png,s[left]\nb.png,s[/1]\nc.png,s[left]\n")
    out = cli("evaluate", data, "--predictions", found, "--radius", 3)[1]
    assert "s[left]" in out
    assert "s[/1]" in out


def test_tables_of_another_split_are_not_taken(one_error, run, cli, tmp_path):
    data = tmp_path / "data"
    for split in ("train", "val"):
        draw(data / split / "a.tif")
        write(data / split / "a.csv", "y,x\n5,6\n")
    assert cli("predict", data / "val", "-m", run, "-o", tmp_path / "out")[0] == 0
    arguments = ("evaluate", data, "--predictions", tmp_path / "out", "--radius", 3)
    assert cli(*arguments)[0] == 0
    code, said = one_error(*arguments, "--split", "train")
    assert code == 2
    assert (
        f"was predicted from {data / 'val' / 'a.tif'}, not from {data / 'train' / 'a.tif'}: give --split val"
        in said
    )


def test_one_image_cannot_be_compared(one_error, two_images):
    data, found = two_images
    write(data / "split.csv", "image,split\na.png,val\nb.png,train\nc.png,train\n")
    code, said = one_error("evaluate", data, "--predictions", found, "--radius", 3, "--against", found)
    assert code == 2
    assert "--against needs two or more images to compare on, and val of" in said


@pytest.mark.parametrize("name", CHALLENGES)
def test_challenges_have_their_rule_and_radius(cli, two_images, tmp_path, name):
    data, found = two_images
    write(data / "dataset.json", '{"um_per_px": 0.5, "radius_px": 3}')
    arguments = (data, "--predictions", found, "--protocol", name)
    scores = evaluated(cli, tmp_path, *arguments)[1]
    assert (scores["protocol"], scores["radius_px"]) == (
        CHALLENGES[name].protocol,
        2 * CHALLENGES[name].radius_um,
    )
    assert evaluated(cli, tmp_path, *arguments, "--radius", 4)[1]["radius_px"] == 4
    assert f"px (of --protocol {name})" in cli("evaluate", *arguments)[1]


def test_the_papers_radius_is_that_of_the_smallest_object(cli, one_error, two_images, tmp_path):
    data, found = two_images
    arguments = (data, "--predictions", found, "--protocol", "rho")
    code, said = one_error("evaluate", *arguments)
    assert (code, "does not tell it" in said, '"smallest_radius_px": PX' in said) == (2, True, True)
    write(data / "dataset.json", '{"smallest_radius_px": 0}')
    code, said = one_error("evaluate", *arguments)
    assert (code, "smallest_radius_px is 0, expected a positive number" in said) == (1, True)
    for rho, hits in ((1.0, 0), (1.001, 2)):  # two detections lie 1 px off, which is not less than 1
        write(data / "dataset.json", f'{{"smallest_radius_px": {rho}}}')
        counts, scores, _ = evaluated(cli, tmp_path, *arguments)
        assert (counts[0], scores["protocol"]) == (hits, "one-to-one")


def test_a_challenge_needs_the_pixel_size(one_error, two_images):
    data, found = two_images
    code, said = one_error("evaluate", data, "--predictions", found, "--protocol", "midog")
    assert (code, "matches within 7.5 um, and the pixel size" in said) == (2, True)


def test_points_without_a_class_are_told_where_one_class_is_scored(cli, two_images, tmp_path):
    data, found = two_images
    for name in ("a", "b"):
        write(tmp_path / "plain" / f"{name}.csv", "y,x\n5,6\n20,20\n")
    told = "4 points of those that are scored have no class"
    for where, seen in (("plain", True), ("found", False)):
        folder = tmp_path / "plain" if where == "plain" else found
        _, _, said = cli("evaluate", data, "--predictions", folder, "--class", "A", "--radius", 3)
        assert any(told in line for line in said) == seen
    _, _, said = cli("evaluate", data, "--predictions", found, "--radius", 3, "--against", tmp_path / "plain")
    assert any(f"4 points of {tmp_path / 'plain'} have no class" in line for line in said)


def test_evaluate_against_another_detector(cli, one_error, two_images, tmp_path):
    data, found = two_images
    better = tmp_path / "better"
    write(better / "a.csv", "y,x,score,class\n5,6,0.9,A\n20,20,0.8,B\n")
    write(better / "b.csv", "y,x,score,class\n9,9,1,A\n")
    arguments = (data, "--predictions", better, "--radius", 3, "--against", found)
    scores = evaluated(cli, tmp_path, *arguments)[1]
    assert scores["overall"]["f1"] == 1
    # Of class A before 1 hit, 1 alarm, 1 miss: F1 0.5, and in each image some fault.
    assert scores["difference"]["difference"] == pytest.approx(0.5)
    assert scores["difference"]["share_better"] == 1
    assert scores["difference"]["against"] == str(found)
    said = cli("evaluate", *arguments)[1]
    assert f"F1 minus that of {found}: +0.500, 95% interval" in " ".join(said.split())
    assert "nowhere is not a folder" in one_error("evaluate", *arguments[:-1], tmp_path / "nowhere")[1]


def test_evaluate_writes_a_page(cli, two_images, cells, run, tmp_path):
    data, found = two_images
    page = tmp_path / "page.html"
    code, said, _ = cli("evaluate", data, "--predictions", found, "--radius", 3, "--report", page)
    assert (code, f"report: {page}" in said) == (0, True)
    text = page.read_text()
    assert "False alarms of A, the surest first" in text
    assert "a.png, y 25, x 35: score 0.20" in text
    assert "b.png, y 9, x 9: no candidate" in text
    assert "by the threshold" not in text  # it is not known which one the predictions reach
    code, said, _ = cli("evaluate", cells, "--model", run, "--device", "cpu", "--report", page)
    assert (code, "by the threshold" in page.read_text()) == (0, True)
    assert "The code of one window" in page.read_text()


def test_predictions_of_the_whole_set(cli, two_images, tmp_path):
    data, found = two_images
    (tmp_path / "whole").mkdir()
    found.rename(tmp_path / "whole" / "images")
    assert evaluated(cli, tmp_path, data, "--predictions", tmp_path / "whole", "--radius", 3)[0] == (2, 1, 1)


def test_missing_prediction_is_a_miss_and_told(cli, two_images, tmp_path):
    data, found = two_images
    (found / "b.csv").unlink()
    counts, _, err = evaluated(cli, tmp_path, data, "--predictions", found, "--radius", 3)
    assert counts == (2, 1, 1)
    assert len(err) == 1
    assert "no prediction for 1 of 2 images (b.png): all their points count as missed" in err[0]


def test_predictions_without_classes_count_for_any(cli, two_images, tmp_path):
    data, found = two_images
    write(found / "a.csv", "y,x\n5,7\n20,21\n")
    arguments = (data, "--predictions", found, "--radius", 3, "--class", "A")
    assert evaluated(cli, tmp_path, *arguments)[0] == (1, 1, 1)


def test_radius_of_evaluation(cli, one_error, two_images, tmp_path):
    data, found = two_images
    code, said = one_error("evaluate", data, "--predictions", found)
    assert code == 2
    assert "give --radius A=PX" in said
    write(data / "dataset.json", '{"radius_px": {"A": 3, "B": 0.5}}')
    assert evaluated(cli, tmp_path, data, "--predictions", found)[0] == (1, 2, 2)
    assert evaluated(cli, tmp_path, data, "--predictions", found, "--class", "B")[0] == (0, 1, 1)


def test_folds(cli, two_images, tmp_path):
    data, found = two_images
    folds = write(tmp_path / "folds.csv", "image,fold\na.png,0\nb.png,1\nc.png,1\n")
    arguments = (data, "--predictions", found, "--radius", 3, "--split-file", folds)
    assert evaluated(cli, tmp_path, *arguments, "--val-fold", 0)[0] == (2, 1, 0)
    assert evaluated(cli, tmp_path, *arguments, "--val-fold", 1)[0] == (0, 0, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "evaluate needs either --model RUN or --predictions DIR"),
        (["--model", "a", "--predictions", "b"], 2, "evaluate needs either --model RUN or --predictions DIR"),
        (
            ["--predictions", "found", "--protocol", "best"],
            2,
            "unknown --protocol 'best'; use one of one-to-one,",
        ),
        (
            ["--predictions", "found", "--split", "test"],
            1,
            "in the split 'test'; its splits are: train (1 image), val (2 images)",
        ),
        (
            ["--predictions", "data"],
            1,
            "data has no prediction for any of 2 images; expected a.csv and so on",
        ),
        (["--predictions", "nowhere"], 1, "nowhere is not a folder"),
        (["--predictions", "found", "--class", "C"], 2, "no point of the class 'C'"),
        (
            ["--predictions", "found", "--threshold", "C=0.5"],
            2,
            "--threshold names the class 'C', but the classes here are: A, B",
        ),
    ],
)
def test_evaluate_arguments(one_error, two_images, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    found, said = one_error("evaluate", "data", "--radius", 3, *arguments)
    assert found == code
    assert words in said


def test_bad_prediction(one_error, two_images):
    data, found = two_images
    write(found / "a.csv", "y,x\n1,nan\n")
    code, said = one_error("evaluate", data, "--predictions", found, "--radius", 3)
    assert code == 1
    assert "a.csv, line 2: x is 'nan'" in said


# --- out of disk, killed ---


@pytest.fixture
def full_disk(cli):
    """Run the command line while no file can grow beyond some bytes; return exit code and stderr."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def call(size, *arguments):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            code, _, err = cli(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return code, err

    return call


def test_predict_on_a_full_disk(full_disk, cells, run, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    write(out / "a.csv", "old")
    source.mkdir()
    draw(source / "z.png", (1, 1))  # a point at most: its table still fits
    shutil.copy(sorted((cells / "images").iterdir())[0], source / "a.png")
    code, err = full_disk(150, "predict", source, "-m", run, "-o", out, "--overwrite", "-t", 0)
    assert code == 1
    assert f"error: cannot write {out / 'a.csv'}: File too large" in err
    assert set(content(out)) == {out / "a.csv", out / "z.csv"}
    assert (out / "a.csv").read_text() == "old"


def test_train_on_a_full_disk(full_disk, cells, tmp_path):
    run = tmp_path / "run"
    code, err = full_disk(5000, "train", cells, "-o", run, "--device", "cpu", *settings(steps=4, checks=2))
    assert code == 1
    assert f"error: cannot write {run / 'checkpoint.safetensors'}: File too large" in err
    assert set(content(tmp_path)) == {run / "history.csv"}


def test_what_is_logged_again_and_again_is_said_once_a_command(capsys):
    for _ in range(2):
        log_to_stderr()
        for name in ("a.png", "a.png", "b.png"):
            logging.getLogger("pointsense.images").warning("%s is dark", name)
    assert capsys.readouterr().err.splitlines() == ["warning: a.png is dark", "warning: b.png is dark"] * 2
