"""The detectors that ours is compared with: they learn, they answer in image px, and they say what they lack."""

import os
import stat
import sys
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import timm
import torch
from safetensors.torch import save_file

from peers import PEERS, fcrn, load_peer, log, spotiflow
from pointsense.datasets import Sample, load_dataset
from pointsense.errors import DataError, UsageError
from pointsense.evaluation.log_baseline import LogDetector
from pointsense.images import InputContract, read_image
from pointsense.learning.crops import Crops, Field, read_checked
from pointsense.model.config import override
from pointsense.model.presets import fitted_to, preset
from pointsense.peers import faster_rcnn, faster_rcnn_network
from pointsense.peers.descent import descend
from pointsense.peers.frame import Frame, FramedFinder
from pointsense.peers.problem import BatchFinder, Problem, candidates_of, merit_of

BYTES = InputContract(channels=1, dtype="uint8", low=(0,), high=(255,))
SETTINGS = {"steps": 2, "batch": 2, "patch": 64, "checks": 1, "ema": 0.5, "precision": "32-true"}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Settings of a backbone with a file of weights of the right names; their values are random."""
    return started(faster_rcnn_network.BACKBONE, tmp_path_factory.mktemp("weights"))


def started(backbone, folder):
    path = folder / "weights.safetensors"
    save_file(timm.create_model(backbone, pretrained=False).state_dict(), path)
    return {"weights": str(path), "backbone": backbone}


@pytest.fixture
def problem(cells, tmp_path):
    return make_problem(cells, tmp_path)


def make_problem(cells, run, **settings):
    dataset = load_dataset(cells).only("cell")
    config = fitted_to(override(preset("pointsense"), SETTINGS | settings), 6.0)
    return Problem(dataset.train[:3], dataset.train[3:], 6.0, config, run, seed=0, minutes=5.0, box=12.0)


def check_found(found, image):
    points, scores = found
    assert len(points) == len(scores) > 0
    assert np.isfinite(points).all()
    assert np.isfinite(scores).all()
    assert (points >= -0.5).all()
    assert (points <= np.array(image.shape[:2]) - 0.5).all()


def spots(points, sigma=4.0, size=(120, 160)):
    """A grey image (H, W, 1) of bright Gaussians."""
    rows, columns = np.indices(size)
    bells = [np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2)) for y, x in points]
    return np.round(20 + 200 * np.clip(sum(bells), 0, 1)).astype(np.uint8)[:, :, None]


def nearest(points, truth):
    return np.linalg.norm(points[:, None] - np.asarray(truth), axis=2).min(axis=0)


def test_every_peer_is_found_by_name_and_no_other():
    assert {name: load_peer(name).__module__ for name in PEERS} == {
        name: module for name, (module, _) in PEERS.items()
    }
    with pytest.raises(
        UsageError, match="unknown peer 'yolo': the peers are log, fcrn, faster-rcnn, spotiflow"
    ):
        load_peer("yolo")


@pytest.mark.parametrize(("name", "steps"), [("log", 0), ("fcrn", 20), ("faster-rcnn", 2)])
@pytest.mark.parametrize("scale", [0.0, 0.6])
def test_a_peer_learns_and_finds_points_in_image_px(cells, pretrained, tmp_path, name, steps, scale):
    problem = make_problem(cells, tmp_path, scale=scale, steps=max(1, steps), **pretrained)
    trained = load_peer(name)(problem)
    assert trained.facts["parameters"] > 0
    assert trained.facts["steps"] == steps
    images = read_checked(problem.select)
    found = candidates_of(trained.finder, images)
    for one, image in zip(found, images, strict=True):
        check_found(one, image)
    if name != "log":
        assert merit_of(problem.select, found, 6.0) == pytest.approx(trained.facts["selection_merit"])
        assert (tmp_path / "model.safetensors").is_file()


def test_training_lowers_the_loss_and_the_best_weights_stay(problem):
    seen, merits = [], iter([0.5, 0.9, 0.1, 0.2])
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4))
    kept = []

    def loss_of(network, crops, points, known):
        assert crops.shape == (2, 3, 64, 64)
        assert len(points) == 2
        loss = (network(crops) - 2).square().mean()
        seen.append(loss.item())
        return loss

    def merit_of(averaged):
        assert not averaged.training
        kept.append({name: value.clone() for name, value in averaged.state_dict().items()})
        return next(merits)

    config = override(problem.config, {"steps": 80, "checks": 4, "learning_rate": 0.1})
    images = read_checked(problem.fit)
    fields = Frame.of(problem, images).fields(problem.fit, images)
    facts = descend(network, loss_of, merit_of, problem, fields, config=config, frozen_norms=[network])
    assert np.mean(seen[-10:]) < 0.5 * seen[0]
    assert (facts["steps"], facts["best_step"], facts["selection_merit"]) == (80, 40, 0.9)
    assert len(kept) == 4
    for name, value in network.state_dict().items():
        assert torch.equal(value, kept[1][name])
    assert not network[1].running_mean.any()  # frozen


def test_a_loss_that_is_not_finite_ends_the_training(problem):
    network, images = torch.nn.Conv2d(3, 1, 1), read_checked(problem.fit)
    fields = Frame.of(problem, images).fields(problem.fit, images)
    with pytest.raises(DataError, match="the loss became nan at step 1; lower learning_rate"):
        descend(network, lambda n, c, p, k: n(c).sum() * torch.nan, lambda n: 0.0, problem, fields)


def test_time_ends_a_training_before_its_steps_do(problem, monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr("pointsense.peers.descent.time.monotonic", lambda: 20.0 * next(clock))
    network, images = torch.nn.Conv2d(3, 1, 1), read_checked(problem.fit)
    fields = Frame.of(problem, images).fields(problem.fit, images)
    config = override(problem.config, {"steps": 1000})
    facts = descend(
        network, lambda n, c, p, k: n(c).square().mean(), lambda n: 0.0, problem, fields, config=config
    )
    assert 0 < facts["steps"] < 20  # of 300 s, each look at the clock takes 20


def test_log_answers_in_image_px():
    truth = [(30.0, 41.0), (30.0, 120.0), (90.0, 77.0)]
    finder = log.LogFinder(Frame(BYTES, 0.5), LogDetector(2.0, 0.1, "bright"))
    points, _ = finder.candidates(spots(truth))
    assert len(points) == 3
    assert nearest(points, truth).max() < 1.5  # a working px is two image px, and LoG answers in whole ones
    assert abs(np.mean(points - np.array(sorted(truth)), axis=0)).max() < 1.0


@pytest.mark.parametrize("box", [10.0, 50.0, 200.0])
def test_sizes_of_log_reach_objects_much_larger_than_their_radius(box):
    tried = log.sigmas(radius=5.0, box=box)
    best = box / (2 * np.sqrt(2))
    assert tried.min() <= min(1.25, best / 2)
    assert tried.max() >= max(7.5, 2 * best) * 0.999
    assert (tried[1:] / tried[:-1]).max() < 1.6


def test_log_takes_some_of_many_images(problem, monkeypatch):
    frame = Frame.of(problem, read_checked(problem.fit))
    samples = [*problem.fit, *problem.select]
    assert {s.name for s in log.some_of(samples, frame, 0)} == {s.name for s in samples}
    monkeypatch.setattr(log, "PIXELS", 2.5 * 96**2 * frame.scale**2)
    assert len(log.some_of(samples, frame, 0)) == 2
    monkeypatch.setattr(log, "PIXELS", 1.0)
    assert len(log.some_of(samples, frame, 0)) == 1


def test_densities_hold_each_point_once():
    points = [torch.tensor([[20.0, 30.5], [40.0, 21.0]]), torch.zeros(0, 2)]
    maps = fcrn.densities(points, 64, 2.0)
    assert maps.shape == (2, 1, 64, 64)
    assert maps.sum((1, 2, 3)).tolist() == pytest.approx([2 * fcrn.MASS, 0], rel=1e-4)
    assert maps[0, 0, 40, 21].item() == pytest.approx(fcrn.height_of_one(2.0), rel=1e-4)


def test_maxima_of_a_density_are_found_between_pixels_and_counted(monkeypatch):
    truth = [(30.4, 41.2), (60.7, 120.9), (90.0, 77.5)]
    frame = Frame(BYTES, 0.5)
    finder = fcrn.FcrnFinder(frame, torch.nn.Identity(), sigma=3.0, views=1, distance=3.0)
    sample = Sample("a", None, np.array(truth), ("",) * 3, "a")
    image = spots(truth)
    working = torch.from_numpy(frame.working_points(sample, image)).float()

    def known(prepared):
        assert prepared.shape == (1, 60, 80)
        return fcrn.densities([working], 80, 3.0)[0, 0, :60].numpy()

    monkeypatch.setattr(finder, "map", known)
    points, scores = finder.candidates(image)
    assert len(points) == 3
    assert nearest(points, truth).max() < 0.05
    assert scores == pytest.approx(1.0, abs=0.03)
    assert finder.count(image) == pytest.approx(3.0, rel=1e-3)


def test_summits_on_the_border_stay_there():
    density = np.zeros((5, 5))
    density[0, 2], density[1, 2], density[0, 3] = 1.0, 0.9, 0.9
    offsets = fcrn.summit(density, np.array([[0, 2]]), 1e-3)
    assert offsets[0, 0] == 0
    assert 0 < offsets[0, 1] <= 0.5


def test_density_averages_views_that_are_turned_back():
    class Column(torch.nn.Module):
        """Answers with its input where that is a left half: no rotation of it is alike."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, image):
            mask = torch.zeros_like(image)
            mask[..., : image.shape[3] // 2] = 1
            return image * mask

    image = torch.rand(1, 16, 16)
    frame = Frame(BYTES, 1.0)
    one, eight = (fcrn.FcrnFinder(frame, Column(), 2.0, views, 1.0).map(image) for views in (1, 8))
    assert one[:, 8:].max() == 0
    assert eight == pytest.approx(image[0].numpy() / 2, abs=1e-6)


def test_fcrn_keeps_the_size_of_any_image():
    finder = fcrn.FcrnFinder(Frame(BYTES, 1.0), fcrn.Fcrn(1).eval(), 2.0, 1, 2.0)
    assert finder.map(torch.rand(1, 37, 50)).shape == (37, 50)


def test_boxes_lie_around_points_and_their_centres_are_the_points():
    points = torch.tensor(
        [[30.0, 41.5], [2.0, 60.0], [33.0, 61.0]]
    )  # inside, cut at the top, cut on the right
    boxes = faster_rcnn.boxes_around(points, 12.0, 64)
    assert boxes[0].tolist() == [36.0, 24.5, 48.0, 36.5]
    assert boxes[1].tolist() == [54.5, 0.0, 64.0, 8.5]
    centres = faster_rcnn.centres_of(boxes.double().numpy(), 12.0, (64, 64))
    assert centres == pytest.approx(points.double().numpy())


def test_faster_rcnn_without_weights_is_refused(problem):
    with pytest.raises(
        UsageError, match=r"such as 'mobilenetv2_100', and the configuration has backbone=unet without any"
    ):
        faster_rcnn.fit(problem)


def test_faster_rcnn_needs_features_at_its_strides(problem, tmp_path):
    other = override(problem.config, started("convnext_atto", tmp_path))
    with pytest.raises(
        UsageError, match=r"has them at \(8, 16, 32\): use another backbone, such as mobilenet"
    ):
        faster_rcnn.build(other, 3, 12.0)


def test_look_alikes_are_learned_from_as_our_own_network_does(monkeypatch, cells, tmp_path):
    from pointsense.peers import descent

    problem = make_problem(cells, tmp_path)
    marked = [replace(sample, look_alikes=np.array([[5.0, 7.0]])) for sample in problem.fit]
    fields = Frame.of(problem, read_checked(marked)).fields(marked, read_checked(marked))
    seen = []
    monkeypatch.setattr(descent, "Crops", lambda *given: seen.append(Crops(*given)) or seen[0])
    network = torch.nn.Conv2d(3, 1, 1)
    descend(
        network,
        lambda own, images, points, known: own(images).square().mean(),
        lambda own: 0.0,
        problem,
        fields,
    )
    assert [(alarm.y, alarm.x) for alarm in seen[0].alarms] == [(5.0, 7.0)] * 3
    assert seen[0].hard > 0


def test_faster_rcnn_learns_from_crops_without_objects(problem, pretrained):
    detector = faster_rcnn.build(override(problem.config, pretrained), 1, 12.0).train()
    targets = [
        {
            "boxes": faster_rcnn.boxes_around(torch.zeros(0, 2), 12.0, 64),
            "labels": torch.zeros(0).long(),
            "known": torch.ones(64, 64),
        }
    ]
    losses = detector([torch.rand(1, 64, 64)], targets)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_objectness"] > 0
    assert losses["loss_box_reg"] == 0


def test_faster_rcnn_sees_working_px_as_they_are_and_cuts_no_detection_off(problem, pretrained):
    detector = faster_rcnn.build(
        override(
            problem.config,
            pretrained | {"weights_origin": "tensorflow"},
        ),
        3,
        12.0,
        proposals=1500,
    ).eval()
    image = torch.rand(3, 50, 70)
    images, _ = detector.transform([image])
    assert images.image_sizes == [(50, 70)]
    assert images.tensors.shape == (1, 3, 64, 80)
    assert torch.allclose(images.tensors[0, :, :50, :70], (image - 128 / 255) / (128 / 255))
    assert detector.rpn.pre_nms_top_n() == detector.rpn.post_nms_top_n() == 1500
    assert detector.roi_heads.detections_per_img == 1500
    with torch.no_grad():
        levels = detector.backbone(torch.rand(1, 3, 64, 64))
    assert [level.shape[-1] for level in levels.values()] == [16, 8, 4]


def test_faster_rcnn_learns_nothing_from_boxes_centred_where_a_crop_is_not_known(problem, pretrained):
    detector = faster_rcnn.build(override(problem.config, pretrained), 1, 12.0).train()
    known = torch.ones(64, 64)
    known[:, :8] = 0
    boxes = torch.tensor([[0.0, 20, 12, 32], [3.0, 20, 15, 32], [30.0, 20, 42, 32], [-9.0, 0, 3, 12]])
    target = {"boxes": boxes[2:3], "labels": torch.ones(1).long(), "known": known}
    labels, _ = detector.rpn.assign_targets_to_anchors([boxes], [target])
    assert labels[0].tolist() == [-1, 0, 1, -1]
    proposals, _, labels, _ = detector.roi_heads.select_training_samples([boxes], [target])
    assert sorted(proposals[0][:, 0].tolist()) == [3, 30, 30]  # the annotated box is among the proposals
    assert sorted(labels[0].tolist()) == [0, 1, 1]


def test_faster_rcnn_has_proposals_for_the_densest_tile(monkeypatch):
    monkeypatch.setattr(faster_rcnn, "CORE", 512)

    def field(height, width, points):
        labels = np.zeros(len(points), int)
        return Field("a", torch.zeros(1, height, width).half(), np.array(points, float), labels)

    sparse = field(100, 100, [(5, 5), (50, 50)])
    assert faster_rcnn.proposals_for([sparse], 12.0) == 1000  # torchvision's own
    # Two tiles, of columns 0 to 639 and 512 to 1099: they see 300 and 350 of the 400 points.
    dense = field(100, 1100, [(9, 5)] * 50 + [(9, 550)] * 250 + [(9, 700)] * 100)
    assert faster_rcnn.proposals_for([sparse, dense], 12.0) == 4 * 350


def test_tiles_of_faster_rcnn_give_each_box_once(monkeypatch):
    """The network is replaced by one that finds the bright spots of a tile."""
    truth = [(y, x) for y in range(20, 300, 40) for x in range(24, 420, 40)]
    monkeypatch.setattr(faster_rcnn, "CORE", 128)

    class Known(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))
            self.sizes = []

        def forward(self, images):
            self.sizes.append(tuple(images[0].shape[1:]))
            rows, columns = torch.where(images[0][0] > 0.5)
            boxes = torch.stack([columns - 5.5, rows - 5.5, columns + 6.5, rows + 6.5], dim=1)
            return [{"boxes": boxes.float(), "scores": torch.linspace(0.5, 0.9, len(boxes))}]

    known = Known()
    finder = faster_rcnn.BoxFinder(Frame(BYTES, 1.0), known, 12.0, 0.3)
    image = np.zeros((300, 440, 1), np.uint8)
    for y, x in truth:
        image[y, x] = 255
    points, _ = finder.candidates(image)
    assert len(known.sizes) == 2 * 3
    assert max(known.sizes) < (300, 440)
    assert sorted(map(tuple, points.tolist())) == truth


def test_overlapping_boxes_leave_the_surer_one():
    boxes = torch.tensor([[10.0, 10, 22, 22], [12, 10, 24, 22], [40, 40, 52, 52]])
    scores = torch.tensor([0.6, 0.9, 0.3])
    finder = faster_rcnn.BoxFinder(Frame(BYTES, 1.0), torch.nn.Identity(), 12.0, 0.3)
    points, kept = finder.thinned((boxes, scores), (64, 64))
    assert points.tolist() == [[15.5, 17.5], [45.5, 45.5]]
    assert kept == pytest.approx([0.9, 0.3])


def test_spotiflow_without_its_environment_names_the_script(problem, monkeypatch, tmp_path):
    monkeypatch.setattr(spotiflow, "ENVIRONMENT", tmp_path / ".venv-spotiflow")
    with pytest.raises(
        UsageError, match=r"own, \.venv-spotiflow, .* make it with benchmarks/peers/spotiflow_env\.sh"
    ):
        spotiflow.fit(problem)
    assert (tmp_path / spotiflow.SCRIPT).name in os.listdir(os.path.dirname(spotiflow.__file__))


def test_export_for_spotiflow_is_in_working_px_and_in_order(problem, tmp_path):
    images = read_checked(problem.fit)
    frame = Frame(InputContract.from_images(images), 0.5)
    empty = Sample("z", problem.fit[0].path, np.zeros((0, 2)), (), "z")
    spotiflow.export(tmp_path / "train", [*problem.fit, empty], [*images, images[0]], frame)
    names = sorted(path.name for path in (tmp_path / "train").iterdir())
    assert names == [f"{number:05d}.{kind}" for number in range(4) for kind in ("csv", "tif")]
    pixels = tifffile.imread(tmp_path / "train" / "00000.tif")
    assert pixels.shape == (48, 48, 3)
    assert pixels == pytest.approx(frame.prepare(images[0]).permute(1, 2, 0).numpy())
    table = np.loadtxt(tmp_path / "train" / "00000.csv", delimiter=",", skiprows=1)
    assert table == pytest.approx((problem.fit[0].points + 0.5) / 2 - 0.5, abs=1e-3)
    assert (tmp_path / "train" / "00003.csv").read_text() == "y,x\n"
    grey = tmp_path / "grey.tif"
    spotiflow.write_image(grey, torch.rand(1, 6, 8))
    assert tifffile.imread(grey).shape == (6, 8)
    spotiflow.write_image(grey, torch.rand(2, 6, 8))
    assert tifffile.imread(grey).shape == (6, 8, 2)


def stand_in(folder, name, text):
    path = folder / "bin" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_what_spotiflow_finds_comes_back_in_image_px(monkeypatch, tmp_path):
    """A stand-in for its prediction, of the same arguments and tables."""
    monkeypatch.setattr(spotiflow, "ENVIRONMENT", tmp_path / "env")
    text = """
import sys, pathlib
folder = pathlib.Path(sys.argv[1])
assert sys.argv[2:6:2] == ["--model-dir", "--out-dir"], sys.argv
assert {"--min-distance=2", "--exclude-border=0"} <= set(sys.argv)
for number, path in enumerate(sorted(folder.glob("*.tif"))):
    rows = ["y,x,probability"] + ["10.0,20.5,0.75"] * number
    path.with_suffix(".csv").write_text("\\n".join(rows) + "\\n")
"""
    stand_in(tmp_path / "env", "spotiflow-predict", text)
    finder = spotiflow.SpotiflowFinder(Frame(BYTES, 0.5), tmp_path, 2)
    assert isinstance(finder, BatchFinder)
    first, second = candidates_of(finder, [spots([(9, 9)]), spots([(30, 50)])])
    assert [len(first[0]), len(first[1])] == [0, 0]
    assert second[0].tolist() == [[20.5, 41.5]]
    assert second[1].tolist() == [0.75]
    assert sorted(os.listdir(tmp_path)) == ["env", "spotiflow.log"]


def test_a_failure_of_spotiflow_is_told_with_its_last_line(monkeypatch, tmp_path):
    monkeypatch.setattr(spotiflow, "ENVIRONMENT", tmp_path / "env")
    stand_in(tmp_path / "env", "spotiflow-predict", "print('first')\nraise SystemExit('no such model')\n")
    finder = spotiflow.SpotiflowFinder(Frame(BYTES, 1.0), tmp_path, 1)
    with pytest.raises(
        DataError, match=r"spotiflow-predict failed, it said 'no such model'; all of it is in "
    ):
        finder.candidates(spots([(9, 9)]))


def test_framed_images_and_points_agree(problem):
    images = read_checked(problem.fit)
    frame = Frame(InputContract.from_images(images), 0.75)
    field = frame.fields(problem.fit, images)[0]
    assert field.image.shape == (3, 72, 72)
    assert frame.to_image(field.points, images[0].shape) == pytest.approx(problem.fit[0].points)
    batch = Crops([field], problem.config, 0).batch(0)
    assert [points.shape[1] for points in batch.points] == [2, 2]

    class Corners(FramedFinder):
        def find(self, image):
            return np.array([[-9.0, -9.0], [999.0, 999.0]]), np.ones(2)

    image = read_image(problem.fit[0].path)
    assert Corners(frame).candidates(image)[0].tolist() == [[-0.5, -0.5], [95.5, 95.5]]


STANDING = """
import pathlib, sys, types

class Spotiflow:
    @classmethod
    def from_folder(cls, folder, map_location):
        if not pathlib.Path(folder).is_dir():
            sys.exit("no model")
        return cls()

    def predict(self, image, verbose, device):
        with open("seen", "a") as file:
            file.write(f"{image.shape}\\n")

module = types.ModuleType("spotiflow.model")
module.Spotiflow = Spotiflow
sys.modules |= {"spotiflow": types.ModuleType("spotiflow"), "spotiflow.model": module}
program, sys.argv = sys.argv[2], ["-c", *sys.argv[3:]]
exec(program)
"""


def test_a_standing_spotiflow_predicts_the_image_it_is_given(monkeypatch, tmp_path):
    monkeypatch.setattr(spotiflow, "ENVIRONMENT", tmp_path / "env")
    stand_in(tmp_path / "env", "spotiflow-predict", "")
    stand_in(tmp_path / "env", "python", STANDING)
    images = [spots([(9, 9)]), spots([(9, 9)], size=(40, 60))]
    with (
        pytest.raises(DataError, match=r"Spotiflow ended before it was ready; what it said is in .*\.log"),
        spotiflow.standing(Frame(BYTES, 1.0), tmp_path, images),
    ):
        pass
    assert "no model" in (tmp_path / "spotiflow.log").read_text()
    (tmp_path / "model").mkdir()
    with spotiflow.standing(Frame(BYTES, 1.0), tmp_path, images) as predict:
        for number in (1, 0, 1):
            predict(images[number])
    assert (tmp_path / "seen").read_text().splitlines() == ["(40, 60)", "(120, 160)", "(40, 60)"]
