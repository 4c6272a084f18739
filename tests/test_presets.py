"""Presets train as they are named; the paper's systems, with all layers free, memorise a handful of patches."""

import math

import numpy as np
import pytest
import torch

from pointsense.datasets import load_dataset
from pointsense.encoding import Candidates
from pointsense.errors import UsageError
from pointsense.images import InputContract, read_image
from pointsense.inference.cluster import vote
from pointsense.inference.detector import Detector
from pointsense.inference.patches import decode_patches, predict_patches
from pointsense.learning.fit import train
from pointsense.learning.losses import loss
from pointsense.learning.training import parameter_groups
from pointsense.model.classes import PointClass
from pointsense.model.config import override
from pointsense.model.heads import SpatialHead
from pointsense.model.network import Output, build_network
from pointsense.model.presets import PRESETS, fitted_to, preset

PAPER = sorted(name for name, changes in PRESETS.items() if changes.get("head") == "global")
SIDE, PATCHES, STEPS = 64, 16, 100

# A quarter of the paper's patch, with the measurements, the bandwidth and the backbone that go with it; the rest
# is the preset's own.
SMALL = {
    "backbone": "resnet18",
    "pretrained": False,
    "freeze": False,
    "patch": SIDE,
    "measurements": 28,
    "bandwidth": 10.0,
    "batch": PATCHES,
}


def draw_patches() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Images (16, 3, 64, 64) of 1 to 3 dark spots in noise, two bandwidths apart, and their points."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    images, points = [], []
    for number in range(PATCHES):
        places: list[np.ndarray] = []
        while len(places) < 1 + number % 3:
            place = generator.uniform(5, SIDE - 6, 2)
            if all(np.hypot(*(place - other)) > 2.2 * SMALL["bandwidth"] for other in places):
                places.append(place)
        image = generator.normal(0.5, 0.05, (SIDE, SIDE))
        for y, x in places:
            image -= 0.4 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 18)
        images.append(np.repeat(image[None], 3, axis=0))
        points.append(torch.from_numpy(np.array(places)).float())
    return torch.from_numpy(np.stack(images)).float(), points


@pytest.mark.parametrize("name", PAPER)
def test_paper_presets_memorise(name):
    config = override(fitted_to(preset(name), 6.0), SMALL)
    images, points = draw_patches()
    torch.manual_seed(0)
    network = build_network(config, 3).train()
    optimizer = torch.optim.AdamW(parameter_groups(network, config), weight_decay=0, betas=(0.9, 0.99))
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        terms = loss(network, network(images), points, config)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()

    network.eval()
    with torch.no_grad():
        seen = decode_patches(network.code, network(images).codes, config)
    found = vote(seen, config.bandwidth, config.minimum_votes, axes_count=config.axes)
    near = 0
    for number, truth in enumerate(points):
        mine = found.points[found.patch == number]
        distance = np.linalg.norm(truth.numpy()[:, None] - mine, axis=2)
        near += int((distance.min(axis=1, initial=np.inf) <= 3).sum())
    cells = sum(map(len, points))
    assert near >= 0.95 * cells
    assert len(found.points) <= 1.1 * cells


def test_paper_presets_never_start_from_silent_random_weights(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # as without a network
    with pytest.raises(UsageError, match=r"--weights FILE .* --set pretrained=false"):
        build_network(fitted_to(preset("cnncs"), 6.0), 3)


def test_all_paper_presets_ask_for_given_weights_and_freeze_them():
    assert all(preset(name).pretrained and preset(name).freeze for name in PAPER)


def test_a_recovery_that_does_not_converge_is_said_once(caplog):
    config = override(fitted_to(preset("ecnncs-2"), 6.0), SMALL | {"recovery": "ista", "recovery_steps": 3})
    network = build_network(config, 3)
    _, codes = network.code.encode(draw_patches()[1][:2])
    for _ in range(2):
        network.code.recover(codes.clone().requires_grad_())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "raise max_iter, or use method='auto'" in caplog.text


def test_views_are_not_of_models_that_read_patches(tmp_path):
    config = override(fitted_to(preset("cnncs"), 6.0), SMALL)
    contract = InputContract.from_images([np.full((8, 8, 1), 7, np.uint8)])
    kind = PointClass("", 6.0)
    Detector(build_network(config, 1), config, contract, (kind,)).save(tmp_path / "model")
    assert Detector.load(tmp_path / "model", device="cpu").config == config
    with pytest.raises(UsageError, match="a model of 'cnncs' has none"):
        Detector.load(tmp_path / "model", device="cpu", views=4)


@pytest.mark.parametrize("name", ["mitoses", "nuclei"])
def test_presets_for_other_objects_train_and_predict(name, cells, tmp_path):
    small = {"pretrained": False, "patch": 64, "batch": 2, "steps": 3, "checks": 1, "look_steps": 2}
    config = override(preset(name), small)
    metrics = train(load_dataset(cells), tmp_path / "run", config, radius=5.0)
    detector = Detector.load(tmp_path / "run", device="cpu")
    assert detector.config.preset == metrics["request"]["settings"]["preset"] == name
    assert (detector.look is not None) == (name == "mitoses")
    sample = load_dataset(cells).val[0]
    found = detector.predict(read_image(sample.path), threshold=0.0)
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize(
    ("pretrained", "given", "rate"), [(True, 0.0, 3e-4), (True, 5e-4, 5e-4), (False, 5e-4, 1e-3)]
)
def test_only_given_weights_learn_slowly(pretrained, given, rate):
    settings = {"pretrained": pretrained, "backbone_learning_rate": given}
    config = override(fitted_to(preset("mitoses"), 20), settings)
    groups = parameter_groups(build_network(config, 3, load=False), config)
    assert sorted({group["peak"] for group in groups}) == sorted({rate, 1e-3})


def test_a_spatial_head_learns_from_many_positive_features():
    """As many as a pretrained network has: in the last of 200 steps it tells in which cell they are raised."""
    torch.manual_seed(0)
    head, codes, raised = SpatialHead(1280, 16, 16, 32), torch.randn(16, 32), torch.rand(1280) < 0.1
    assert not head.eval()(torch.rand(1, 1280, 4, 4)).any()
    head.train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.0)
    told, untold = 0.0, 0.0
    for step in range(200):
        cell, there = torch.randint(16, (8,)), (torch.rand(8) < 0.5).float()
        features = 2 * torch.rand(8, 1280, 16) ** 3
        features[torch.arange(8), :, cell] *= 1 + raised * there[:, None]
        labels = codes[cell] * there[:, None]
        error = (head(features.unflatten(2, (4, 4))) - labels).square().sum()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        if step >= 150:
            told, untold = told + error.item(), untold + labels.square().sum().item()
    assert told < 0.4 * untold


@pytest.mark.parametrize(("y", "x"), [(0.0, 40.0), (31.5, 40.0), (63.0, 63.0), (20.0, 44.0)])
def test_a_cell_at_a_seam_or_border_has_the_votes_of_all_axes(monkeypatch, y, x):
    """Each axis sees it some px off: on the other side of a seam, or beyond the border."""
    config = override(preset("cnncs"), {"patch": 64, "axes": 8, "bandwidth": 8.0})
    generator = np.random.default_rng(0)

    def sightings(code, codes, config):
        places, axes, patches = [], [], []
        for number, (top, left) in enumerate(codes.tolist()):
            places += (np.array([y - top, x - left]) + generator.normal(0, 2, (8, 2))).tolist()
            axes += range(8)
            patches += [number] * 8
        return Candidates(
            torch.tensor(places), torch.tensor(axes), torch.tensor(patches), torch.ones(len(places))
        )

    class Network:
        code = None

        def __call__(self, patches):
            return Output(codes=patches[:, 0, 0, :2])

    monkeypatch.setattr("pointsense.inference.patches.decode_patches", sightings)
    monkeypatch.setattr(
        "pointsense.inference.tiles.Tile.read",
        lambda tile, image: torch.tensor(tile.box[:2]).float().expand(1, 1, 2),
    )
    found = predict_patches(Network(), torch.zeros(1, 64, 64), config, torch.device("cpu"))
    best = found.scores.argmax()
    assert found.votes[best] == 8
    assert np.hypot(*(found.points[best] - (y, x))) < 2
    assert (found.points >= -0.5).all()
    assert (found.points <= 63.5).all()
