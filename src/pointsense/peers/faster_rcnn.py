"""Two-stage box detection: Faster R-CNN with a feature pyramid, a box of the object's size around each point.

References
----------
Ren, He, Girshick, Sun 2015, Faster R-CNN: towards real-time object detection with region proposal networks, NeurIPS.
Lin et al. 2017, Feature pyramid networks for object detection, CVPR.
Sandler et al. 2018, MobileNetV2: inverted residuals and linear bottlenecks, CVPR.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, nms

from pointsense.errors import UsageError
from pointsense.inference.tiles import Tile, tiles
from pointsense.learning.crops import Field, read_checked
from pointsense.learning.training import GIVEN_RATE, starts_given
from pointsense.model.config import DEEPEST, Config, override
from pointsense.model.timm_backbone import Normalise, TimmEncoder, build_timm
from pointsense.peers.descent import descend
from pointsense.peers.frame import Frame, FramedFinder
from pointsense.peers.problem import Found, Problem, Trained, best_choice

BACKBONE = "mobilenetv2_100"
WIDTH, REPRESENTATION, POOLED = 128, 512, 7
"""Channels of the pyramid, numbers that describe a box, side of what is pooled from it: half of torchvision's widths,
which are for eighty classes."""

STRIDES = (4, 8, 16)

ANCHORS = (0.7, 1.0, 1.4)
"""Sides of the anchors at each cell, in boxes."""

RATE = 1e-3
"""Peak of the learning rate; the configured one where it is lower."""

PROPOSALS, SURPLUS = 1000, 4
"""Most proposals of a tile: torchvision's default, or so many times the points of the densest tile to learn from."""

FLOOR = 0.01
"""Least score of a candidate."""

OVERLAPS = (0.2, 0.3, 0.5)
"""Intersections over union above which the weaker of two boxes goes, among which the selection part chooses."""

CORE, HALO = 512, 64
"""Sides of a tile's core and of what is seen around it, working px; the halo is at least a box and a half."""

Boxes = tuple[Tensor, Tensor]
"""Boxes (K, 4), (x1, y1, x2, y2) in working px from the corner of the first pixel, and scores (K,)."""


class Pyramid(nn.Module):
    """Features (B, WIDTH, H / stride, W / stride) at `STRIDES`."""

    out_channels = WIDTH

    def __init__(self, encoder: TimmEncoder):
        super().__init__()
        self.encoder = encoder
        self.pyramid = FeaturePyramidNetwork(list(encoder.widths), WIDTH)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.encoder(image.contiguous(memory_format=torch.channels_last))
        levels = self.pyramid({str(number): level for number, level in enumerate(features)})
        return {name: level.float() for name, level in levels.items()}


class FullPrecision(RPNHead):
    """Its output in float32: where autocast gives half, torchvision rounds boxes and their targets to that, too."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, offsets = super().forward(x)
        return [one.float() for one in logits], [one.float() for one in offsets]


class Unscaled(GeneralizedRCNNTransform):
    """Torchvision's normalisation and batching without its resizing: images come in working px."""

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


def build(config: Config, channels: int, box: float, proposals: int = PROPOSALS) -> FasterRCNN:
    """The detector of boxes of about `box` working px, at most `proposals` a tile.

    At stride 4 the anchor nearest to a point is up to 2 px off, which in a box of 10 px leaves an intersection over
    union of a half: from there on an anchor counts as positive, where torchvision asks for .7.

    Raises
    ------
    UsageError
        If the configuration asks for no weights, as random ones would make a weaker peer than it is, or for a backbone
        without features at `STRIDES`.
    """
    if not starts_given(config):
        raise UsageError(
            f"Faster R-CNN starts from ImageNet weights of a backbone of timm, such as '{BACKBONE}', and the "
            f"configuration has backbone={config.backbone} without any; give backbone= and weights=, or pretrained=true"
        )
    network, normalise = build_timm(config, channels, load=True, features_only=True, out_indices=(1, 2, 3))
    encoder = TimmEncoder(network)
    if encoder.strides != STRIDES:
        raise UsageError(
            f"Faster R-CNN is built on features at strides {STRIDES}, and timm's '{config.backbone}' has them at "
            f"{encoder.strides}: use another backbone, such as {BACKBONE} or resnet50"
        )
    assert isinstance(normalise, Normalise)
    levels = ["0", "1", "2"]
    sides = tuple(box * side for side in ANCHORS)
    # A box has some three to eight cells of the finest level a side: one sample in each of 7 x 7 parts is enough.
    pooling = MultiScaleRoIAlign(levels, output_size=POOLED, sampling_ratio=1)
    anchors = AnchorGenerator((sides,) * len(levels), ((1.0,),) * len(levels))
    detector = FasterRCNN(
        Pyramid(encoder),
        rpn_anchor_generator=anchors,
        rpn_head=FullPrecision(WIDTH, anchors.num_anchors_per_location()[0]),
        rpn_fg_iou_thresh=0.5,
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=500,
        rpn_pre_nms_top_n_test=proposals,
        rpn_post_nms_top_n_test=proposals,
        box_roi_pool=pooling,
        box_head=TwoMLPHead(WIDTH * POOLED**2, REPRESENTATION),
        box_predictor=FastRCNNPredictor(REPRESENTATION, 2),
        box_score_thresh=FLOOR,
        box_nms_thresh=1.0,  # all boxes: `BoxFinder` thins them out over the whole image
        box_detections_per_img=proposals,
        box_batch_size_per_image=128,
    )
    mean, std = normalise.mean.flatten().tolist(), normalise.std.flatten().tolist()
    detector.transform = Unscaled(0, 0, mean, std, size_divisible=DEEPEST)
    return detector


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

    def __init__(self, frame: Frame, detector: FasterRCNN, box: float, overlap: float):
        super().__init__(frame)
        self.detector, self.box, self.overlap = detector, box, overlap

    @torch.no_grad()
    def boxes(self, image: Tensor) -> Boxes:
        """All boxes of a prepared image (C, h, w) that score at least `FLOOR`; each tile gives those centred in it."""
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
            }
            for p in points
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
