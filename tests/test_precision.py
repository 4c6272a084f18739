"""Half precision where the device is fast at it: which that is, and that the points stay."""

import platform

import numpy as np
import pytest
import torch

from pointsense.datasets import load_dataset
from pointsense.evaluation import Case, evaluate
from pointsense.images import read_image
from pointsense.inference import device
from pointsense.inference.detector import Detector
from pointsense.inference.device import autocast, pick_precision
from pointsense.model.config import override
from pointsense.model.presets import fitted_to, preset
from pointsense.model.second_look import SecondLook

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.mark.parametrize("there", [True, False])
def test_auto_is_half_where_it_is_fast(there, monkeypatch):
    monkeypatch.setattr(device, "_fast_at_half", lambda: there)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: there)
    assert pick_precision("auto", CPU) == ("bf16-mixed" if there else "32-true")
    assert pick_precision("auto", CUDA) == ("bf16-mixed" if there else "16-mixed")
    assert pick_precision("auto", MPS) == "32-true"
    assert [pick_precision(name, CPU) for name in ("32-true", "16-mixed")] == ["32-true", "16-mixed"]


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "aarch64"])
def test_bfloat16_that_is_emulated_is_not_fast(machine, monkeypatch):
    monkeypatch.setattr("torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False, raising=False)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert device._fast_at_half() is (machine == "aarch64")
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    assert device._fast_at_half()
    monkeypatch.setattr("torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: False)
    assert not device._fast_at_half()


def test_autocast_computes_in_it():
    one = torch.ones(2, 2)
    for precision, kind in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        with autocast(CPU, precision):
            assert (one @ one).dtype == kind


def test_points_are_nearly_the_same(cells, run):
    cases, same = [], True
    for sample in load_dataset(cells).samples:
        image = read_image(sample.path)
        whole, half = (
            Detector.load(run, device="cpu", precision=precision).predict(image)
            for precision in ("32-true", "bf16-mixed")
        )
        cases.append(Case(sample.name, "", whole.points, half.points, half.scores))
        same = same and np.array_equal(whole.scores, half.scores)
    report = evaluate(cases, 0.5)
    assert report.overall.true_positives > 20
    assert report.overall.f1 > 0.95
    assert not same


def test_chances_are_not_rounded():
    config = override(fitted_to(preset("pointsense"), 6.0), {"look": 32, "width": 8})
    look = SecondLook(config, 3, 1, load=False).eval()
    with torch.no_grad(), autocast(CPU, "bf16-mixed"):
        logits = look(torch.rand(4, 3, 32, 32))
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
