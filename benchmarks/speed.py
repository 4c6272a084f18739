"""Seconds of a prediction beside other detectors', on the same images, one after the other in one run.

    python benchmarks/speed.py icpr2012-fold0     the model that benchmarks/real_data.py trained, and peers
    python benchmarks/speed.py --smoke            a tiny network on a synthetic image

Ours is `Detector.predict` with the views of the set's preset; where these are several, a row of its own gives one of
the image (a second look keeps its own), and where the processor is fast at half precision, in which ours computes,
others give ours in float32 and Faster R-CNN in half precision: all else computes in float32. Faster R-CNN (MobileNetV2,
the same working px) and torchvision's fasterrcnn_resnet50_fpn (as it comes, when it resizes images to 800 px, and told
to leave them as large as they are) are timed untrained, with a threshold and a limit that leave them no more boxes than
a trained one has. Spotiflow, in an environment of its own, is timed as it was trained for the comparison, where it was,
on images that are in working px before. Reading files is left out for all.
"""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from command import in_one_sentence
from methods import METHODS
from pointsense.errors import DataError
from pointsense.images import InputContract, read_image
from pointsense.inference.detector import Detector
from pointsense.inference.device import autocast
from pointsense.model.config import override
from pointsense.model.presets import fitted_to, preset
from pointsense.writing import write_json
from provenance import ROOT, hardware, versions
from real_data import seen_as
from tasks import configured, data_folder, select_tasks, trained_models_parser

IMAGES, REPEATS = 3, 3
FULL = "32-true"
BOXES = 300
"""Boxes that an untrained detector is left with in an image, at most: torchvision's default is 100."""

Image = np.ndarray
Predict = Callable[[Image], Any]


def faster_rcnn(detector: Detector, box: float, data: Path, proposals: int) -> Predict:
    """The Faster R-CNN of the comparison at the same working px, without training."""
    from pointsense.peers.faster_rcnn import BoxFinder, build
    from pointsense.peers.frame import Frame

    own = configured("pointsense", METHODS["faster-rcnn"].settings, data)
    names = ("backbone", "weights", "weights_origin")
    config = override(detector.config, {name: getattr(own, name) for name in names})
    network = build(config, detector.contract.channels, box * config.scale, proposals).eval()
    network.roi_heads.score_thresh = 0.5
    network.roi_heads.detections_per_img = BOXES
    finder = BoxFinder(Frame(detector.contract, config.scale), network, box * config.scale, 0.3)
    return finder.candidates


def proposals_of(name: str) -> int:
    """Most proposals of a tile, of the Faster R-CNN that was trained for the comparison on this set.

    Raises
    ------
    DataError
        If no result says it.
    """
    path = ROOT / "docs" / "results" / f"{name}-faster-rcnn.json"
    try:
        return int(json.loads(path.read_text())["training"]["proposals"])
    except (OSError, KeyError) as error:
        raise DataError(
            f"{path} does not tell the proposals of Faster R-CNN: train it, python benchmarks/real_data.py {name} "
            "--method faster-rcnn"
        ) from error


def changed(detector: Detector, **settings: Any) -> Detector:
    """A detector with other settings of prediction."""
    return replace(detector, config=override(detector.config, settings))


def in_half(predict: Predict, detector: Detector) -> Predict:
    """A peer's prediction in the precision of our detector."""

    def half(image: Image) -> Any:
        with autocast(detector.device, detector.precision):
            return predict(image)

    return half


def resnet50(**size: int) -> Predict:
    """torchvision's fasterrcnn_resnet50_fpn without training, with its own defaults but for the `size` of images."""
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    network = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2, **size).eval()

    def predict(image: Image) -> Any:
        pixels = torch.from_numpy(np.broadcast_to(image, (*image.shape[:2], 3)).copy())
        with torch.no_grad():
            return network([pixels.permute(2, 0, 1).float() / 255])

    return predict


@contextmanager
def spotiflow(detector: Detector, run: Path, images: Sequence[Image]) -> Iterator[dict[str, Predict]]:
    """Spotiflow as it was trained for the comparison, by its own choices of a prediction; nothing where it was not."""
    if not (run / "model").is_dir():
        print(f"{run} holds no Spotiflow, skipped")
        yield {}
        return
    from peers.spotiflow import standing
    from pointsense.peers.frame import Frame

    with standing(Frame(detector.contract, detector.config.scale), run, images) as predict:
        yield {"Spotiflow": predict}


def measure(predictors: dict[str, Predict], images: Sequence[Image]) -> dict[str, float]:
    """The least of a few means of seconds an image; the detectors take turns, so that all see the same machine."""
    seconds: dict[str, list[float]] = {name: [] for name in predictors}
    for predict in predictors.values():
        predict(images[0])
    for _ in range(REPEATS):
        for name, predict in predictors.items():
            begin = time.perf_counter()
            for image in images:
                predict(image)
            seconds[name].append((time.perf_counter() - begin) / len(images))
    return {name: min(values) for name, values in seconds.items()}


def shown(name: str, seconds: dict[str, float]) -> str:
    """A line for each detector, with the ratio to ours."""
    ours = seconds["pointsense"]
    return "\n".join(
        f"{name}: {peer} {value:.3f} s an image, {value / ours:.1f} times ours"
        for peer, value in seconds.items()
    )


def smoke() -> int:
    """Time a tiny network on a synthetic image."""
    from pointsense.datasets.synthetic import draw_image
    from pointsense.model.classes import PointClass
    from pointsense.model.network import build_network

    image = draw_image(96, seed=0, slide=0, number=0)[0]
    image = image if image.ndim == 3 else image[:, :, None]
    contract = InputContract.from_images([image])
    config = override(fitted_to(preset("pointsense"), 6.0), {"width": 8})
    detector = Detector(build_network(config, contract.channels), config, contract, (PointClass("", 6.0),))
    print(
        shown(
            "synthetic",
            measure({"pointsense": detector.predict, "twice": lambda i: detector.predict(i)}, [image]),
        )
    )
    return 0


@in_one_sentence
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the tasks that are named; 0, or the exit code of what went wrong."""
    asked = trained_models_parser(__doc__, "speed.json").parse_args(arguments)
    if asked.smoke:
        return smoke()
    data = data_folder(asked.data)
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
        "hardware": hardware("cpu"),
        "seconds_per_image": {},
    }
    for name, task in select_tasks(asked.sets).items():
        if not (asked.runs / name / "metrics.json").exists():
            print(f"{name}: {asked.runs / name} holds no trained model, skipped")
            continue
        detector = seen_as(name, "code", asked.runs / name, data)
        images = [read_image(sample.path) for sample in task.load(data).val[:IMAGES]]
        side = max(images[0].shape[:2])
        peer = "Faster R-CNN, MobileNetV2"
        predictors: dict[str, Predict] = {
            "pointsense": detector.predict,
            peer: faster_rcnn(detector, task.box, data, proposals_of(name)),
            "fasterrcnn_resnet50_fpn": resnet50(),
            "fasterrcnn_resnet50_fpn, images as large as they are": resnet50(min_size=side, max_size=side),
        }
        if detector.config.views > 1:
            predictors["pointsense, one view"] = changed(detector, views=1).predict
        if detector.precision != FULL:
            predictors["pointsense, float32"] = changed(detector, precision=FULL).predict
            predictors[f"{peer}, half precision"] = in_half(predictors[peer], detector)
        with spotiflow(detector, asked.runs / f"{name}-spotiflow", images) as more:
            seconds = measure(predictors | more, images)
        result["seconds_per_image"][name] = seconds
        print(shown(name, seconds), flush=True)
        write_json(asked.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
