"""Several classes in one model, objects of another size, images of unlike contrast, and the bundled models."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pointsense.datasets import Sample, load_dataset
from pointsense.errors import DataError, UsageError
from pointsense.evaluation.predictions import (
    cases_of,
    class_names_of,
    class_to_count,
    classes_of,
    found_by_model,
    warn_if_without_class,
)
from pointsense.images import InputContract, read_image
from pointsense.inference.bundled import bundled_models, find_model
from pointsense.inference.detector import Detector
from pointsense.inference.explain import explain
from pointsense.inference.scaling import resized, to_working
from pointsense.inference.size import estimate_diameter
from pointsense.learning.crops import Crops, Field
from pointsense.learning.fit import train
from pointsense.model.config import Config, override
from pointsense.model.network import build_network
from pointsense.model.presets import fitted_to, preset
from pointsense.points import Detections
from test_cli import cli, one_error  # noqa: F401  fixtures

RADII = {"bright": 5.0, "dark": 3.0}
SETTINGS = {"steps": 150, "batch": 4, "patch": 64, "width": 8, "checks": 1, "jitter": 0.0, "ema": 0.9}


def spots(generator, side=96, each=6):
    """A grey image (side, side) uint8 of bright and of dark spots, their points and classes."""
    rows, columns = np.mgrid[:side, :side]
    image, points = generator.normal(120, 4, (side, side)), []
    while len(points) < 2 * each:
        place = generator.uniform(6, side - 7, 2)
        if all(np.hypot(*(place - other)) > 12 for other in points):
            sign = 1 if len(points) % 2 == 0 else -1
            image += sign * 90 * np.exp(-((rows - place[0]) ** 2 + (columns - place[1]) ** 2) / (2 * 2.5**2))
            points.append(place)
    return image.clip(0, 255).astype(np.uint8), np.array(points), ["bright", "dark"] * each


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("classes") / "data", np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows, split = ["image,y,x,class"], ["image,split"]
    for k in range(8):
        image, points, classes = spots(generator)
        Image.fromarray(image).save(folder / "images" / f"{k}.png")
        rows += [f"{k}.png,{y:.2f},{x:.2f},{name}" for (y, x), name in zip(points, classes, strict=True)]
        split.append(f"{k}.png,{'val' if k > 5 else 'train'}")
    (folder / "points.csv").write_text("\n".join(rows) + "\n")
    (folder / "split.csv").write_text("\n".join(split) + "\n")
    (folder / "dataset.json").write_text(json.dumps({"radius_px": RADII}))
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("classes") / "run"
    config = override(preset("pointsense"), SETTINGS | {"diameter": 6.0})
    train(load_dataset(data), out, config, radius=RADII, device="cpu")
    return out


def test_what_the_axes_see_is_of_the_class_and_the_size(run, data):
    detector = Detector.load(run, device="cpu", precision="32-true")
    sample = load_dataset(data).val[0]
    image = read_image(sample.path)
    large = np.kron(image[:, :, 0], np.ones((2, 2), np.uint8))  # objects of twice the size
    for k, name in enumerate(RADII):
        truth = sample.points[np.array(sample.classes) == name]
        found = detector.predict(image)
        own = found.points[found.classes == name]
        for pixels, zoom in ((image, 1.0), (large, 0.5)):
            to_pixels = lambda points, zoom=zoom: (points + 0.5) / zoom - 0.5  # noqa: E731
            view = explain(detector, pixels, to_pixels(truth), k=k, zoom=zoom)
            corner = np.array(view["box"][:2])
            assert len(view["points"])
            for point in view["points"] + corner:
                assert np.hypot(*(to_pixels(own) - point).T).min() < 3 / zoom


def test_classes_are_told_apart(run, data):
    detector = Detector.load(run, device="cpu")
    assert {kind.name: kind.radius for kind in detector.classes} == RADII
    dataset = load_dataset(data)
    found = found_by_model(dataset.val, detector)
    for name in RADII:
        for case in cases_of(dataset.only(name).val, found, name):
            distance = np.linalg.norm(case.truth[:, None] - case.detections, axis=-1)
            assert (distance.min(axis=1) < 2).mean() > 0.8
            assert len(case.detections) <= len(case.truth) + 1


def test_the_command_line_trains_and_scores_each_class(cli, data, tmp_path):  # noqa: F811
    run, out = tmp_path / "run", tmp_path / "out"
    settings = [f"--set={key}={value}" for key, value in (SETTINGS | {"steps": 3}).items()]
    code, said, _ = cli("train", data, "--out", run, "--each-class", "--device", "cpu", *settings)
    assert code == 0
    assert "match radius bright 5 px (from dataset.json), dark 3 px (from dataset.json)" in said
    assert "F1 of dark" in said
    card = (run / "README.md").read_text()
    assert "| bright | 5 |" in card
    assert "| dark | 3 |" in card
    arguments = ("-m", run, "--device", "cpu", "-t", "0", "--out", out)
    assert cli("predict", data / "images" / "7.png", "--overlay", *arguments)[0] == 0
    with (out / "7.csv").open() as file:
        assert {row["class"] for row in csv.DictReader(file)} <= set(RADII)
    code, said, _ = cli("evaluate", data, "-m", run, "--device", "cpu", "--json", tmp_path / "scores.json")
    assert code == 0
    assert "F1 of bright" in said
    written = json.loads((tmp_path / "scores.json").read_text())
    assert {name: one["radius_px"] for name, one in written.items()} == RADII
    code, said, _ = cli(
        "evaluate", data, "-m", run, "--device", "cpu", "--class", "dark", "--radius", "dark=4"
    )
    assert "match radius 4 px (as given)" in said


def test_wrong_classes_and_radii_are_refused(one_error, data, run, tmp_path):  # noqa: F811
    out = ("--out", tmp_path / "run")
    for arguments, words in (
        (("--class", "grey"), "no point of the class 'grey'"),
        (
            ("--each-class", "--radius", "grey=3"),
            "--radius names the class 'grey', but the classes here are: bright",
        ),
        (("--radius", "wide"), "--radius is wide, expected a positive number of pixels, or CLASS=PX"),
        (("--radius", "3", "--radius", "4"), "--radius is given twice for all points"),
        ((), "the classes of"),
    ):
        assert words in one_error("train", data, *out, *arguments)[1]
    assert "no point of the class 'grey'" in one_error("evaluate", data, "-m", run, "--class", "grey")[1]


def test_other_options_do_not_go_on_with_a_finished_training(one_error, data, run):  # noqa: F811
    arguments = ("train", data, "--out", run, "--class", "dark", "--resume", "--device", "cpu")
    values = "radius 4, now 3; scale 1, now 1.333; diameter 6, now 0; ..."
    assert f"was started with other settings ({values}) and classes" in one_error(*arguments)[1]


def test_tables_with_classes_are_scored_class_by_class(cli, data, run, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    assert cli("predict", data / "images", "-m", run, "--device", "cpu", "--out", out)[0] == 0
    code, said, _ = cli("evaluate", data, "--predictions", out)
    assert code == 0
    assert "F1 of bright" in said
    (out / "7.csv").write_text("y,x,score,class\n1,1,1,grey\n")
    (out / "6.csv").write_text("y,x,score,class\n1,1,1,grey\n")
    code, said, err = cli("evaluate", data, "--predictions", out, "--radius", "3")
    assert "of the class grey, the points of bright, dark: all count as one kind" in " ".join(err)


def test_pictures_of_predictions_are_not_predicted(cli, one_error, data, run, tmp_path):  # noqa: F811
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_bytes((data / "images" / "0.png").read_bytes())
    arguments = ("predict", images, "-m", run, "--device", "cpu", "--overlay", "--out", images / "out")
    for overwrite in ((), ("--overwrite",)):
        code, said, _ = cli(*arguments, *overwrite)
        assert code == 0
        assert "1 of 1 images done" in said
    arguments = ("predict", images / "out", "-m", run, "--out", tmp_path / "again")
    assert "holds no image" in one_error(*arguments)[1]


@pytest.mark.parametrize(
    ("convert", "error"),
    [(lambda a: a / 255.0, None), (lambda a: a.astype(np.int64), None), (lambda a: a - 300.0 * 1j, "pixels")],
)
def test_arrays_of_any_numbers_are_taken_or_refused(run, convert, error):
    image = convert(spots(np.random.default_rng(3))[0])
    detector = Detector.load(run, device="cpu")
    if error:
        with pytest.raises(DataError, match=error):
            detector.predict(image)
    else:
        assert detector.predict(image).points.shape[1] == 2
    with pytest.raises(UsageError, match="--diameter is wide, expected a positive number of pixels, or auto"):
        detector.predict(np.zeros((64, 64), np.uint8), diameter="wide")


def test_few_counts_of_a_deep_image_are_stretched():
    image = np.random.default_rng(0).integers(0, 250, (60, 60, 1)).astype(np.uint8)
    contract = InputContract.from_images([image, image // 8])
    shallow = contract.apply(image.astype(np.uint16))  # 8 bits in a 16-bit file
    np.testing.assert_allclose(shallow, contract.apply(image), atol=0.01)


def test_classes_to_score(data):
    dataset = load_dataset(data)
    assert classes_of(dataset, ["bright", "dark"], []) == ["bright", "dark"]
    assert classes_of(dataset, ["bright"], []) == ["bright"]
    assert classes_of(dataset, ["cell"], []) == [""]
    assert classes_of(dataset, ["cell"], ["dark"]) == ["dark"]
    with pytest.raises(UsageError, match="the model finds no 'dark'; its classes are bright, grey"):
        classes_of(dataset, ["bright", "grey"], ["dark"])


def test_a_class_that_is_not_found_is_not_another(data):
    dataset = load_dataset(data)
    alone = {
        sample.name: Detections.of(sample.points, classes=["bright"] * len(sample.points))
        for sample in dataset.val
    }
    of_dark = dataset.only("dark").val
    assert class_to_count("dark", class_names_of(alone), dataset) == "dark"
    assert all(len(case.detections) == 0 for case in cases_of(of_dark, alone, "dark"))
    # Other laboratories have other names.
    foreign = {name: replace(one, classes=np.array(["cell"] * len(one))) for name, one in alone.items()}
    assert class_to_count("dark", class_names_of(foreign), dataset) == ""
    assert class_to_count("dark", [], dataset) == "dark"


def test_points_without_a_class_are_told_where_classes_are_scored(data, caplog):
    dataset = load_dataset(data)
    for names, told in (([""], False), (["bright", "dark"], True)):
        found = {sample.name: Detections.of(sample.points) for sample in dataset.val}
        warn_if_without_class(found, names, dataset, "theirs")
        assert ("points of theirs have no class" in caplog.text) == told
    caplog.clear()
    named = {s.name: Detections.of(s.points, classes=["dark"] * len(s.points)) for s in dataset.val}
    warn_if_without_class(named, ["bright", "dark"], dataset, "theirs")
    assert not caplog.records


def test_the_papers_heads_find_one_class():
    config = override(fitted_to(preset("cnncs"), 6.0), {"backbone": "unet"})
    with pytest.raises(UsageError, match="finds one class, 2 are asked for"):
        build_network(config, 1, 2)


def test_crops_give_the_points_of_each_class_and_draw_classes_alike():
    points = np.array([[10.0, 10.0], *[[60.0, 60.0 + k] for k in range(9)]])
    labels = np.array([1] + [0] * 9)
    field = Field("a", torch.zeros(1, 200, 200).half(), points, labels)
    config = override(Config(), {"patch": 32, "batch": 60, "positives": 1.0})
    batch = Crops([field], config, seed=0, classes=2).batch(0)
    assert len(batch.points) == 120
    rare, common = (sum(len(p) > 0 for p in batch.points[k::2]) for k in (1, 0))
    assert 20 <= rare <= 40
    assert 20 <= common <= 40


def test_points_of_no_class_are_left_out():
    sample = Sample("a", None, np.zeros((3, 2)), ("A", "B", "C"), "a")
    assert sample.labels(["C", "A"]).tolist() == [1, -1, 0]
    assert sample.labels(["anything"]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("before", [16, 48])
def test_resized_points_lie_on_their_pixels(before):
    image = torch.zeros(1, before, before)
    image[0, 6:8, 10:12] = 1
    resized_image = resized(image, 32)
    points = to_working(np.array([[6.5, 10.5]]), np.full(2, 32 / before))
    assert resized_image.shape == (1, 32, 32)
    weights = resized_image[0].clamp(min=0)
    rows = torch.arange(32.0)
    centre = [(weights.sum(axis) * rows).sum() / weights.sum() for axis in (1, 0)]
    np.testing.assert_allclose(points, [[float(v) for v in centre]], atol=0.02)


def test_zoomed_crops_hold_more_or_less_of_the_image():
    points = np.stack(np.meshgrid(np.arange(0, 400, 8.0), np.arange(0, 400, 8.0)), -1).reshape(-1, 2)
    field = Field("a", torch.zeros(1, 400, 400).half(), points, np.zeros(len(points), int))
    config = override(Config(), {"patch": 64, "batch": 40, "positives": 0.0, "zoom": 2.0})
    counts = [len(p) for p in Crops([field], config, seed=0).batch(0).points]
    assert min(counts) < 40
    assert max(counts) > 130


def test_diameter_rescales_the_image(run):
    detector = Detector.load(run, device="cpu")
    image, _, _ = spots(np.random.default_rng(5), side=96)
    large = np.asarray(Image.fromarray(image).resize((192, 192), Image.Resampling.BILINEAR))
    own = detector.predict(image)
    found = detector.predict(large, diameter=12.0)
    assert len(own) >= 8
    # Half a pixel of an image twice as large is a quarter of one here.
    distance = np.linalg.norm(((found.points + 0.5) / 2 - 0.5)[:, None] - own.points, axis=-1)
    assert len(found) >= 0.7 * len(own)
    assert np.median(distance.min(axis=1)) < 1
    auto = detector.predict(large, diameter="auto")
    assert len(auto) >= 0.7 * len(own)


def test_the_size_of_the_training_is_among_those_that_are_tried():
    tried = []

    def predict(region, diameter):
        tried.append(diameter)
        return Detections.of(np.array([[9.0, 9.0]]), np.array([1.0 if diameter == 18 else 0.5]))

    for sides in ((20, 20), (20, 2000), (5000, 4000)):
        assert estimate_diameter(predict, torch.zeros(1, *sides), known=18.0, radius=6.0) == 18
        assert len(set(tried)) == len(tried) > 1
        tried.clear()


def test_the_diameter_is_looked_for_in_tiles_as_small_as_asked(run, monkeypatch, caplog):
    detector, sizes = Detector.load(run, device="cpu"), []
    detector.config = override(detector.config, {"diameter": 6.0})
    own = type(detector).mass
    monkeypatch.setattr(
        type(detector), "mass", lambda self, x, cells: sizes.append(x.shape) or own(self, x, cells)
    )
    image = np.zeros((400, 400), np.uint16)
    image[::20, ::20] = 100
    detector.predict(image, diameter="auto", tile=64)
    assert max(max(size[1:]) for size in sizes) <= 96 + 2 * (-(-detector.halo // 96) * 96)
    assert len(sizes) > 9
    assert sum("it will look dark" in record.message for record in caplog.records) == 1


def test_wrong_diameters_are_refused(run):
    detector = Detector.load(run, device="cpu")
    image = np.zeros((64, 64), np.uint8)
    with pytest.raises(UsageError, match="--diameter is -1, expected a positive number"):
        detector.predict(image, diameter=-1)
    unknown = replace(detector, config=override(detector.config, {"diameter": 0.0}))
    for diameter in (9.0, "auto"):
        with pytest.raises(UsageError, match="does not know how large the objects were"):
            unknown.predict(image, diameter=diameter)


def test_images_of_unlike_contrast_have_levels_of_their_own():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 250, (60, 60, 1)).astype(np.uint8)
    faint = (image // 8).astype(np.uint8)
    assert InputContract.from_images([image, image]).levels == "fixed"
    contract = InputContract.from_images([image, faint])
    assert contract.levels == "image"
    np.testing.assert_allclose(contract.apply(image), contract.apply(faint), atol=0.08)
    fixed = InputContract.from_images([image, faint], levels="fixed")
    assert fixed.apply(faint).max() < 0.2
    noise = generator.integers(10, 13, (60, 60, 1)).astype(np.uint8)
    assert np.ptp(contract.apply(noise)) < 0.5  # not stretched to what it is not
    assert InputContract.model_validate(contract.model_dump(mode="json")) == contract


def test_a_model_is_found_by_its_name_or_its_folder(run, monkeypatch, tmp_path):
    assert find_model(run) == run
    names = [model.name for model in bundled_models()]
    with pytest.raises(
        DataError, match="no model folder nowhere; .* comes with the package: " + ", ".join(names)
    ):
        find_model("nowhere")


def test_weights_in_half_precision_change_little(run, tmp_path):
    whole = Detector.load(run, device="cpu", precision="32-true")
    whole.save(tmp_path, half=True)
    half = Detector.load(tmp_path, device="cpu", precision="32-true")
    image = spots(np.random.default_rng(7))[0]
    np.testing.assert_allclose(half.predict(image).points, whole.predict(image).points, atol=0.1)
    assert (tmp_path / "model.safetensors").stat().st_size < 0.6 * (run / "model.safetensors").stat().st_size
