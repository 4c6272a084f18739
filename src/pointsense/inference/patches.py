"""Prediction with codes of whole patches (the paper's heads): candidates of all patches, merged by their votes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pointsense.encoding import Candidates, candidates
from pointsense.inference.cluster import vote
from pointsense.inference.decode import Found
from pointsense.inference.device import autocast
from pointsense.inference.finite import require_finite
from pointsense.inference.tiles import Tile, tiles
from pointsense.model.config import Config
from pointsense.model.network import PatchNetwork
from pointsense.model.patch_code import PatchCode

BATCH = 16


def decode_patches(code: PatchCode, codes: Tensor, config: Config) -> Candidates:
    """Candidate points, in px of their patch, of codes (B, L, C, m).

    Raises
    ------
    DataError
        If the codes are not finite.
    """
    require_finite(codes)
    signal = code.recover(codes) * code.unit
    return candidates(
        signal,
        code.axes,
        channels=config.channels,
        threshold=config.amplitude_threshold or None,
        margin=config.bandwidth,
    )


@torch.no_grad()
def predict_patches(network: PatchNetwork, image: Tensor, config: Config, device: torch.device) -> Found:
    """Points of an image (C, H, W).

    Patches overlap by half; each gives the candidates in its middle, up to a bandwidth beyond it, and the mean
    shift merges those of all patches at once, so that a cell at a seam is one cell.
    """
    H, W = image.shape[1:]
    core = config.patch // 2
    shift = (config.patch - core) // 2
    plan = [
        Tile(tile.core, (top - shift, left - shift, top - shift + config.patch, left - shift + config.patch))
        for tile in tiles(H, W, core=core, halo=0, step=core)
        for top, left in [tile.core[:2]]
    ]
    points, axes, weights = [np.zeros((0, 2))], [np.zeros(0, int)], [np.zeros(0)]
    for first in range(0, len(plan), BATCH):
        reads = plan[first : first + BATCH]
        with autocast(device, config.precision):
            codes = network(torch.stack([read.read(image) for read in reads]).to(device)).codes
        assert codes is not None
        found = decode_patches(network.code, codes, config)
        patch = found.patch.cpu().numpy()
        for k, read in enumerate(reads):
            mine = patch == k
            place = found.points.cpu().numpy()[mine] + read.box[:2]
            top, left, bottom, right = read.core
            # What lies beyond a seam, or the border, may be a sighting of a cell on this side.
            low, high = np.array([top, left]) - 0.5, np.array([bottom, right]) - 0.5
            near = np.all((place >= low - config.bandwidth) & (place < high + config.bandwidth), axis=1)
            points.append(place[near])
            axes.append(found.axis.cpu().numpy()[mine][near])
            weights.append(found.weight.cpu().numpy()[mine][near])
    everything = Candidates(
        torch.from_numpy(np.concatenate(points)),
        torch.from_numpy(np.concatenate(axes)),
        torch.zeros(sum(map(len, points)), dtype=torch.long),
        torch.from_numpy(np.concatenate(weights)),
    )
    votes = vote(everything, config.bandwidth, config.minimum_votes, axes_count=config.axes)
    inside = np.clip(votes.points, -0.5, np.array([H, W]) - 0.5)
    return Found(inside, votes.score, votes.votes, votes.spread)
