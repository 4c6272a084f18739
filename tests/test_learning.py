"""Training data, the selection part, and that a broken run goes on as if it had not been broken."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from pointsense.datasets import Sample, load_dataset
from pointsense.datasets.division import draw_selection
from pointsense.datasets.synthetic import RADIUS_PX, draw_image, make_synthetic
from pointsense.errors import DataError, UsageError
from pointsense.evaluation import match
from pointsense.images import InputContract, read_image
from pointsense.inference.detector import Detector
from pointsense.inference.device import pick_device
from pointsense.learning import course, material, mining, training
from pointsense.learning.augment import recoloured, turned
from pointsense.learning.crops import Alarm, Crops, Field, cut, fields_of
from pointsense.learning.fit import refit, train
from pointsense.learning.frozen import FrozenFeatures
from pointsense.learning.mining import BLUR, false_alarms, look_alikes
from pointsense.learning.selection import USUAL, Choice, Selection, usual_readings
from pointsense.learning.training import Training
from pointsense.model.classes import Reading
from pointsense.model.config import Config, override, parse_settings
from pointsense.model.network import build_network
from pointsense.model.presets import fitted_to, preset


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_turned_points_lie_on_their_pixels(turns, flip):
    image = torch.zeros(1, 9, 9)
    points = np.array([[1.0, 2.0], [7.0, 3.0]])
    for k, (y, x) in enumerate(points.astype(int)):
        image[0, y, x] = k + 1
    image, points = turned(image, points, turns, flip)
    assert [image[0, int(y), int(x)].item() for y, x in points] == [1, 2]


def test_cut_keeps_points_on_their_pixels():
    image = torch.arange(30 * 40).reshape(1, 30, 40).half()
    crop, points, labels = cut(
        Field("a", image, np.array([[12.0, 20.0], [0.0, 0.0]]), np.array([1, 0])), 10, 15, 8
    )
    assert points.tolist() == [[2.0, 5.0]]
    assert labels.tolist() == [1]
    assert crop[0, 2, 5] == image[0, 12, 20]


def test_colours_change_and_positions_do_not():
    image = torch.full((3, 8, 8), 0.9)
    image[:, 4, 4] = 0.2
    other = recoloured(image, 0.1, np.random.default_rng(0))
    assert not torch.allclose(image, other)
    assert other.sum(0).argmin() == image.sum(0).argmin()


def fields(side: int = 100) -> list[Field]:
    label = np.zeros(1, int)
    return [
        Field(str(k), torch.rand(3, side, side).half(), np.array([[20.0 + k, 30.0]]), label) for k in range(3)
    ]


def test_grid_sampling_shows_each_patch_in_four_turns_once_an_epoch():
    config = override(Config(), {"sampling": "grid", "patch": 32, "batch": 6})
    crops = Crops(fields(), config, seed=0)
    assert len(crops.grid) == 3 * 9
    seen = [k for step in range(4 * 27 // 6) for k in crops.patches(step)]
    assert sorted(seen) == list(range(4 * 27))
    assert crops.unseen == pytest.approx(1 - 0.96**2)
    assert Crops(fields(20), config, seed=0).unseen == 0  # patches reach beyond
    narrow = replace(fields()[0], image=torch.zeros(3, 20, 100))
    assert Crops([narrow], config, seed=0).unseen == pytest.approx(0.04)


def test_it_is_told_what_the_grid_leaves_out(data, tmp_path, caplog):
    settings = ["sampling=grid", "patch=80", "hard=0", "steps=1", "checks=1", "margin=8"]
    fitted(data, tmp_path / "a", settings)
    assert "nothing is learned from 31% of the images, along their borders" in caplog.text
    caplog.clear()
    fitted(data, tmp_path / "b", [*settings, "patch=96"])
    assert "nothing is learned" not in caplog.text


def test_points_of_other_classes_are_no_objects_of_the_training(tmp_path):
    """So that false alarms there are learned from."""
    image = np.zeros((40, 40, 3), np.uint8)
    points = np.array([[5.0, 6.0], [20.0, 21.0], [30.0, 31.0]])
    sample = Sample("a.png", tmp_path / "a.png", points, ("A", "C", "B"), "a.png")
    [one] = fields_of([sample], [image], InputContract.from_images([image]), 1.0, ["B", "A"])
    assert (one.points.tolist(), one.labels.tolist()) == ([[5.0, 6.0], [30.0, 31.0]], [1, 0])


def test_features_of_a_frozen_backbone_are_kept_for_the_weights_they_were_made_with(tmp_path, monkeypatch):
    changes = {
        "backbone": "unet",
        "pretrained": False,
        "patch": 32,
        "axes": 4,
        "measurements": 20,
        "jitter": 0,
    }
    config = override(fitted_to(preset("cnncs"), 6.0), changes)
    network, crops, fabric = (
        build_network(config, 3),
        Crops(fields(), config, seed=0),
        Fabric(accelerator="cpu"),
    )
    made = FrozenFeatures(network, crops, fabric, tmp_path / "features.safetensors")
    chosen = crops.patches(2)
    network.eval()
    expected = network.features(torch.stack([crops.patch(k)[0] for k in chosen]))
    assert torch.allclose(made.batch(2)[0], expected, atol=1e-5)

    monkeypatch.setattr(FrozenFeatures, "_compute", None)
    again = FrozenFeatures(network, crops, fabric, tmp_path / "features.safetensors")
    assert torch.equal(again.features, made.features)
    with torch.no_grad():
        next(network.backbone.parameters()).mul_(2)
    with pytest.raises(TypeError):  # computed anew
        FrozenFeatures(network, crops, fabric, tmp_path / "features.safetensors")


def test_a_step_sees_the_same_crops_again():
    config = override(Config(), {"patch": 32, "batch": 3})
    first, second = (Crops(fields(), config, seed=1).batch(5) for _ in range(2))
    assert [p.tolist() for p in first.points] == [p.tolist() for p in second.points]


def test_margins_lie_where_crops_cut_through_the_image():
    """In an image whose brightness is the distance to its border, they lie at inner borders alone."""
    axis = torch.arange(96).minimum(95 - torch.arange(96))
    image = torch.minimum(axis[:, None], axis[None]).half()[None] / 64
    field = Field("a", image, np.zeros((0, 2)), np.zeros(0, int))
    config = override(Config(), {"patch": 48, "batch": 30, "margin": 10, "jitter": 0.0})
    batch = Crops([field], config, seed=0).batch(0)
    cut_off = 0
    for crop, known in zip(batch.images, batch.known[:, 0], strict=True):
        for side in range(4):
            edge, margin = torch.rot90(crop[0], side)[0], torch.rot90(known, side)[:10]
            assert bool(margin.any()) == bool(edge.max() == 0)
            cut_off += not margin.any()
    assert 0 < cut_off < 4 * 30
    assert batch.known[:, 0, 10:-10, 10:-10].all()
    whole = Crops([field], override(config, {"patch": 96}), seed=0).batch(0)
    assert whole.known.all()


def test_false_alarms_are_peaks_far_from_points_and_crops_show_them(detector):
    image = draw_image(96, seed=5, slide=0, number=0)[0]
    prepared, scale = detector.prepare(image), detector.config.scale
    empty = Field("a", prepared.half(), np.zeros((0, 2)), np.zeros(0, int))
    alarms = false_alarms(detector.network, [empty], detector.config, detector.device)
    places = np.array([[alarm.y, alarm.x] for alarm in alarms])
    # Both read the peaks of one view, of the same blur.
    kinds = (replace(detector.classes[0], reading=Reading(BLUR)),)
    alike = replace(detector, classes=kinds, config=override(detector.config, {"views": 1}))
    seen = (alike.predict(image, decoder="maxima", threshold=0.07).points + 0.5) * scale - 0.5
    assert len(seen) >= 3
    assert np.linalg.norm(seen[:, None] - places, axis=-1).min(axis=1).max() < 4
    marked = replace(empty, points=seen, labels=np.zeros(len(seen), int))
    fewer = false_alarms(detector.network, [empty, marked], detector.config, detector.device)
    far = [alarm for alarm in fewer if alarm.field == 1]
    assert len(far) <= len(alarms) - len(seen)
    for alarm in far:
        assert np.hypot(*(seen - (alarm.y, alarm.x)).T).min() > 1.5 * detector.config.radius * scale

    spot = torch.zeros(1, 300, 300)
    spot[0, 200, 120] = 1
    config = override(Config(), {"patch": 64, "batch": 20, "positives": 0.0, "hard": 1.0, "jitter": 0.0})
    crops = Crops([Field("b", spot.half(), np.zeros((0, 2)), np.zeros(0, int))], config, seed=0)
    assert sum(crop.max() > 0 for crop in crops.batch(0).images) < 10
    crops.alarms = [Alarm(0, 200.0, 120.0, 1.0)]
    assert all(crop.max() > 0 for crop in crops.batch(0).images)


def test_crops_of_fluorescence_are_laid_over_one_another_with_all_their_points():
    """Spots of one pixel: as many are seen as there are points, in bright images none but their own."""
    spots = np.array([[10, 20], [30, 40], [50, 30]])
    image = torch.full((1, 64, 64), 0.1)
    image[0, spots[:, 0], spots[:, 1]] = 1.0
    config = override(Config(), {"patch": 64, "batch": 60, "margin": 0, "jitter": 0.0, "overlay": 0.5})

    def batch(field, overlay):
        crops = Crops([field], override(config, {"overlay": overlay}), seed=0)
        return crops.batch(0)

    field = Field("a", image, spots.astype(float), np.zeros(3, int))
    laid = batch(field, 0.5)
    counts = [len(points) for points in laid.points]
    assert 15 <= counts.count(6) <= 45
    assert set(counts) == {3, 6}
    for crop, points in zip(laid.images, laid.points, strict=True):
        seen = {tuple(place) for place in (crop[0] > 0.5).nonzero().tolist()}
        assert seen == {tuple(point) for point in points.long().tolist()}
        assert crop.min() == pytest.approx(0.1)  # one background, not two
    bright = replace(field, image=image + 0.5)
    assert torch.equal(batch(bright, 0.5).images, batch(bright, 0.0).images)


def test_positives_are_drawn_more_often_than_by_chance():
    config = override(Config(), {"patch": 32, "batch": 40, "positives": 0.8})
    points = Crops(fields(400), config, seed=0).batch(0).points
    assert sum(len(p) > 0 for p in points) >= 24


def samples(groups: list[str], tmp_path) -> list[Sample]:
    return [
        Sample(f"{k}.png", tmp_path / f"{k}.png", np.array([[1.0, 1.0]]), ("",), group)
        for k, group in enumerate(groups)
    ]


def test_selection_shares_no_group_with_what_is_fitted(tmp_path):
    fit, selection = draw_selection(samples(list("aabbccddee"), tmp_path), 0.2, seed=3)
    assert selection
    assert not {s.group for s in fit} & {s.group for s in selection}
    assert len(fit) + len(selection) == 10


def test_selection_is_drawn_by_image_where_val_has_the_same_groups(tmp_path, caplog):
    train = [replace(s, name=f"{s.group}{k}") for k, s in enumerate(samples(list("aaaaabbbbb"), tmp_path))]
    val = [replace(s, name="other") for s in samples(["b"], tmp_path)]
    _, selection = draw_selection(train, 0.2, seed=0, val=val)
    assert sorted(s.group for s in selection) == ["a", "b"]
    assert "groups are in train and in val (1 of 2)" in caplog.text


def test_one_image_of_a_known_group_in_val_does_not_divide_the_others(tmp_path, caplog):
    train = [replace(s, name=f"{s.group}{k}") for k, s in enumerate(samples(list("aaabbbcccddd"), tmp_path))]
    val = [replace(s, name=f"v{k}") for k, s in enumerate(samples(list("xyzwa"), tmp_path))]
    for seed in range(4):
        fit, selection = draw_selection(train, 0.25, seed=seed, val=val)
        assert {s.group for s in fit} & {s.group for s in selection} <= {"a"}
    assert "groups are in train and in val (1 of 4)" in caplog.text


@pytest.mark.parametrize("rare", [5, 10])
def test_rare_classes_are_on_both_sides_of_a_small_selection_part(tmp_path, rare):
    """Of 50 images, each rare class in two."""
    generator = np.random.default_rng(rare)
    kinds = [["common"] * 20 for _ in range(50)]
    for k in range(rare):
        for place in generator.choice(50, 2, replace=False):
            kinds[place].append(f"rare {k}")
    every = [
        Sample(f"{k:02}.png", tmp_path / "a.png", np.zeros((len(own), 2)), tuple(own), f"{k:02}")
        for k, own in enumerate(kinds)
    ]
    names = ["common", *(f"rare {k}" for k in range(rare))]
    for seed in range(6):
        parts = draw_selection(every, 0.2, seed, classes=names)
        assert len(parts[1]) <= 15
        assert all({*names} <= {name for s in part for name in s.classes} for part in parts)


def test_selection_needs_points_on_both_sides(tmp_path):
    bare = [replace(s, points=np.zeros((0, 2)), classes=()) for s in samples(list("abc"), tmp_path)]
    with pytest.raises(DataError, match="none of the training images has a point"):
        draw_selection(bare, 0.2, seed=0)
    one = [*samples(["z"], tmp_path), *bare]
    with pytest.raises(DataError, match=r"points are in 1 of the 4 .*; expected at least two, one to fit"):
        draw_selection(one, 0.2, seed=0)
    with pytest.raises(DataError, match="two training images"):
        draw_selection(bare[:1], 0.2, seed=0)


TINY = ["patch=48", "steps=60", "batch=2", "checks=2", "width=8", "hard=0.5"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_synthetic(tmp_path_factory.mktemp("set"), images=6, size=96)


def fitted(data, out, settings=(), **options):
    config = override(preset("pointsense"), parse_settings([*TINY, *settings]))
    return train(load_dataset(data), out, config, radius=RADIUS_PX, device="cpu", **options)


def test_val_is_never_opened_and_the_seed_decides(data, tmp_path):
    dataset = load_dataset(data)
    hidden = replace(
        dataset,
        samples=tuple(
            replace(s, path=tmp_path / "not there.png") if s.split == "val" else s for s in dataset.samples
        ),
    )
    config = override(preset("pointsense"), parse_settings(TINY))
    metrics = train(hidden, tmp_path / "a", config, radius=RADIUS_PX, device="cpu")
    used = set(metrics["train_images"]) | set(metrics["selection"]["images"])
    assert used == {s.name for s in dataset.train}
    assert not used & {s.name for s in dataset.val}
    assert metrics["code"]["ratio"] <= 0.5
    fitted(data, tmp_path / "b")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        "config.json",
        "model.safetensors",
        "metrics.json",
        "history.csv",
        "curve.png",
        "README.md",
    }


def test_a_model_that_learned_beside_a_heat_map_is_stored_and_read_whole(data, tmp_path):
    fitted(data, tmp_path / "run", ["spots=1", "steps=8", "checks=1"])
    fitted(data, tmp_path / "plain", ["steps=8", "checks=1"])
    image = read_image(load_dataset(data).val[0].path)
    found, plain = (
        Detector.load(tmp_path / name, device="cpu").predict(image, threshold=0.0)
        for name in ("run", "plain")
    )
    assert len(found)
    assert not np.array_equal(found.scores, plain.scores)


def test_an_existing_run_is_not_overwritten_by_accident(data, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UsageError, match="--resume"):
        fitted(data, tmp_path)


def test_nothing_is_deleted_before_the_settings_are_known_to_be_right(data, tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "config.json").write_text("{}")
    wrong = override(preset("pointsense"), {"backbone": "convnext_atto", "steps": 2})
    with pytest.raises(
        UsageError, match=r"has features at strides \(4, 8, 16, 32\) px, expected none above 16"
    ):
        train(load_dataset(data), tmp_path, wrong, radius=RADIUS_PX, device="cpu", overwrite=True)
    assert {p.name for p in tmp_path.iterdir()} == {"metrics.json", "config.json"}


def test_of_a_training_that_is_begun_anew_nothing_tells_of_the_one_before(data, tmp_path):
    fitted(data, tmp_path)

    def stops(progress):
        assert not {p.name for p in tmp_path.iterdir()} & {
            "README.md",
            "curve.png",
            "metrics.json",
        }
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(data, tmp_path, overwrite=True, report=stops)


@pytest.mark.parametrize("radius", [0, -3.0, float("nan"), float("inf"), {"a": 3.0, "b": 0.0}])
def test_a_radius_that_is_none_is_refused(data, tmp_path, radius):
    with pytest.raises(UsageError, match=r"the radius is .*, expected a positive number of pixels"):
        train(load_dataset(data), tmp_path / "out", preset("pointsense"), radius=radius)
    assert not (tmp_path / "out").exists()


def test_a_preset_is_no_setting():
    with pytest.raises(UsageError, match="would change its name alone: give --preset mitoses"):
        parse_settings(["steps=3", "preset=mitoses"])


@pytest.mark.parametrize("changes", [{"weights": "a.safetensors"}, {"pretrained": True}])
def test_weights_that_nothing_would_use_are_refused(data, tmp_path, changes):
    config = override(preset("pointsense"), changes)
    with pytest.raises(
        UsageError, match=f"{next(iter(changes))} is for timm's backbones, the backbone 'unet' starts"
    ):
        train(load_dataset(data), tmp_path, config, radius=RADIUS_PX, device="cpu")


def test_a_training_does_not_go_on_with_other_points(data, tmp_path, caplog):
    fitted(data, tmp_path / "a")
    assert fitted(data, tmp_path / "a", resume=True)["steps"]
    assert "is finished already: nothing is left to do" in caplog.text
    dataset = load_dataset(data)
    moved = replace(dataset, samples=tuple(replace(s, points=s.points + 0.5) for s in dataset.samples))
    config = override(preset("pointsense"), parse_settings(TINY))
    with pytest.raises(UsageError, match="was started with other points"):
        train(moved, tmp_path / "a", config, radius=RADIUS_PX, device="cpu", resume=True)


def test_a_training_goes_on_where_a_setting_came_later(data, tmp_path, caplog):
    fitted(data, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["request"]["settings"].pop("view_zoom") == 1.0
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    fitted(data, tmp_path, resume=True)
    assert "is finished already" in caplog.text


def test_a_loss_that_is_not_finite_ends_the_training(data, tmp_path):
    config = override(preset("pointsense"), parse_settings(TINY) | {"learning_rate": 1e30})
    with pytest.raises(
        DataError, match=r"the loss became (nan|inf) at step \d+; lower learning_rate with --set"
    ):
        train(load_dataset(data), tmp_path, config, radius=RADIUS_PX, device="cpu")


def test_refit_learns_from_all_images_and_keeps_what_was_chosen(data, tmp_path, caplog):
    dataset, first, second = load_dataset(data), tmp_path / "first", tmp_path / "second"
    before = fitted(data, first)
    after = refit(first, dataset, second, device="cpu")
    assert after["train_images"] == sorted(before["train_images"] + before["selection"]["images"])
    assert after["selection"] == before["selection"]
    assert (after["steps"], after["seed"]) == (before["steps"], before["seed"])
    models = [Detector.load(folder, device="cpu") for folder in (first, second)]
    assert models[0].classes == models[1].classes
    assert models[0].contract == models[1].contract
    image = read_image(dataset.val[0].path)
    scores = [model.predict(image, threshold=0.0).scores for model in models]
    assert not np.array_equal(*scores)
    assert f"once more after the training in `{first}`" in (second / "README.md").read_text()

    assert refit(first, dataset, second, device="cpu", resume=True)["request"] == after["request"]
    assert "is finished already" in caplog.text
    config = json.loads((first / "config.json").read_text())
    config["classes"][0]["threshold"] = 0.123
    (first / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="was started with other choices"):
        refit(first, dataset, second, device="cpu", resume=True)
    with pytest.raises(UsageError, match="was started with other seed"):
        refit(first, dataset, second, device="cpu", seed=1, resume=True)


def test_refit_takes_the_points_that_the_training_took(data, tmp_path):
    """A class by name where the points have none; and one class alone where there are others."""
    dataset, config = load_dataset(data), override(preset("pointsense"), parse_settings(TINY))
    train(dataset, tmp_path / "named", config, radius=RADIUS_PX, class_name="cell", device="cpu")
    refit(tmp_path / "named", dataset, tmp_path / "again", device="cpu")
    two = replace(
        dataset,
        samples=tuple(
            replace(s, classes=tuple("ab"[k % 2] for k in range(len(s.points)))) for s in dataset.samples
        ),
    )
    train(two.only("a"), tmp_path / "a", config, radius=RADIUS_PX, class_name="a", device="cpu")
    after = refit(tmp_path / "a", two, tmp_path / "a again", device="cpu", seed=3)
    assert after["seed"] == 3
    train(two, tmp_path / "both", config, radius={"a": RADIUS_PX, "b": RADIUS_PX}, device="cpu")
    assert set(refit(tmp_path / "both", two, tmp_path / "both again", device="cpu")["radius"]) == {"a", "b"}
    with pytest.raises(DataError, match=r"are not those that .*a learned from"):
        refit(tmp_path / "a", two.only("b"), tmp_path / "other", device="cpu")


def test_refit_needs_a_training_that_chose(data, tmp_path, caplog):
    dataset, first = load_dataset(data), tmp_path / "first"
    with pytest.raises(UsageError, match="holds no finished training"):
        refit(first, dataset, tmp_path / "second", device="cpu")
    before = fitted(data, first)
    with pytest.raises(UsageError, match="give another folder, the first one is needed"):
        refit(first, dataset, first, device="cpu", overwrite=True)
    assert (first / "model.safetensors").exists()
    fewer = replace(dataset, samples=tuple(s for s in dataset.samples if s.name != before["train_images"][0]))
    new = [replace(s, split="train") for s in dataset.val[:1]]
    more = replace(dataset, samples=tuple(s for s in dataset.samples if s.name != new[0].name) + tuple(new))
    refit(first, more, tmp_path / "more", device="cpu")
    assert (
        f"1 train images of {dataset.root} are not among those of {first}, the first {new[0].name}"
        in caplog.text
    )
    with pytest.raises(DataError, match=rf"lacks 1 of \d+ images of .*first {before['train_images'][0]}"):
        refit(first, fewer, tmp_path / "second", device="cpu")
    assert not (tmp_path / "second").exists()
    refit(first, dataset, tmp_path / "second", device="cpu")
    with pytest.raises(UsageError, match=r"chose on none: give the training before it, .*first"):
        refit(tmp_path / "second", dataset, tmp_path / "third", device="cpu")


def test_atoms_may_be_wider_where_neighbours_lie_apart():
    grid = np.stack(np.meshgrid(*[np.arange(10.0)] * 2), -1).reshape(-1, 2)
    wide = (replace(USUAL, blur=0.75), replace(USUAL, blur=1.0), Reading(2.0, matched=True))
    px = {1: (), 12: wide[:1], 20: wide[1:2], 60: wide[2:]}  # of which four make a cell
    for spacing, other in px.items():
        assert usual_readings([spacing * grid, spacing * grid[:50]], 0.25) == [USUAL, *other]
    # Of those alone in their image nothing is near; one close pair in a hundred is no matter, one in ten is.
    assert usual_readings([grid[:1]] * 30, 0.25)[-1].blur == 2.0
    assert usual_readings([grid[:1]] * 98 + [grid[:2]], 0.25)[-1].blur == 2.0
    assert usual_readings([grid[:1]] * 18 + [grid[:2]], 0.25) == [USUAL]
    assert usual_readings([np.zeros((0, 2))], 0.25) == usual_readings([], 0.25) == [USUAL]


def test_of_two_usual_readings_the_better_is_taken(detector, monkeypatch):
    image, _ = draw_image(96, seed=5, slide=0, number=0)
    sample = Sample("a", Path("a.png"), np.array([[10.0, 10.0], [80.0, 80.0]]), ("",) * 2, "a", "train")
    for better in (0.5, 2.0):
        monkeypatch.setattr(
            Selection,
            "_read",
            lambda *given, best=better, **_: Choice(None, float(given[4].blur == best), given[4]),
        )
        chosen = Selection([sample], [image], detector.classes).choose(detector, blurs=())
        assert chosen[0].reading.blur == better


@pytest.mark.parametrize("decoder", ["full", "codes", "maxima"])
def test_maxima_have_no_matched_filter(detector, monkeypatch, decoder):
    image, _ = draw_image(96, seed=5, slide=0, number=0)
    sample = Sample("a", Path("a.png"), np.array([[10.0, 10.0]]), ("",), "a", "train")
    tried = []

    def merits(_, __, ___, k, reading, decoder):
        tried.append(reading)
        return Choice(None, reading.blur, reading)

    monkeypatch.setattr(Selection, "_read", merits)
    chosen = Selection([sample], [image], detector.classes).choose(detector, blurs=(), decoder=decoder)
    assert chosen[0].reading == Reading(2.0, matched=decoder != "maxima")
    assert len(tried) == 2


@pytest.mark.parametrize(
    ("points", "better", "chosen"),
    [(90, 0.04, USUAL), (90, 0.05, Reading(1.0, 0.8)), (6, 0.04, USUAL), (6, 0.06, Reading(1.0, 0.8))],
)
def test_the_usual_reading_stays_unless_another_is_clearly_better(
    detector, monkeypatch, points, better, chosen
):
    """On ninety points eight errors are .044, on six one is .083."""
    image, truth = draw_image(96, seed=5, slide=0, number=0)
    sample = Sample("a", Path("a.png"), np.resize(truth, (points, 2)), ("",) * points, "a", "train")

    def merits(_, __, ___, k, reading, decoder):
        merit = 0.7 + better * (reading == Reading(1.0, 0.8)) + 0.001 * (reading == Reading(1.0))
        return Choice(None, merit, reading)

    monkeypatch.setattr(Selection, "_read", merits)
    selection = Selection([sample], [image], detector.classes)
    assert selection.choose(detector)[0].reading == chosen
    assert selection.choose(detector, blurs=())[0].reading == USUAL


def test_slow_checks_leave_time_to_learn(data, tmp_path, monkeypatch, caplog):
    """A clock that only checks move: ten seconds each, of half a minute."""
    now = [0.0]
    monkeypatch.setattr(course.time, "monotonic", lambda: now[0])
    choose, step = Selection.choose, Training.step

    def slow(*arguments, **options):
        now[0] += 10
        return choose(*arguments, **options)

    def quick(*arguments):
        now[0] += 1
        return step(*arguments)

    monkeypatch.setattr(Selection, "choose", slow)
    monkeypatch.setattr(Training, "step", quick)
    config = override(preset("pointsense"), parse_settings(TINY) | {"steps": 100, "checks": 8})
    metrics = train(load_dataset(data), tmp_path, config, radius=RADIUS_PX, device="cpu", time_limit=0.5)
    assert metrics["steps"] == 10  # a third of the limit
    assert "the time limit ended the training after 10 of 100 steps" in caplog.text


def test_a_killed_training_ends_as_an_unbroken_one(data, tmp_path):
    whole = fitted(data, tmp_path / "whole")
    script = (
        "import sys, torch; torch.set_num_threads(int(sys.argv[3]))\n"
        "import pointsense.learning.course as course, pointsense.learning.fit as fit\n"
        "from pointsense.datasets import load_dataset\n"
        "from pointsense.model.config import override, parse_settings\n"
        "from pointsense.model.presets import preset\n"
        "course.SECONDS = 0\n"
        f"config = override(preset('pointsense'), parse_settings({TINY}))\n"
        f"fit.train(load_dataset(sys.argv[1]), sys.argv[2], config, radius={RADIUS_PX}, device='cpu')\n"
    )
    broken = tmp_path / "broken"
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(data), str(broken), str(torch.get_num_threads())],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (broken / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (broken / "metrics.json").exists(), "the child was to be killed before its end"
    resumed = fitted(data, broken, resume=True)
    for key in ("steps", "train_images", "selection"):
        assert json.dumps(resumed[key]) == json.dumps(whole[key])
    assert (broken / "model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_wherever_a_training_is_killed_it_ends_as_an_unbroken_one(data, tmp_path, monkeypatch):
    """With merits that fall, so that the first weights stay the best, and alarms that are mined at each check."""
    settings = ["steps=45", "checks=3"]
    choose, write, begin = Selection.choose, course.write_checkpoint, course.Course.__init__
    running, left = [], [0]

    def begun(self, *arguments):
        running[:] = [self]
        begin(self, *arguments)

    def falling(self, detector, **options):
        merit = 1 - running[0].state.step / 100
        return [replace(choice, merit=merit) for choice in choose(self, detector, **options)]

    def written(*arguments):
        write(*arguments)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(course, "SECONDS", 0)
    monkeypatch.setattr(mining, "LEAST", 0.002)
    monkeypatch.setattr(course.Course, "__init__", begun)
    monkeypatch.setattr(Selection, "choose", falling)
    monkeypatch.setattr(Selection, "mean_error", 0.0)
    monkeypatch.setattr(course, "write_checkpoint", written)
    whole = fitted(data, tmp_path / "whole", settings)
    assert whole["selection"]["best_step"] == 15
    assert running[0].state.alarms
    for killed in range(1, -left[0] + 1):
        broken, left[0] = tmp_path / f"broken{killed}", killed
        with pytest.raises(KeyboardInterrupt):
            fitted(data, broken, settings)
        resumed = fitted(data, broken, settings, resume=True)
        assert json.dumps(resumed["selection"]) == json.dumps(whole["selection"])
        for name in ("model.safetensors", "history.csv"):
            ours, theirs = (
                [line.rsplit(b",", 1)[0] for line in (run / name).read_bytes().splitlines()]
                if name == "history.csv"
                else (run / name).read_bytes()
                for run in (broken, tmp_path / "whole")
            )
            assert ours == theirs


def test_a_training_killed_in_its_last_check_has_the_history_of_an_unbroken_one(data, tmp_path, monkeypatch):
    settings = ["steps=25", "checks=1"]
    fitted(data, tmp_path / "whole", settings)

    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(course.Course, "_check", killed)
        with pytest.raises(KeyboardInterrupt):
            fitted(data, tmp_path / "broken", settings)
    fitted(data, tmp_path / "broken", settings, resume=True)
    whole, broken = (
        [line.rsplit(",", 1)[0] for line in (tmp_path / name / "history.csv").read_text().splitlines()]
        for name in ("whole", "broken")
    )
    assert broken == whole
    assert [line.split(",")[0] for line in whole[1:]] == ["20", "25"]
    assert all(whole[-1].split(","))  # its losses and its F1


def test_points_of_given_codes(detector):
    detector = replace(detector, classes=(replace(detector.classes[0], threshold=0.5, reading=Reading()),))
    code = detector.network.code
    points = torch.tensor([[10.0, 10.0], [30.0, 20.0]])
    lattice = code.lattice(48, 48)
    signal = code.signals(points, torch.ones(2), lattice) @ code.sensing_matrix.T
    codes = signal.permute(1, 2, 0).reshape(code.numbers, *lattice)
    stride = detector.config.stride
    found = detector.decode(codes[None]).points
    np.testing.assert_allclose(found, (points.numpy() + 0.5) * stride - 0.5, atol=0.75)


def test_another_images_codes_give_that_images_points(detector):
    """Nothing but the codes decides: the detections go where they come from."""
    detector = replace(detector, classes=(replace(detector.classes[0], threshold=0.3),))
    images = [draw_image(96, seed=5, slide=0, number=number)[0] for number in (0, 1)]
    codes = [detector.map(detector.prepare(image))[0] for image in images]
    own = [detector.predict(image, decoder="codes").points for image in images]
    assert min(len(points) for points in own) >= 3
    for k in (0, 1):
        found = detector.decode(codes[k]).points
        np.testing.assert_allclose(found, own[k], atol=1e-3)
        assert match(own[1 - k], found, 2.0).true_positives < 0.5 * len(found)


def test_going_on_and_beginning_anew_exclude_each_other(data, tmp_path):
    (tmp_path / "checkpoint.json").write_text("{}")
    with pytest.raises(UsageError, match="--resume goes on with a training, --overwrite begins it anew"):
        fitted(data, tmp_path, resume=True, overwrite=True)
    assert (tmp_path / "checkpoint.json").exists()


def test_more_points_than_the_papers_code_holds_are_told(data, tmp_path, caplog):
    settings = {
        "backbone": "unet",
        "pretrained": False,
        "patch": 96,
        "measurements": 4,
        "axes": 2,
        "steps": 1,
    }
    config = override(preset("cnncs"), settings | {"batch": 1, "scale": 1.0, "checks": 1})
    train(load_dataset(data), tmp_path, config, radius=RADIUS_PX, device="cpu")
    assert "denser than the code can hold: up to" in caplog.text


def test_windows_must_overlap():
    for window, hop in ((24, 24), (24, 16)):
        with pytest.raises(UsageError, match=r"multiple of hop .*twice it at least"):
            override(Config(), {"window": window, "hop": hop})


def test_a_heat_map_has_no_codes(data, tmp_path):
    fitted(data, tmp_path, ["target=heatmap", "steps=1", "checks=1"])
    detector = Detector.load(tmp_path, device="cpu")
    image = draw_image(96, seed=5, slide=0, number=0)[0]
    detector.predict(image, decoder="maxima")
    with pytest.raises(UsageError, match="a heat map, which has no codes"):
        detector.predict(image, decoder="codes")
    with pytest.raises(UsageError, match="a heat map, which has no codes"):
        detector.decode(torch.zeros(1, 96, 3, 3))


@pytest.mark.parametrize(("look", "needed"), [(0, 55_296), (32, 5 * 55_296)])
def test_images_that_are_more_than_the_memory_are_refused(look, needed, monkeypatch):
    """Four images of 96 x 96 px: three channels of two bytes, at half the size, and as they are for a second look."""
    config = override(Config(), {"scale": 0.5, "look": look})
    monkeypatch.setattr(material, "memory", lambda: needed)
    material.require_memory([(96, 96, 3)] * 4, 3, config)
    monkeypatch.setattr(material, "memory", lambda: needed - 1)
    with pytest.raises(DataError, match="cut out the parts that are annotated, or take fewer"):
        material.require_memory([(96, 96, 3)] * 4, 3, config)


def test_images_to_choose_on_count_as_they_are(monkeypatch):
    monkeypatch.setattr(material, "memory", lambda: 55_296)
    with pytest.raises(DataError, match="cut out the parts that are annotated"):
        material.require_memory([(96, 96, 3)] * 4, 3, override(Config(), {"scale": 0.5}), chosen_on=1)


def test_resuming_spares_what_is_no_training(data, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(
        UsageError, match=r"holds README\.md, and no training to go on with: give another --out"
    ):
        fitted(data, tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    with pytest.raises(UsageError, match="the time limit is 0 minutes, expected a positive number"):
        fitted(data, tmp_path / "other", time_limit=0)


def test_a_second_look_at_other_alarms_is_not_gone_on_with(data, tmp_path):
    """Its checkpoint is of a network that was not at its end, or that is lost."""
    (tmp_path / "look.checkpoint.safetensors").write_bytes(b"of before")
    (tmp_path / ".checkpoint.abc.part.safetensors").write_bytes(b"of a kill")
    fitted(data, tmp_path, ["look=32", "look_steps=1", "steps=2", "checks=1"], resume=True)
    assert not [path.name for path in tmp_path.iterdir() if "checkpoint" in path.name]


def test_memory_is_asked_for_before_anything_is_learned(data, tmp_path, monkeypatch):
    monkeypatch.setattr(material, "memory", lambda: 1000)
    with pytest.raises(DataError, match=r"training images take 0\.0 GB .* \(--max-train-images N\)"):
        fitted(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_no_image_is_told(data, tmp_path):
    fitted(data, tmp_path, ["steps=1", "checks=1"])
    detector = Detector.load(tmp_path, device="cpu")
    with pytest.raises(UsageError, match=r"found a path: give read_image\('a\.png'\)"):
        detector.predict("a.png")
    with pytest.raises(UsageError, match="found a path"):
        replace(detector, config=override(detector.config, {"diameter": 12.0})).predict(
            "a.png", diameter="auto"
        )
    with pytest.raises(DataError, match=r"has the shape \(0, 0\)"):
        detector.predict(np.zeros((0, 0), np.uint8))


def test_the_papers_images_give_8960_patches():
    """35 images of 2084 px: 64 patches of 260 px each, empty ones, too, in four turns."""
    image = torch.zeros(1, 1, 1).expand(1, 2084, 2084)
    fields = [Field(str(k), image, np.zeros((0, 2)), np.zeros(0, int)) for k in range(35)]
    config = override(preset("cnncs"), {"patch": 260})
    crops = Crops(fields, config, 0)
    assert 4 * len(crops.grid) == 8960
    steps = 8960 // config.batch
    assert sorted(k for step in range(steps) for k in crops.patches(step)) == list(range(8960))


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """A set in whose first image something is marked as no object."""
    folder = make_synthetic(tmp_path_factory.mktemp("marked") / "data", images=6, size=96, seed=3)
    table = folder / "points.csv"
    lines = table.read_text().splitlines()
    first = lines[1].split(",")[0]
    rows = (
        [lines[0] + ",class", *(f"{line},cell" for line in lines[1:])] if "class" not in lines[0] else lines
    )
    table.write_text("\n".join([*rows, f"{first},50,40,look-alike"]) + "\n")
    return folder, first


def test_look_alikes_are_no_objects(marked):
    folder, first = marked
    dataset = load_dataset(folder)
    assert "look-alike" not in dataset.class_names
    [sample] = [sample for sample in dataset.samples if len(sample.look_alikes)]
    assert (sample.name, sample.look_alikes.tolist()) == (first, [[50.0, 40.0]])
    assert len(sample.points) == len(sample.classes)
    kinds = [kind for kind in dataset.class_names if kind]
    assert kinds
    assert any(len(one.look_alikes) for one in dataset.only(kinds[0]).samples)


def test_crops_are_drawn_around_look_alikes():
    image = torch.zeros(1, 400, 400).half()
    field = Field("a", image, np.zeros((0, 2)), np.zeros(0, int), look_alikes=np.array([[200.0, 120.0]]))
    config = override(Config(), {"patch": 64, "batch": 400, "positives": 0.0, "jitter": 0.0})
    image[0, 200, 120] = 1
    crops = Crops([field], config, 0)
    crops.alarms = look_alikes([field], config)
    share = (crops.batch(0).images.amax((1, 2, 3)) > 0).float().mean()
    assert 0.4 < share < 0.65  # a half, and some by chance
    plain = Crops([replace(field, look_alikes=np.zeros((0, 2)))], config, 0)
    assert (plain.batch(0).images.amax((1, 2, 3)) > 0).float().mean() < 0.1


def test_training_uses_look_alikes(marked, tmp_path, monkeypatch):
    folder, first = marked
    seen = []
    step = Crops.batch
    monkeypatch.setattr(Crops, "batch", lambda self, k: (seen.append(list(self.alarms)), step(self, k))[1])
    dataset = load_dataset(folder)
    dataset = replace(dataset, samples=tuple(replace(sample, split="train") for sample in dataset.samples))
    config = override(Config(), parse_settings([one for one in TINY if "hard" not in one]))
    metrics = train(dataset, tmp_path / "run", config, radius=RADIUS_PX, device="cpu")
    assert first in metrics["train_images"]
    assert (len(seen[0]), len(seen[-1])) == (1, 1)


@pytest.mark.parametrize(("name", "devices"), [("cpu", 1), ("cuda", 1), ("cuda:0", 1), ("cuda:1", [1])])
def test_a_training_runs_on_the_device_that_was_asked_for(monkeypatch, name, devices):
    asked = {}
    monkeypatch.setattr(training, "pick_device", torch.device)
    monkeypatch.setattr(training, "pick_precision", lambda name, device: "32-true")
    monkeypatch.setattr(training, "Fabric", lambda **options: asked.update(options))
    training.make_fabric(Config(), name)
    assert (asked["accelerator"], asked["devices"]) == (name.split(":")[0], devices)


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    assert pick_device().type == "cuda"
    for name in ("cuda:2", "mps"):
        with pytest.raises(UsageError, match=f"no device '{name}' on this machine"):
            pick_device(name)
    for name in ("cuda:", "cuda:x", "cuda:-1", "cpu:1", "tpu"):
        with pytest.raises(UsageError, match=f"unknown device '{name}'; use auto, cpu, cuda, cuda:N or mps"):
            pick_device(name)


def test_an_apple_gpu_is_taken_by_name_alone(monkeypatch):
    """Parts of the recovery need float64, which it lacks."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device().type == "cpu"
    assert pick_device("mps").type == "mps"
