"""The loss of eq. (3), with the cell count of the multi-task label {x, beta c}; and that of the heat map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pointsense.encoding import splat
from pointsense.inference.decode import to_cells
from pointsense.model.config import Config
from pointsense.model.network import Network, Output, PatchNetwork, ProjectionNetwork
from pointsense.recovery import sparse_code

SPOT = 1.0
"""Standard deviation of the heat map's spots, in cells."""


@dataclass(frozen=True)
class Loss:
    """The terms of the loss, summed over the entries of a patch (or map) and averaged over patches.

    Attributes
    ----------
    total : Tensor
        ``l2 + alpha * l1 + count``, what is minimised.
    l2 : Tensor
        1/2 |x_hat - x|^2.
    l1 : Tensor
        |a_hat - a|_1; zero when alpha is.
    count : Tensor
        1/2 (beta c_hat - beta c)^2.
    """

    total: Tensor
    l2: Tensor
    l1: Tensor
    count: Tensor


def loss(network: Network, output: Output, points: Sequence[Tensor], config: Config) -> Loss:
    """Loss of a batch.

    Parameters
    ----------
    network : Network
        Its code makes the labels.
    output : Output
    points : sequence of tensors, (N, 2)
        (y, x) in px of the patch; for each image, for each class.
    config : Config
        alpha and beta; the rule of the L1 term's gradient.
    """
    points = [p.to(output.codes.device) for p in points]
    if config.target == "heatmap" and isinstance(network, ProjectionNetwork):
        return _spots(output, points, config)
    if isinstance(network, PatchNetwork):
        signal, codes = network.code.encode(points)
        l2 = (output.codes - codes).square().sum() / 2
        l1 = (network.code.recover(output.codes) - signal).abs().sum() if config.alpha else l2.new_zeros(())
    else:
        l2, l1 = _projection_terms(network, output, points, config)
    counts = torch.tensor([float(len(p)) for p in points], device=output.counts.device)
    count = (config.beta * (output.counts - counts)).square().sum() / 2
    B = len(points)
    return Loss((l2 + config.alpha * l1 + count) / B, l2 / B, l1 / B, count / B)


def _projection_terms(
    network: ProjectionNetwork, output: Output, points: Sequence[Tensor], config: Config
) -> tuple[Tensor, Tensor]:
    """The L2 term by linearity, x_hat - x = Phi (h - h*); the L1 term on the axes of each window."""
    assert output.mass is not None
    code, (B, _, H, W) = network.code, output.mass.shape
    cells = [to_cells(p, config.stride) for p in points]
    image = torch.repeat_interleave(
        torch.arange(B, device=output.mass.device),
        torch.tensor([len(p) for p in cells]).to(output.mass.device),
    )
    labels = splat(torch.cat(cells), image, (B, H, W))
    l2 = code.measure(output.mass - labels).square().sum() / 2
    if not config.alpha:
        return l2, l2.new_zeros(())
    lattice = (output.codes.shape[-2], output.codes.shape[-1])
    signal = torch.stack([code.signals(c, torch.ones(len(c)).to(c), lattice) for c in cells])
    recovered = sparse_code(
        code.per_axis(output.codes),
        code.sensing_matrix,
        config.lam,
        method="auto" if config.recovery == "lista" else config.recovery,
        backward=config.backward,
        ridge=1e-3 if config.backward == "exact" else 0.0,
        max_iter=config.recovery_steps or None,
    )
    return l2, (recovered - signal).abs().sum()


def _spots(output: Output, points: Sequence[Tensor], config: Config) -> Loss:
    """Penalty-reduced focal loss of a map of Gaussian spots (Zhou et al. 2019, eq. 1), for each point."""
    assert output.mass is not None
    H, W = output.mass.shape[-2:]
    grid = torch.stack(torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij"), -1).to(output.mass)
    maps = []
    for p in points:
        squared = (grid[:, :, None] - to_cells(p, config.stride)).square().sum(-1)
        near = squared.amin(-1) if len(p) else torch.full((H, W), torch.inf).to(grid)
        maps.append(torch.exp(-near / (2 * SPOT**2)))
    label = torch.stack(maps)[:, None]
    guess = output.mass.clamp(1e-4, 1 - 1e-4)
    peak = (label > 0.88).float()  # the cells whose centre lies within half a cell of a point
    gain = (1 - guess).square() * guess.log() * peak
    penalty = (1 - label) ** 4 * guess.square() * (1 - guess).log() * (1 - peak)
    total = -(gain + penalty).sum() / len(points)
    zero = total.new_zeros(())
    return Loss(total, total, zero, zero)
