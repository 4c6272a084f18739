"""What a GPU computes is what the CPU computes; skipped where there is none."""

import os

import pytest
import timm
import torch
from safetensors.torch import save_file

from pointsense.datasets import load_dataset
from pointsense.encoding import ProjectionCode
from pointsense.evaluation import Case, evaluate
from pointsense.images import read_image
from pointsense.inference.bundled import find_model
from pointsense.inference.detector import Detector
from pointsense.learning.fit import train
from pointsense.model.config import override
from pointsense.model.presets import PRESETS, fitted_to, preset
from pointsense.peers import faster_rcnn, faster_rcnn_network
from pointsense.peers.problem import Problem, all_candidates, judge
from pointsense.recovery import sparse_code

GPU = os.environ.get("POINTSENSE_TEST_GPU", "cuda")

pytestmark = pytest.mark.skipif(GPU == "cuda" and not torch.cuda.is_available(), reason="no GPU")

SMALL = {"patch": 64, "batch": 2, "steps": 4, "checks": 1, "look_steps": 2, "pretrained": False}
PAPER = {"backbone": "unet", "width": 8, "axes": 2}


def agreement(folder, image) -> float:
    """F1 of what the GPU finds with a model against what the CPU finds, within .1 px."""
    one, other = (
        Detector.load(folder, device=device, precision="32-true").predict(image) for device in ("cpu", GPU)
    )
    assert len(one.points) > 0
    return evaluate([Case("image", "", one.points, other.points, other.scores)], 0.1).overall.f1


def test_half_precision_finds_nearly_the_same(run, cells):
    image = read_image(load_dataset(cells).val[0].path)
    detector = Detector.load(run, device=GPU)
    assert detector.precision in ("bf16-mixed", "16-mixed")
    whole = Detector.load(run, device="cpu", precision="32-true")
    one, other = detector.predict(image), whole.predict(image)
    assert evaluate([Case("image", "", one.points, other.points, other.scores)], 1.0).overall.f1 > 0.9


def test_a_bundled_model_finds_the_same(cells):
    image = read_image(load_dataset(cells).val[0].path)
    assert agreement(find_model("nuclei"), image) > 0.98


def test_a_model_of_the_cpu_finds_the_same(run, cells):
    assert agreement(run, read_image(load_dataset(cells).val[0].path)) > 0.95


@pytest.mark.parametrize("name", PRESETS)
def test_presets_train_and_predict(name, cells, tmp_path):
    config = override(preset(name), SMALL)
    if config.head == "global":
        config = override(config, PAPER)
    metrics = train(load_dataset(cells), tmp_path / "run", config, radius=6.0, device=GPU)
    assert metrics["device"].startswith(GPU)
    found = Detector.load(tmp_path / "run", device=GPU).predict(read_image(load_dataset(cells).val[0].path))
    assert torch.isfinite(torch.from_numpy(found.points)).all()


@pytest.mark.parametrize(
    "changes", [{"target": "heatmap"}, {"alpha": 0.05, "backward": "exact"}, {"hard": 0.5}, {"spots": 1.0}]
)
def test_other_losses_train(changes, cells, tmp_path):
    config = override(preset("pointsense"), SMALL | {"width": 8} | changes)
    assert train(load_dataset(cells), tmp_path / "run", config, radius=6.0, device=GPU)["steps"] == 4


def test_faster_rcnn_trains_and_finds(cells, tmp_path):
    given = tmp_path / "weights.safetensors"
    save_file(timm.create_model(faster_rcnn_network.BACKBONE, pretrained=False).state_dict(), given)
    settings = SMALL | {"backbone": faster_rcnn_network.BACKBONE, "weights": str(given)}
    config = fitted_to(override(preset("pointsense"), settings), 6.0)
    data = load_dataset(cells)
    problem = Problem(data.train[:3], data.train[3:], 6.0, config, tmp_path, 0, 5.0, 12.0, GPU)
    trained = faster_rcnn.fit(problem)
    assert next(trained.finder.detector.parameters()).device.type == GPU
    judged = judge(all_candidates(trained.finder, problem, data.val), problem.select, 6.0, "one-to-one")
    assert len(judged.found) == len(data.val)


def test_a_training_goes_on(cells, tmp_path):
    config = override(preset("pointsense"), SMALL | {"width": 8, "steps": 30, "checks": 5})

    def stop(progress):
        if progress.step >= 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(load_dataset(cells), tmp_path / "run", config, radius=6.0, device=GPU, report=stop)
    seen = []

    def watch(progress):
        seen.append(progress.step)

    data = load_dataset(cells)
    metrics = train(data, tmp_path / "run", config, radius=6.0, device=GPU, resume=True, report=watch)
    assert metrics["steps"] == 30
    assert seen[0] > 18  # the check there has left a checkpoint


def test_codes_of_a_gpu_are_those_of_the_cpu():
    code = ProjectionCode(32, 8, axes=4, measurements=16)
    points = torch.tensor([[20.0, 30.0], [41.5, 12.25]])
    results = []
    for device in ("cpu", GPU):
        own = code.to(device)
        mass = torch.zeros(1, 1, 64, 64, device=device)
        for y, x in points.round().long():
            mass[0, 0, y, x] = 1
        results.append(own.measure(mass).cpu())
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("backward", ["exact", "paper"])
def test_sparse_codes_and_their_gradients_are_those_of_the_cpu(backend, backward):
    generator = torch.Generator().manual_seed(0)
    D = torch.randn(24, 60, generator=generator) / 24**0.5
    x = torch.randn(5, 24, generator=generator)
    results = []
    for device in ("cpu", GPU):
        own, columns = (t.to(device, copy=True).requires_grad_() for t in (x, D))
        code = sparse_code(own, columns, 0.3, backward=backward, backend=backend)
        assert code.device.type == torch.device(device).type
        code.square().sum().backward()
        results.append([code.detach().cpu(), own.grad.cpu(), columns.grad.cpu()])
    for cpu, gpu in zip(*results, strict=True):
        torch.testing.assert_close(cpu, gpu, rtol=1e-4, atol=1e-4)
