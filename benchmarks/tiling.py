"""Tiles do not change what is found: a mosaic of real images, predicted in small tiles and as a whole.

    python benchmarks/tiling.py RUN IMAGES            a model's folder and a folder of images, seen as 2084 x 2084 px
    python benchmarks/tiling.py --smoke               a tiny model on a small synthetic mosaic, to see that all runs

Prints, for each size of the tiles' cores, the share of points that are found within 0.5 px in the whole image and
the reverse, and writes them to docs/results/tiling.json. Exit code 1 where a share is below 0.995.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from command import in_one_sentence
from pointsense.datasets import list_images
from pointsense.errors import DataError, UsageError
from pointsense.evaluation import match
from pointsense.images import read_image
from pointsense.writing import write_json
from provenance import ROOT, hardware, versions
from tasks import SMOKE

if TYPE_CHECKING:
    from pointsense.inference.detector import Detector

SIDE = 2084
CORES = (256, 512)
WITHIN = 0.5
"""px between two positions of one detection."""

LEAST = 0.995


def mosaic(images: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Images laid side by side in rows, again and again, each turned otherwise, until side x side px are full."""
    canvas = np.zeros((side, side, images[0].shape[2]), images[0].dtype)
    number, top = 0, 0
    while top < side:
        left, height = 0, min(min(image.shape[:2]) for image in images)
        while left < side:
            piece = np.rot90(images[number % len(images)], number // len(images))[:height]
            room = canvas[top : top + height, left : left + piece.shape[1]]
            room[:] = piece[: room.shape[0], : room.shape[1]]
            left += piece.shape[1]
            number += 1
        top += height
    return canvas


def compare(detector: Detector, image: np.ndarray, cores: Sequence[int]) -> list[dict[str, Any]]:
    """What tiles of each core find, beside what the whole image gives."""
    whole = detector.predict(image, tile=max(image.shape))
    rows = []
    for core in cores:
        begin = time.perf_counter()
        found = detector.predict(image, tile=core)
        seconds = time.perf_counter() - begin
        same = match(whole.points, found.points, WITHIN).true_positives
        rows.append(
            {
                "core": core,
                "whole": len(whole),
                "tiles": len(found),
                "share_of_whole": same / max(1, len(whole)),
                "share_of_tiles": same / max(1, len(found)),
                "seconds": seconds,
            }
        )
    return rows


def smoke_run(folder: Path) -> tuple[Path, Path]:
    """A tiny model, and the images that it was trained on."""
    from pointsense.datasets import load_dataset
    from pointsense.datasets.synthetic import make_synthetic
    from pointsense.learning.fit import train
    from pointsense.model.config import override
    from pointsense.model.presets import preset

    data = make_synthetic(folder / "data", images=6, size=64)
    config = override(preset("pointsense"), SMOKE.settings | {"steps": 80})  # fewer leave noise everywhere
    train(load_dataset(data), folder / "run", config, radius=SMOKE.radius, class_name="cell")
    return folder / "run", data / "images"


def run(folder: Path, images: Path, side: int, out: Path | None) -> int:
    """Compare, print and write; the exit code."""
    from pointsense.inference.detector import Detector

    detector = Detector.load(folder)
    pictures = [read_image(path) for path, _ in list_images([images])]
    if len({picture.shape[2] for picture in pictures}) > 1:
        raise DataError(f"{images} holds images of several channel counts; give those of one")
    rows = compare(detector, mosaic(pictures, side), [core for core in CORES if core < side])
    for row in rows:
        print(
            f"cores of {row['core']} px: {row['tiles']} points, {row['whole']} in the whole image; "
            f"{row['share_of_whole']:.4f} and {row['share_of_tiles']:.4f} of them alike; {row['seconds']:.1f} s"
        )
    if out is not None:
        about = {"model": folder.name, "images": images.parent.name, "side_px": side, "within_px": WITHIN}
        about |= {"date": datetime.date.today().isoformat(), "versions": versions()}
        write_json(out, about | {"hardware": hardware(str(detector.device)), "cores": rows})
    return int(any(min(row["share_of_whole"], row["share_of_tiles"]) < LEAST for row in rows))


@in_one_sentence
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN")
    parser.add_argument("images", nargs="?", type=Path, metavar="IMAGES")
    parser.add_argument("--side", type=int, default=SIDE, help="of the mosaic, px")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "tiling.json")
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args(arguments)
    if asked.smoke:
        with tempfile.TemporaryDirectory() as folder:
            return run(*smoke_run(Path(folder)), 600, None)
    if asked.run is None or asked.images is None:
        raise UsageError("give a model's folder and a folder of images, or --smoke")
    return run(asked.run, asked.images, asked.side, asked.out)


if __name__ == "__main__":
    sys.exit(main())
