"""The network of Faster R-CNN: torchvision's on a timm encoder, which learns where crops are known.

References
----------
Ren, He, Girshick, Sun 2015, Faster R-CNN: towards real-time object detection with region proposal networks, NeurIPS.
Lin et al. 2017, Feature pyramid networks for object detection, CVPR.
Sandler et al. 2018, MobileNetV2: inverted residuals and linear bottlenecks, CVPR.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from pointsense.errors import UsageError
from pointsense.learning.training import starts_given
from pointsense.model.config import DEEPEST, Config
from pointsense.model.timm_backbone import Normalise, TimmEncoder, build_timm

BACKBONE = "mobilenetv2_100"
WIDTH, REPRESENTATION, POOLED = 128, 512, 7
"""Channels of the pyramid, numbers that describe a box, side of what is pooled from it: half of torchvision's widths,
which are for eighty classes."""

STRIDES = (4, 8, 16)

ANCHORS = (0.7, 1.0, 1.4)
"""Sides of the anchors at each cell, in boxes."""

FLOOR = 0.01
"""Least score of a candidate."""

PROPOSALS = 1000
"""Most proposals of a tile, torchvision's default."""


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


def centred_in(known: Tensor, boxes: Tensor) -> Tensor:
    """Which boxes (K, 4), (x1, y1, x2, y2), have their centre where `known` (S, S) is 1."""
    (height, width), centres = known.shape, ((boxes[:, :2] + boxes[:, 2:]) / 2).floor().long()
    return known[centres[:, 1].clamp(0, height - 1), centres[:, 0].clamp(0, width - 1)] > 0


class KnownAnchors(RegionProposalNetwork):
    """Learns from the anchors centred where a crop is known, by the entry `known` (S, S) of each of its targets.

    An object half of which lies beyond a crop is annotated in it or not, by where its centre is.
    """

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, target in zip(labels, anchors, targets, strict=True):
            label[~centred_in(target["known"], anchor)] = -1.0  # neither object nor background
        return labels, boxes


class KnownProposals(RoIHeads):
    """Learns from the proposals centred where a crop is known, and from the annotated boxes."""

    def select_training_samples(
        self, proposals: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        assert targets is not None
        seen = [one[centred_in(target["known"], one)] for one, target in zip(proposals, targets, strict=True)]
        return super().select_training_samples(seen, targets)


class Unscaled(GeneralizedRCNNTransform):
    """Torchvision's normalisation and batching without its resizing: images come in working px."""

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


def build(config: Config, channels: int, box: float, proposals: int = PROPOSALS) -> GeneralizedRCNN:
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
    rpn = KnownAnchors(
        anchors,
        FullPrecision(WIDTH, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 1000, "testing": proposals},
        post_nms_top_n={"training": 500, "testing": proposals},
        nms_thresh=0.7,
    )
    heads = KnownProposals(
        pooling,
        TwoMLPHead(WIDTH * POOLED**2, REPRESENTATION),
        FastRCNNPredictor(REPRESENTATION, 2),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=128,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=FLOOR,
        nms_thresh=1.0,  # all boxes: `BoxFinder` thins them out over the whole image
        detections_per_img=proposals,
    )
    mean, std = normalise.mean.flatten().tolist(), normalise.std.flatten().tolist()
    return GeneralizedRCNN(Pyramid(encoder), rpn, heads, Unscaled(0, 0, mean, std, size_divisible=DEEPEST))
