"""What makes prediction faster changes no answer, and not the stored weights."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from pointsense.images import InputContract
from pointsense.inference.detector import Detector
from pointsense.inference.second_look import judge
from pointsense.model.classes import PointClass
from pointsense.model.config import override
from pointsense.model.fusion import fused
from pointsense.model.network import build_network
from pointsense.model.presets import fitted_to, preset
from pointsense.model.second_look import SecondLook
from pointsense.model.strided import Strided, ZeroBefore
from pointsense.model.timm_backbone import build_timm


def unsettled(network: nn.Module) -> nn.Module:
    """The network with normalisations that do something, as after a training."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.uniform_(module.bias, -0.1, 0.1, generator=generator)
    return network.eval()


def normalisations(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"backbone": "unet"}, 0),
        ({"backbone": "mobilenetv2_100", "weights_origin": "tensorflow"}, 0),
        ({"backbone": "resnet18"}, 0),
        ({"backbone": "densenet121"}, 44),  # of 93: half of them are before convolutions, not behind
    ],
    ids=lambda value: value["backbone"] if isinstance(value, dict) else "",
)
def test_the_answers_stay(settings, left):
    config = override(fitted_to(preset("pointsense"), 6.0), {"pretrained": False, **settings})
    network = unsettled(build_network(config, 3, load=False))
    image = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    faster = fused(network, image[:1])
    with torch.no_grad():
        before, after = network(image).mass, faster(image).mass
    assert normalisations(network) > 0
    assert normalisations(faster) == left
    torch.testing.assert_close(after, before, atol=1e-5 * float(before.abs().max()), rtol=1e-3)


class Branching(nn.Module):
    """A convolution's output goes around its normalisation, too."""

    def __init__(self):
        super().__init__()
        self.convolution, self.first = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        self.other, self.second = nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)

    def forward(self, image):
        features = self.convolution(image)
        # Nothing comes out, as of a model of rare objects on noise.
        return (self.second(self.other(features + self.first(features))) - 1e3).clamp(min=0)


class Shared(nn.Module):
    """One convolution feeds two normalisations; another pair could be fused."""

    def __init__(self):
        super().__init__()
        self.convolution, self.first, self.second = nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.BatchNorm2d(1)
        self.other, self.third = nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1)

    def forward(self, image):
        features = self.second(self.convolution(self.first(self.convolution(image))))
        return self.third(self.other(features))


def test_what_would_answer_otherwise_stays_as_it_is():
    network = unsettled(Branching())
    assert fused(network, torch.rand(1, 1, 16, 16)) is network


def test_a_convolution_that_runs_twice_is_left_alone():
    network = unsettled(Shared())
    image = torch.rand(1, 1, 16, 16)
    faster = fused(network, image)
    assert normalisations(faster) == 2
    torch.testing.assert_close(faster(image), network(image))


def test_a_loaded_model_runs_without_and_saves_with_them(tmp_path):
    config = override(fitted_to(preset("pointsense"), 6.0), {"look": 32})
    contract = InputContract.from_images([torch.randint(0, 255, (64, 64, 3), dtype=torch.uint8).numpy()])
    network, look = build_network(config, 3), SecondLook(config, 3, 1, load=False)
    Detector(unsettled(network), config, contract, (PointClass("", 6.0),), look=unsettled(look)).save(
        tmp_path / "one"
    )
    loaded = Detector.load(tmp_path / "one", device="cpu")
    assert [normalisations(part) for part in loaded.running] == [0, 0]
    loaded.save(tmp_path / "two")
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("backbone", ["unet", "mobilenetv2_100"])
def test_a_loaded_model_answers_as_it_is_stored(backbone, tmp_path):
    torch.manual_seed(0)
    settings = {"look": 32, "backbone": backbone, "pretrained": False, "views": 4}
    config = override(fitted_to(preset("pointsense"), 6.0), settings)
    image = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    network = unsettled(build_network(config, 3, load=False))
    look = unsettled(SecondLook(config, 3, 1, load=False))
    kinds = (PointClass("", 6.0, threshold=0.0),)
    Detector(network, config, InputContract.from_images([image]), kinds, look=look).save(tmp_path)
    loaded = Detector.load(tmp_path, device="cpu", precision="32-true")
    both = loaded, replace(loaded, final=False)
    assert both[0].running[0] is not both[1].running[0]
    levels, places = loaded.as_input(image), np.array([[20.0, 30.0], [50.5, 64.0]])
    # Maps, not points: what is found in the noise of random weights hangs on the last digit.
    faster, stored = (one.map(levels)[1] for one in both)
    assert stored.max() > 0
    torch.testing.assert_close(faster, stored, rtol=1e-3, atol=1e-4 * float(stored.max()))
    chances = [judge(one.running[1], levels, places, side=32, views=4) for one in both]
    np.testing.assert_allclose(*chances, atol=1e-4)
    loaded.look = None
    assert loaded.running[1] is None


@pytest.mark.parametrize("height", [64, 63])
@pytest.mark.parametrize(
    ("kernel", "stride"), [(3, 2), (3, 1), (5, 2), (4, 2), (2, 2), (1, 1), (1, 2), (1, 4)]
)
def test_padding_of_tensorflow_without_a_copy(kernel, stride, height, monkeypatch):
    theirs = Conv2dSame(4, 6, kernel, stride)
    ours = copy.deepcopy(theirs)
    ours.__class__ = ZeroBefore
    x = torch.rand(2, 4, height, 32)
    expected = theirs(x)
    torch.testing.assert_close(ours.train()(x), expected)
    if (kernel, stride, height) in ((3, 2, 64), (5, 2, 64)):
        monkeypatch.setattr(Conv2dSame, "forward", None)  # it is not needed
    torch.testing.assert_close(ours.eval()(x), expected)


@pytest.mark.parametrize(("origin", "expected"), [("timm", Strided), ("tensorflow", ZeroBefore)])
def test_strided_convolutions_of_backbones_take_the_faster_way(origin, expected):
    config = override(preset("pointsense"), {"backbone": "mobilenetv2_100", "weights_origin": origin})
    network, _ = build_timm(config, 3, load=False)
    strided = [m for m in network.modules() if isinstance(m, nn.Conv2d) and max(m.stride) > 1]
    assert len(strided) == 5
    assert {type(module) for module in strided} == {expected}


@pytest.mark.parametrize("kind", [Strided, ZeroBefore])
def test_depthwise_gradients_in_half_precision_are_those_of_float32(kind):
    theirs = kind(8, 8, 3, 2, groups=8)
    x = torch.rand(2, 8, 16, 16).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        ours = theirs(x)
    assert ours.dtype == torch.bfloat16
    exact = theirs(x.float())
    torch.testing.assert_close(ours, exact.bfloat16(), rtol=0, atol=0)
    above = torch.rand_like(ours)
    wanted = torch.autograd.grad(exact, (x, theirs.weight), above.float())
    torch.testing.assert_close(torch.autograd.grad(ours, (x, theirs.weight), above), wanted, rtol=0, atol=0)
