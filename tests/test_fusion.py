"""What makes prediction faster changes no answer, and not the stored weights."""

import copy

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from pointsense.images import InputContract
from pointsense.inference.detector import Detector
from pointsense.model.backbone import ZeroBefore, build_timm
from pointsense.model.classes import PointClass
from pointsense.model.config import override
from pointsense.model.fusion import fused
from pointsense.model.network import build_network
from pointsense.model.presets import fitted_to, preset
from pointsense.model.second_look import SecondLook


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


def test_what_would_answer_otherwise_stays_as_it_is():
    class Branching(nn.Module):
        """The convolution's output goes around the normalisation, too."""

        def __init__(self):
            super().__init__()
            self.convolution, self.normalisation = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

        def forward(self, image):
            features = self.convolution(image)
            return features + self.normalisation(features)

    network = unsettled(Branching())
    image = torch.rand(1, 1, 16, 16)
    copied = fused(network, image)
    assert normalisations(copied) == 1
    assert copied is not network
    torch.testing.assert_close(copied(image), network(image))


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


@pytest.mark.parametrize("height", [64, 63])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (3, 1), (5, 2), (4, 2), (2, 2), (1, 1), (1, 2)])
def test_padding_of_tensorflow_without_a_copy(kernel, stride, height):
    theirs = Conv2dSame(4, 6, kernel, stride)
    ours = copy.deepcopy(theirs)
    ours.__class__ = ZeroBefore
    x = torch.rand(2, 4, height, 32)
    torch.testing.assert_close(ours.eval()(x), theirs(x))
    torch.testing.assert_close(ours.train()(x), theirs(x))


def test_it_is_in_networks_with_weights_of_tensorflow():
    config = override(preset("pointsense"), {"backbone": "mobilenetv2_100", "weights_origin": "tensorflow"})
    network, _ = build_timm(config, 3, load=False)
    assert any(type(module) is ZeroBefore for module in network.modules())
    assert not any(type(module) is Conv2dSame for module in network.modules())
