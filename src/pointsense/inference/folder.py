"""Predicting many files: what goes where is settled before anything is written, and one bad file stops none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from pointsense.datasets.listing import OVERLAY, list_images
from pointsense.errors import DataError, UsageError, is_out_of_memory
from pointsense.images import read_image
from pointsense.images.pixel_size import are_alike, stored_um_per_px
from pointsense.points import Detections
from pointsense.writing import claim_folder

if TYPE_CHECKING:
    from pointsense.inference.detector import Detector

log = logging.getLogger(__name__)

FORMATS = ("csv", "geojson")

COUNTS = "predict.counts"
"""Name, without its suffix, of the table of all images, which no image may have."""

Draw = Callable[[Path, npt.NDArray[Any], Detections, float], None]
"""Writes a picture of an image (H, W, C) and its detections to a path, given how much larger than in training an
object is; given by whoever can draw."""


@dataclass(frozen=True)
class Job:
    """An image file, and the path of its results without their suffix."""

    image: Path
    stem: Path

    def output(self, suffix: str) -> Path:
        """The result that ends in `suffix`; dots in the image's name are kept."""
        return self.stem.with_name(self.stem.name + suffix)


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its detections, the diameter of the objects where it was given or estimated, and the files
    written; or the sentence that says why there are none.
    """

    job: Job
    detections: Detections | None
    problem: str = ""
    diameter: float | None = None
    written: tuple[Path, ...] = ()


def parse_formats(text: str) -> tuple[str, ...]:
    """The formats of a comma-separated list.

    Raises
    ------
    UsageError
        If one is unknown, or there is none.
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        raise UsageError(f"unknown format '{unknown[0] if unknown else text}'; use {', '.join(FORMATS)}")
    return names


def parse_diameter(text: str) -> float | Literal["auto"]:
    """A diameter in px, or "auto".

    Raises
    ------
    UsageError
        If it is neither.
    """
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--diameter is {text}, expected a positive number of pixels, or auto") from None


def plan_jobs(paths: Sequence[Path | str], out: Path | str, *, overwrite: bool = False) -> list[Job]:
    """The images that `paths` (files and folders) stand for, and where in `out` their results go.

    Sub-folders are kept; what lies in `out` and overlays of earlier predictions are left out. Nothing is written.

    Raises
    ------
    DataError
        If a path does not exist or there is no image.
    UsageError
        If two images would write the same results; `out` is a file, or not empty without `overwrite`; or
        results would come to lie beside their image, where annotations of the same name may be.
    """
    images = [(path, name) for path, name in list_images(paths) if not _made_here(path, paths, Path(out))]
    if not images:
        raise DataError(f"there are pictures of earlier predictions alone; expected images: {paths[0]}")
    out = claim_folder(out, overwrite=overwrite)
    jobs = [Job(path, out / Path(name).with_suffix("")) for path, name in images]
    for job in jobs:
        if job.stem == out / COUNTS:
            raise UsageError(f"the results of {job.image} would replace the counts of all images; rename it")
        if job.stem.parent.resolve() == job.image.parent.resolve():
            raise UsageError(
                f"the results of {job.image} would lie beside it, where they could replace its annotations; "
                "give another --out"
            )
    return jobs


def _made_here(path: Path, paths: Sequence[Path | str], out: Path) -> bool:
    """Whether a picture is one that `predict` drew, or lies in a sub-folder of `paths` that it is going to write to."""
    inner = any(Path(given).resolve() in out.resolve().parents for given in paths)
    return path.name.endswith(OVERLAY) or (inner and out.resolve() in path.resolve().parents)


def _um_per_px(path: Path, detector: Detector, diameter: float | None) -> float | None:
    """The pixel size of an image: as its file states it, else the training's, unless it is of another magnification."""
    stored, trained = stored_um_per_px(path), detector.um_per_px
    if stored and trained and not diameter and not are_alike(stored, trained):
        log.warning(
            "%s states pixels of %.4g um, the model was trained at %.4g um: its objects are of another size there; "
            "give --diameter PX, or rescale the image",
            path,
            stored,
            trained,
        )
    return stored or (None if diameter else trained)


def predict_files(
    detector: Detector,
    jobs: Sequence[Job],
    *,
    formats: Sequence[str] = ("csv",),
    threshold: Mapping[str, float] | None = None,
    diameter: float | Literal["auto"] | None = None,
    tile: int = 1024,
    draw: Draw | None = None,
) -> Iterator[Outcome]:
    """Predict one job after another, write its results, and yield what became of it.

    Parameters
    ----------
    detector : Detector
    jobs : sequence of Job
        From `plan_jobs`.
    formats : sequence of {"csv", "geojson"}
        `<image stem>.csv` and `<image stem>.geojson`.
    threshold : mapping of class name to float, optional
        Least scores; the model's own where none is given.
    diameter : float or "auto", optional
        Typical diameter of the objects in px, where it differs from the training images'; "auto" tries several.
    tile : int
        Side in pixels of the core that is predicted at once.
    draw : callable, optional
        Called with `<image stem>.overlay.png`, the image, its detections, and how much larger objects are than in
        training.
    """
    for job in jobs:
        try:
            image = read_image(job.image)
            name = str(job.image)
            levelled = detector.as_input(image, name)
            size = detector.estimated_diameter(levelled, tile) if diameter == "auto" else diameter
            detections = detector.find(levelled, threshold=threshold, diameter=size, tile=tile)
            detector.contract.warn_if_grey(image, name)
            um_per_px = _um_per_px(job.image, detector, size)
            if "csv" in formats:
                detections.write_csv(job.output(".csv"), um_per_px)
            if "geojson" in formats:
                detections.write_geojson(job.output(".geojson"), [kind.name for kind in detector.classes])
            if draw is not None:
                draw(job.output(OVERLAY), image, detections, 1 / detector.zoom_of(size))
        except DataError as error:
            yield Outcome(job, None, str(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            yield Outcome(
                job,
                None,
                f"not enough memory for {job.image}; cut it up (--tile bounds only what the networks take)",
            )
        else:
            suffixes = [f".{name}" for name in formats] + [OVERLAY] * (draw is not None)
            yield Outcome(job, detections, diameter=size, written=tuple(map(job.output, suffixes)))
