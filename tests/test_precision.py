"""Half precision where the device is fast at it: which that is, and that the points stay."""

import platform

import numpy as np
import pytest
import torch

from pointsense.datasets import load_dataset
from pointsense.errors import UsageError
from pointsense.evaluation import Case, evaluate
from pointsense.images import InputContract, read_image
from pointsense.inference import device
from pointsense.inference.detector import Detector
from pointsense.inference.device import autocast, pick_precision
from pointsense.model.classes import PointClass
from pointsense.model.config import override
from pointsense.model.network import build_network
from pointsense.model.presets import fitted_to, preset
from pointsense.model.second_look import SecondLook
from pointsense.points import Detections

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.mark.parametrize("there", [True, False])
def test_auto_is_half_where_it_is_fast(there, monkeypatch):
    monkeypatch.setattr(device, "_fast_at_half", lambda: there)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 0) if there else (7, 5))
    assert pick_precision("auto", CPU) == ("bf16-mixed" if there else "32-true")
    assert pick_precision("auto", CUDA) == ("bf16-mixed" if there else "16-mixed")
    assert pick_precision("auto", MPS) == "32-true"
    assert [pick_precision(name, CUDA) for name in ("32-true", "16-mixed")] == ["32-true", "16-mixed"]
    assert pick_precision("16-mixed", CPU) == "bf16-mixed"


def test_a_device_without_half_precision(monkeypatch):
    monkeypatch.setattr("torch.amp.is_autocast_available", lambda kind: kind != "mps")
    assert pick_precision("32-true", MPS) == "32-true"
    with pytest.raises(
        UsageError, match="'mps' does not compute in half precision; use precision 32-true or auto"
    ):
        pick_precision("bf16-mixed", MPS)


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "aarch64"])
def test_bfloat16_that_is_emulated_is_not_fast(machine, monkeypatch):
    monkeypatch.setattr("torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False, raising=False)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert device._fast_at_half() is (machine == "aarch64")
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    assert device._fast_at_half()
    monkeypatch.delattr("torch.cpu._is_avx512_bf16_supported")  # as of older torch
    assert device._fast_at_half() is (machine == "aarch64")


def test_without_onednn_nothing_is_asked_of_it(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr("torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: False)
    assert not device._fast_at_half()
    monkeypatch.delattr("torch.ops.mkldnn._is_mkldnn_bf16_supported")
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    assert not device._fast_at_half()


@pytest.mark.parametrize("there", [True, False])
def test_autocast_computes_in_it(there, monkeypatch):
    monkeypatch.setattr(device, "_fast_at_half", lambda: there)
    auto, one = torch.bfloat16 if there else torch.float32, torch.ones(2, 2)
    for precision, kind in (("32-true", torch.float32), ("16-mixed", torch.bfloat16), ("auto", auto)):
        with autocast(CPU, precision):
            assert (one @ one).dtype == kind


def test_full_precision_has_no_tf32():
    before = torch.backends.cudnn.allow_tf32
    with autocast(CPU, "32-true"):
        assert not torch.backends.cudnn.allow_tf32
    with pytest.raises(RuntimeError), autocast(CPU, "32-true"):
        raise RuntimeError
    assert torch.backends.cudnn.allow_tf32 == before


def test_points_are_nearly_the_same(cells, run):
    cases, same = [], True
    for sample in load_dataset(cells).samples:
        image = read_image(sample.path)
        whole, half = (
            Detector.load(run, device="cpu", precision=precision).predict(image, threshold=0.2)
            for precision in ("32-true", "bf16-mixed")
        )
        cases.append(Case(sample.name, "", whole.points, half.points, half.scores))
        same = same and np.array_equal(whole.scores, half.scores)
    report = evaluate(cases, 0.5)
    assert report.overall.true_positives > 20
    assert report.overall.f1 > 0.95
    assert not same


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", ["pointsense", "cnncs"])
def test_all_networks_compute_in_it(name, precision, cells):
    image = read_image(load_dataset(cells).val[0].path)
    small = {"backbone": "unet", "pretrained": False, "width": 8, "patch": 64, "precision": precision}
    config = override(fitted_to(preset(name), 6.0), small | {"look": 32 * (name == "pointsense")})
    contract, kinds = InputContract.from_images([image]), (PointClass("", 6.0, threshold=0.0),)
    network = build_network(config, contract.channels, load=False)
    look = SecondLook(config, contract.channels, 1, load=False) if config.look else None
    detector, halves = Detector(network, config, contract, kinds, look=look), []
    if look is not None:
        _ = detector.halo  # is found by a run of the network in float32
    for part in filter(None, (network.head, look and look.mix)):
        part.register_forward_hook(lambda *_: halves.append(torch.is_autocast_enabled("cpu")))
    detector.predict(image)
    assert set(halves) == {precision == "bf16-mixed"}
    if look is not None:
        places, ones = np.array([[30.0, 40.0], [50.0, 20.0]]), np.ones(2)
        found = Detections(places, ones, np.array(["", ""]), np.ones(2, int), np.zeros(2))
        halves.clear()
        detector.looked_at(detector.as_input(image), found)
    assert set(halves) == {precision == "bf16-mixed"}


def test_chances_are_not_rounded():
    config = override(fitted_to(preset("pointsense"), 6.0), {"look": 32, "width": 8})
    look = SecondLook(config, 3, 1, load=False).eval()
    with torch.no_grad(), autocast(CPU, "bf16-mixed"):
        logits = look(torch.rand(4, 3, 32, 32))
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
