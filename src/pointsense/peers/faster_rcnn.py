"""Two-stage box detection: Faster R-CNN with a feature pyramid, a box of the object's size around each point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops import nms

from pointsense.inference.tiles import Tile, tiles
from pointsense.learning.crops import Field, read_checked
from pointsense.learning.training import GIVEN_RATE
from pointsense.model.config import DEEPEST, override
from pointsense.peers.descent import descend
from pointsense.peers.faster_rcnn_network import PROPOSALS, build
from pointsense.peers.frame import Frame, FramedFinder
from pointsense.peers.problem import Found, Problem, Trained, best_choice

RATE = 1e-3
"""Peak of the learning rate; the configured one where it is lower."""

SURPLUS = 4
"""Proposals of a tile are torchvision's so many, or this many times the points of the densest tile to learn from."""

OVERLAPS = (0.1, 0.2, 0.3, 0.5, 0.7)
"""Intersections over union above which the weaker of two boxes goes, among which the selection part chooses."""

CORE, HALO = 1024, 64
"""Sides of a tile's core and of what is seen around it, working px; the halo is at least a box and a half."""

Boxes = tuple[Tensor, Tensor]
"""Boxes (K, 4), (x1, y1, x2, y2) in working px from the corner of the first pixel, and scores (K,)."""


def tiles_of(image: Tensor, box: float) -> Iterator[Tile]:
    """The tiles of a prepared image (C, h, w), around each of which a box and a half are seen."""
    (height, width), halo = image.shape[1:], max(HALO, int(np.ceil(1.5 * box)))
    return tiles(height, width, core=CORE, halo=halo, step=DEEPEST, fill=DEEPEST)


def proposals_for(fields: Sequence[Field], box: float) -> int:
    """So many that no object of a tile as dense as the densest of `fields` is cut off."""
    most = max(
        np.all((field.points >= tile.box[:2]) & (field.points < tile.box[2:]), axis=1).sum()
        for field in fields
        for tile in tiles_of(field.image, box)
    )
    return max(PROPOSALS, SURPLUS * int(most))


def boxes_around(points: Tensor, box: float, side: int) -> Tensor:
    """Boxes (K, 4) around points (K, 2), (y, x), as far as they lie in a crop of `side` px."""
    centres = points.flip(1) + 0.5
    return torch.cat([centres - box / 2, centres + box / 2], dim=1).clamp(0, side)


def centres_of(boxes: npt.NDArray[np.float64], box: float, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Centres (K, 2), (y, x) in px, of boxes (K, 4) in an image of `shape` (H, W).

    A box that the border cuts is taken for one of the side `box` of which the rest is seen.
    """
    low, high = boxes[:, 1::-1], boxes[:, :1:-1]  # (y, x)
    inside = np.array(shape)
    centres = (low + high) / 2
    short = high - low < box
    centres = np.where(short & (low < 0.5), high - box / 2, centres)
    centres = np.where(short & (high > inside - 0.5), low + box / 2, centres)
    return centres - 0.5


class BoxFinder(FramedFinder):
    """Centres of the boxes that are left when the weaker of two that overlap is taken away.

    Attributes
    ----------
    box : float
        Side of an object's box, working px.
    overlap : float
        Intersection over union from which two boxes are of one object.
    """

    def __init__(self, frame: Frame, detector: GeneralizedRCNN, box: float, overlap: float):
        super().__init__(frame)
        self.detector, self.box, self.overlap = detector, box, overlap

    @torch.no_grad()
    def boxes(self, image: Tensor) -> Boxes:
        """All boxes of a prepared image (C, h, w) that reach the network's floor; a tile gives those centred in it."""
        device = next(self.detector.parameters()).device
        boxes, scores = [], []
        for tile in tiles_of(image, self.box):
            found = self.detector([tile.read(image).to(device)])[0]
            corners = found["boxes"].cpu() + torch.tensor([tile.box[1], tile.box[0]] * 2)
            centres = ((corners[:, :2] + corners[:, 2:]) / 2 - 0.5).flip(1)
            owned = torch.from_numpy(tile.owns(centres.double().numpy()))
            boxes.append(corners[owned])
            scores.append(found["scores"].cpu()[owned])
        return torch.cat(boxes), torch.cat(scores)

    def thinned(self, boxes: Boxes, shape: tuple[int, int]) -> Found:
        """Centres and scores of the boxes that stay, in working px of an image of `shape` (h, w)."""
        corners, scores = boxes
        kept = nms(corners, scores, self.overlap)
        centres = centres_of(corners[kept].double().numpy(), self.box, shape)
        return centres, scores[kept].double().numpy()

    def find(self, image: Tensor) -> Found:
        return self.thinned(self.boxes(image), (image.shape[1], image.shape[2]))


def fit(problem: Problem) -> Trained:
    """Train on our crops for our time; the selection part chooses weights and overlap.

    The backbone is the configuration's, and starts from ImageNet weights; its batch normalisation keeps their
    statistics.

    Raises
    ------
    UsageError
        If it has no such weights.
    """
    config = override(problem.config, {"learning_rate": min(problem.config.learning_rate, RATE)})
    slow = min(config.backbone_learning_rate or GIVEN_RATE, config.learning_rate)
    images, selected = read_checked(problem.fit), read_checked(problem.select)
    frame, box = Frame.of(problem, images), problem.working_box
    prepared = [frame.prepare(image) for image in selected]
    fields = frame.fields(problem.fit, images)
    proposals = proposals_for(fields, box)
    torch.manual_seed(problem.seed)
    detector = build(config, frame.contract.channels, box, proposals)
    encoder = detector.backbone.encoder

    def loss_of(network: nn.Module, crops: Tensor, points: list[Tensor], known: Tensor) -> Tensor:
        targets = [
            {
                "boxes": boxes_around(p, box, crops.shape[-1]),
                "labels": torch.ones(len(p), dtype=torch.int64, device=p.device),
                "known": seen,
            }
            for p, seen in zip(points, known[:, 0], strict=True)
        ]
        return torch.stack(list(network(list(crops), targets).values())).sum()

    def chosen(network: nn.Module, overlaps: Sequence[float]) -> tuple[float, float]:
        """The best merit on the selection part, and the overlap that gives it."""
        finder = BoxFinder(frame, network, box, 0)
        boxes = [finder.boxes(image) for image in prepared]

        def found(overlap: float) -> list[Found]:
            finder.overlap = overlap
            return [
                frame.in_image(finder.thinned(one, (small.shape[1], small.shape[2])), image.shape)
                for one, small, image in zip(boxes, prepared, selected, strict=True)
            ]

        return best_choice(problem, overlaps, found)

    facts = descend(
        detector,
        loss_of,
        lambda averaged: chosen(averaged, [0.3])[0],
        problem,
        fields,
        config=config,
        rates=[(encoder, slow)],
        frozen_norms=[encoder],
    )
    merit, overlap = chosen(detector, OVERLAPS)
    return Trained(
        BoxFinder(frame, detector, box, overlap),
        facts
        | {
            "selection_merit": merit,
            "box_working_px": box,
            "nms_overlap": overlap,
            "proposals": proposals,
            "backbone_learning_rate": slow,
        },
    )
