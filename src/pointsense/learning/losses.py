"""The loss of eq. (3), with the cell count of the multi-task label {x, beta c}; and that of the heat map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from pointsense.encoding import splat
from pointsense.errors import DataError
from pointsense.inference.decode import to_cells
from pointsense.model.config import Config
from pointsense.model.network import Network, Output, PatchNetwork, ProjectionNetwork
from pointsense.recovery import sparse_code

SPOT = 1.0
"""Standard deviation of the heat map's spots, in cells."""

PEAK = 0.51
"""Squared distance in cells up to which a cell is to be 1: a point midway between four cells lies within it of all."""


@dataclass(frozen=True)
class Loss:
    """The terms of the loss, summed over the entries of a patch (or map) and averaged over patches.

    Attributes
    ----------
    total : Tensor
        ``l2 + alpha * l1 + count``, and what a heat map beside the code adds: what is minimised.
    l2 : Tensor
        1/2 |x_hat - x|^2; where a heat map takes the code's place, its focal loss.
    l1 : Tensor
        |a_hat - a|_1; zero when alpha is.
    count : Tensor
        1/2 (beta c_hat - beta c)^2.
    """

    total: Tensor
    l2: Tensor
    l1: Tensor
    count: Tensor


def loss(
    network: Network, output: Output, points: Sequence[Tensor], config: Config, known: Tensor | None = None
) -> Loss:
    """Loss of a batch.

    Parameters
    ----------
    network : Network
        Its code makes the labels.
    output : Output
    points : sequence of tensors, (N, 2)
        (y, x) in px of the patch; for each image, for each class.
    config : Config
        alpha, beta and spots, the weight of the heat map; the rule of the L1 term's gradient.
    known : Tensor, optional, (B, 1, S, S)
        0 where the points of a crop are not told by what is seen: mass there is of no account.

    Raises
    ------
    DataError
        If codes are to be recovered, and the network's output is not finite.
    """
    if isinstance(network, PatchNetwork):
        assert output.codes is not None
        assert output.counts is not None
        points = [p.to(output.codes.device) for p in points]
        signal, codes = network.code.encode(points)
        l2 = (output.codes - codes).square().sum() / 2
        _require_finite(output.codes, config)
        l1 = (network.code.recover(output.codes) - signal).abs().sum() if config.alpha else l2.new_zeros(())
        counts = torch.tensor([float(len(p)) for p in points], device=output.counts.device)
        count = (config.beta * (output.counts - counts)).square().sum() / 2
        return _total(l2, l1, count, len(points), config)
    assert output.mass is not None
    points = [p.to(output.mass.device) for p in points]
    weight = torch.ones_like(output.mass) if known is None else _in_cells(known, output.mass, config.stride)
    if config.target == "heatmap":
        total, zero = _spots(output.mass, weight, points, config), output.mass.new_zeros(())
        return Loss(total, total, zero, zero)
    cells = [_on_map(to_cells(p, config.stride), output.mass) for p in points]
    labels = _labels(cells, output.mass) * weight
    mass = output.mass * weight
    _require_finite(mass, config)
    # By linearity, x_hat - x = Phi (h - h*).
    l2 = network.code.measure(mass - labels).square().sum() / 2
    l1 = _end_to_end(network, mass, weight, cells, config) if config.alpha else l2.new_zeros(())
    count = (config.beta * (mass - labels).sum((1, 2, 3))).square().sum() / 2
    terms = _total(l2, l1, count, len(points), config)
    if output.spots is None:
        return terms
    beside = _spots(output.spots, weight, points, config)
    return replace(terms, total=terms.total + config.spots * beside)


def _require_finite(output: Tensor, config: Config) -> None:
    """What codes are recovered from must be finite. Where none are, the loss tells."""
    if config.alpha and not torch.isfinite(output).all():
        raise DataError("the network's output is no longer finite; lower learning_rate with --set")


def _total(l2: Tensor, l1: Tensor, count: Tensor, B: int, config: Config) -> Loss:
    return Loss((l2 + config.alpha * l1 + count) / B, l2 / B, l1 / B, count / B)


def _in_cells(known: Tensor, mass: Tensor, stride: int) -> Tensor:
    """1 for the cells of maps (B * K, 1, H, W) all of whose pixels are known, else 0."""
    whole = (F.avg_pool2d(known, stride) > 0.999).to(mass)
    return whole.repeat_interleave(len(mass) // len(known), dim=0)


def _on_map(cells: Tensor, mass: Tensor) -> Tensor:
    """Points (N, 2) moved to the nearest centre of a cell where they lie between the outermost ones and the border.

    There a part of their mass would fall beside the map, and the network would learn that they are less than an object.
    """
    ends = torch.tensor(mass.shape[-2:]).to(cells) - 1
    return torch.minimum(cells.clamp(min=0), ends)


def _labels(cells: Sequence[Tensor], mass: Tensor) -> Tensor:
    """Maps like `mass` with a unit of mass for each point, given in cells."""
    B, _, H, W = mass.shape
    counts = torch.tensor([len(c) for c in cells]).to(mass.device)
    image = torch.repeat_interleave(torch.arange(B, device=mass.device), counts)
    return splat(torch.cat(list(cells)), image, (B, H, W))


def _end_to_end(
    network: ProjectionNetwork, mass: Tensor, weight: Tensor, cells: Sequence[Tensor], config: Config
) -> Tensor:
    """The L1 term |a_hat - a|_1 on the axes of each window: a_hat recovered from the codes of `mass`."""
    code, (H, W) = network.code, mass.shape[-2:]
    lattice = code.lattice(H, W)
    signals = []
    for c, known in zip(cells, weight[:, 0], strict=True):
        y, x = c.round().long().T
        c = c[known[y.clamp(0, H - 1), x.clamp(0, W - 1)] > 0]
        signals.append(code.signals(c, torch.ones(len(c)).to(c), lattice))
    recovered = sparse_code(
        code.per_axis(code.measure(mass)),
        code.sensing_matrix,
        config.lam,
        method="auto" if config.recovery == "lista" else config.recovery,
        backward=config.backward,
        ridge=1e-3 if config.backward == "exact" else 0.0,
        max_iter=config.recovery_steps or None,
    )
    return (recovered - torch.stack(signals)).abs().sum()


def _spots(mass: Tensor, weight: Tensor, points: Sequence[Tensor], config: Config) -> Tensor:
    """Penalty-reduced focal loss of a map of Gaussian spots (Zhou et al. 2019, eq. 1), for each map.

    There each point has one cell that is to be 1 and the spot is around its centre; here the spot is around the point,
    which may lie midway between cells: all those as near as the nearest one may be are to be 1.
    """
    H, W = mass.shape[-2:]
    grid = torch.stack(torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij"), -1).to(mass)
    distances = []
    for p in points:
        squared = (grid[:, :, None] - to_cells(p, config.stride)).square().sum(-1)
        distances.append(squared.amin(-1) if len(p) else torch.full((H, W), torch.inf).to(grid))
    near = torch.stack(distances)[:, None]
    label, peak = torch.exp(-near / (2 * SPOT**2)), (near <= PEAK).float()
    guess = mass.clamp(1e-4, 1 - 1e-4)
    gain = (1 - guess).square() * guess.log() * peak
    penalty = (1 - label) ** 4 * guess.square() * (1 - guess).log() * (1 - peak)
    return -(weight * (gain + penalty)).sum() / len(points)
