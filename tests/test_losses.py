"""The loss of eq. (3) against its definition, term by term."""

import pytest
import torch

from pointsense.errors import DataError, UsageError
from pointsense.learning.losses import loss
from pointsense.model.config import override
from pointsense.model.network import Output, build_network
from pointsense.model.presets import fitted_to, preset
from pointsense.recovery import lasso

POINTS = [torch.tensor([[20.0, 30.0], [40.0, 12.0]]), torch.zeros(0, 2)]


def patch_setup(**changes):
    small = {"backbone": "unet", "pretrained": False, "freeze": False, "patch": 64, "axes": 6}
    config = override(fitted_to(preset("ecnncs-2"), 6.0), small | {"measurements": 40} | changes)
    return config, build_network(config, 3)


def projection_setup(**changes):
    config = override(fitted_to(preset("pointsense"), 6.0), {"width": 8} | changes)
    network = build_network(config, 1)
    mass = torch.rand(2, 1, 36, 36, generator=torch.Generator().manual_seed(0)) * 0.1
    mass.requires_grad_()
    return config, network, Output(mass=mass)


def test_patch_loss_is_eq_3_with_the_count():
    config, network = patch_setup(alpha=1.3, beta=0.2)
    signal, codes = network.code.encode(POINTS)
    noise = torch.randn(codes.shape, generator=torch.Generator().manual_seed(0))
    output = Output(codes + noise, torch.tensor([2.5, 0.3]))
    terms = loss(network, output, POINTS, config)
    recovered = lasso(codes + noise, network.code.sensing_matrix, config.lam, method="homotopy").code
    l1 = (recovered - signal).abs().sum() / 2  # averaged over the two patches, summed within
    assert terms.l2.item() == pytest.approx(noise.square().sum().item() / 4)
    assert terms.l1.item() == pytest.approx(l1.item(), rel=1e-3)
    assert terms.count.item() == pytest.approx(0.2**2 * (0.5**2 + 0.3**2) / 4)
    total = terms.l2 + 1.3 * terms.l1 + terms.count
    assert terms.total.item() == pytest.approx(total.item())


def test_without_alpha_nothing_is_recovered(monkeypatch):
    config, network = patch_setup(alpha=0.0)
    monkeypatch.setattr(network.code, "recover", None)
    _, codes = network.code.encode(POINTS)
    terms = loss(network, Output(codes, torch.tensor([2.0, 0.0])), POINTS, config)
    assert terms.total.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("setup", ["patch", "projection"])
def test_output_that_is_not_finite_is_told_where_codes_are_recovered(setup):
    if setup == "patch":
        config, network = patch_setup(alpha=1.0)
        output = Output(torch.full_like(network.code.encode(POINTS)[1], float("nan")), torch.zeros(2))
    else:
        config, network, output = projection_setup(alpha=1.0)
        output = Output(mass=output.mass * float("nan"))
    with pytest.raises(DataError, match="no longer finite; lower learning_rate"):
        loss(network, output, POINTS, config)


def test_projection_l2_is_taken_between_codes():
    config, network, output = projection_setup(beta=0.0)
    code, stride = network.code, config.stride
    cells = [
        torch.tensor([[5.0, 7.0], [20.0, 30.0]]),
        torch.zeros(0, 2),
    ]  # on cells, where splatting is exact
    terms = loss(network, output, [(c + 0.5) * stride - 0.5 for c in cells], config)
    codes = code.measure(output.mass)
    lattice = codes.shape[2:]
    by_hand = 0.0
    for number, c in enumerate(cells):
        target = code.signals(c, torch.ones(len(c)), lattice) @ code.sensing_matrix.T
        by_hand += (code.per_axis(codes)[number] - target).square().sum().item() / 2
    assert terms.l2.item() == pytest.approx(by_hand / 2, rel=1e-3)
    assert terms.total.item() == terms.l2.item()


def test_mass_at_the_points_has_no_loss():
    config, network, _ = projection_setup()
    mass = torch.zeros(2, 1, 36, 36)
    mass[0, 0, 5, 7] = mass[0, 0, 20, 30] = 1.0
    cells = torch.tensor([[5.0, 7.0], [20.0, 30.0]])
    output = Output(mass=mass)
    points = [(cells + 0.5) * config.stride - 0.5, torch.zeros(0, 2)]
    assert loss(network, output, points, config).total.item() == pytest.approx(0, abs=1e-9)


def test_an_object_at_the_very_border_has_all_of_its_mass():
    config, network, _ = projection_setup()
    side = 36 * config.stride
    mass = torch.zeros(2, 1, 36, 36)
    mass[0, 0, 0, 0] = mass[0, 0, 35, 35] = mass[1, 0, 0, 35] = 1.0
    output = Output(mass=mass)
    points = [torch.tensor([[-0.5, -0.4], [side - 0.6, side - 1.0]]), torch.tensor([[0.0, side - 0.5]])]
    assert loss(network, output, points, config).total.item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("backward", ["exact", "paper"])
def test_the_l1_term_reaches_the_mass_map(backward):
    config, network, output = projection_setup(alpha=1.0, backward=backward, lam=0.01)
    terms = loss(network, output, POINTS, config)
    (gradient,) = torch.autograd.grad(terms.l1, output.mass)
    assert terms.l1 > 0
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


def test_heat_map_loss_is_least_at_its_spots_and_takes_empty_crops():
    config, network, output = projection_setup(target="heatmap")
    grid = torch.stack(torch.meshgrid(torch.arange(36.0), torch.arange(36.0), indexing="ij"), -1)
    maps = torch.zeros(2, 1, 36, 36)
    for p in (POINTS[0] + 0.5) / config.stride - 0.5:
        maps[0, 0] = torch.maximum(maps[0, 0], torch.exp(-(grid - p).square().sum(-1) / 2))
    right = loss(network, output._replace(mass=maps), POINTS, config).total
    for wrong in (output.mass.detach(), maps.roll(4, 2), 0.3 * maps):
        assert loss(network, output._replace(mass=wrong), POINTS, config).total > right
    assert right.isfinite()


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.5, 0.5), (0.4, 0.4), (0.5, 0.0), (-0.3, 0.45)])
def test_each_point_raises_the_heat_map_near_it(offset):
    """Wherever it lies between the cells' centres."""
    config, network, output = projection_setup(target="heatmap")
    mass = torch.full_like(output.mass, 0.3).requires_grad_()
    cells = torch.tensor([[5.0, 7.0], [20.0, 30.0]]) + torch.tensor(offset)
    points = [(cells + 0.5) * config.stride - 0.5, torch.zeros(0, 2)]
    loss(network, output._replace(mass=mass), points, config).total.backward()
    for y, x in cells.round().long().tolist():
        assert mass.grad[0, 0, y, x] < 0
    assert (mass.grad[0, 0] < 0).sum() <= 8  # four cells around each at most
    assert (mass.grad[1] > 0).all()


def test_a_heat_map_beside_the_code_adds_its_own_loss():
    config, network, output = projection_setup(spots=0.5)
    values = torch.rand(output.mass.shape, generator=torch.Generator().manual_seed(1))
    code = loss(network, output, POINTS, override(config, {"spots": 0.0}))
    heat = loss(
        network, output._replace(mass=values), POINTS, override(config, {"spots": 0, "target": "heatmap"})
    )
    both = loss(network, output._replace(spots=values), POINTS, config)
    assert both.total.item() == pytest.approx((code.total + 0.5 * heat.total).item(), rel=1e-6)
    assert (both.l2, both.count) == (code.l2, code.count)


def test_a_heat_map_beside_the_code_teaches_the_features_and_predicts_nothing():
    config, network, _ = projection_setup(spots=1.0)
    image = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    output = network(image)
    gradients = []
    for spots in (output.spots, None):
        total = loss(network, output._replace(spots=spots), POINTS, config).total
        (gradient,) = torch.autograd.grad(total, next(network.decoder.parameters()), retain_graph=True)
        gradients.append(gradient)
    assert not torch.allclose(*gradients)
    network.eval()
    before = network.mass(image)
    assert torch.equal(before.flatten(0, 1)[:, None], network(image).mass)
    torch.nn.init.ones_(network.spots.convolution.weight)
    assert torch.equal(network.mass(image), before)


@pytest.mark.parametrize("changes", [{"head": "global"}, {"target": "heatmap"}])
def test_a_heat_map_is_learned_beside_the_projected_code_alone(changes):
    with pytest.raises(
        UsageError, match="spots is for a heat map beside the code of the head 'projection', found"
    ):
        override(preset("pointsense"), {"spots": 1.0} | changes)


@pytest.mark.parametrize("target", ["code", "heatmap"])
def test_mass_that_is_not_known_is_of_no_account(target):
    config, network, output = projection_setup(target=target)
    known = torch.ones(2, 1, 36 * config.stride, 36 * config.stride)
    known[..., : 6 * config.stride, :] = 0
    other = output.mass.detach().clone()
    other[:, :, :6] = 0.7
    points = [torch.tensor([[3.0, 50.0], [60.0, 70.0]]), torch.tensor([[9.0, 9.0]])]
    without = [points[0][1:], points[1][:0]]
    terms = loss(network, output, points, config, known)
    same = loss(network, output._replace(mass=other), points, config, known)
    assert terms.total.item() == pytest.approx(same.total.item(), rel=1e-6)
    if target == "code":
        assert terms.total.item() == pytest.approx(loss(network, output, without, config, known).total.item())
    assert terms.total.item() != pytest.approx(loss(network, output, points, config).total.item(), rel=1e-3)
