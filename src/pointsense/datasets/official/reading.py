"""From a download and a folder of images to a data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pointsense.datasets.dataset import LOOK_ALIKE, Dataset, DatasetReading, Sample
from pointsense.datasets.official import cells, contests, generic
from pointsense.datasets.official.pairing import Images, paired
from pointsense.datasets.official.source import Format, Record, Source, without_doubles
from pointsense.errors import DataError, UsageError
from pointsense.images import IMAGE_SUFFIXES

FORMATS = {
    "icpr2012": Format(
        contests.read_icpr2012,
        "A00_v2/A00_00.csv beside A00_v2/A00_00.bmp",
        "the page of the ICPR 2012 mitosis contest, MITOS",
        radius_um=5,
    ),
    "mitos14": Format(
        contests.read_mitos14,
        "A03/mitosis/A03_00Aa_mitosis.csv and A03/frames/x40/A03_00Aa.tiff",
        "mitos-atypia-14.grand-challenge.org, after registration",
        radius_um=8,
    ),
    "amida13": Format(
        contests.read_amida13,
        "mitoses_ground_truth/01/01.csv and images 01/01.tif in the folders of their parts",
        "the AMIDA13 contest, after registration",
        radius_um=7.5,
    ),
    "tupac16": Format(
        contests.read_tupac16,
        "mitoses_ground_truth/01/01.csv and mitoses_image_data_part_1/01/01.tif",
        "tupac.grand-challenge.org, after registration",
        radius_um=7.5,
    ),
    "tupac16-alternative": Format(
        contests.read_tupac16_alternative,
        "mitoses_ground_truth/, nonmitoses_ground_truth/ (or TUPAC_AL/ with both) and TUPAC16's images",
        "github.com/DeepMicroscopy/TUPAC16_AlternativeLabels; the images as for tupac16",
        radius_um=7.5,
    ),
    "midog": Format(
        contests.read_midog,
        "MIDOG++.json (or databases/MIDOG++.json), datasets_xvalidation.csv and images 001.tiff",
        "github.com/DeepMicroscopy/MIDOGpp, which says where the images are",
        radius_um=7.5,
    ),
    "crchisto": Format(
        cells.read_crchisto,
        "Detection/img1/img1_detection.mat beside img1.bmp, and Classification/",
        "CRCHistoPhenotypes, of the TIA centre of the University of Warwick",
        radius_px=6,
    ),
    "vgg": Format(
        cells.read_vgg,
        "001dots.png beside 001cell.png",
        "the page on counting objects of Oxford's Visual Geometry Group",
        radius_px=5,
    ),
    "coco": Format(
        generic.read_coco, "a JSON file of COCO, or annotations/ with some, and the images that it names"
    ),
    "voc": Format(generic.read_voc, "XML files of Pascal VOC, and the images that they name"),
    "qupath": Format(generic.read_qupath, "a.geojson of points or outlines for the image a"),
    "cvat": Format(
        generic.read_cvat, 'annotations.xml of "CVAT for images 1.1", and the images that it names'
    ),
    "napari": Format(generic.read_napari, "a.csv (index,axis-0,axis-1) for the image a"),
}
"""What can be read, by the name that `convert --from NAME` and `NAME:DIR` take."""


def named(path: Path | str) -> tuple[str, Path] | None:
    """The format and the folder of NAME:DIR; None for a plain path."""
    name, colon, folder = str(path).partition(":")
    return (name, Path(folder).expanduser()) if colon and name in FORMATS else None


def read_official(
    name: str,
    root: Path | str,
    *,
    images: Path | str | None = None,
    scale: float = 1.0,
    um_per_px: float | None = None,
) -> DatasetReading:
    """Read a download, or an export, as it comes.

    Parameters
    ----------
    name : str
        One of `FORMATS`.
    root : path
        The folder of the labels.
    images : path, optional
        Where the images lie, with any suffix that can be read, if not below `root`.
    scale : float
        Side of the images in sides of those that the labels are of, for copies that were shrunk: points, pixel size and
        match radius are scaled with them.
    um_per_px : float, optional
        Pixel size of the images, where it differs from that of the download; points are left as they are.

    Returns
    -------
    DatasetReading
        With the problems that stand against using it, and notes on what was left out or changed.

    Raises
    ------
    UsageError
        If the name is unknown, or a number is not positive.
    DataError
        If the folder is not of that layout; the message says what was expected, and where it can be had.
    """
    if name not in FORMATS:
        raise UsageError(f"unknown format '{name}'; use {', '.join(FORMATS)}")
    for option, value in (("--scale", scale), ("--um-per-px", um_per_px)):
        if value is not None and not 0 < value < np.inf:
            raise UsageError(f"{option} is {value}, expected a positive number")
    form, root = FORMATS[name], Path(root)
    there = Images(root if images is None else Path(images))
    if not root.is_dir() or not there.root.is_dir():
        missing = root if not root.is_dir() else there.root
        raise DataError(f"{missing} is no folder; {_wanted(name)}")
    source = Source(root, there)
    records = form.read(source)
    if not records:
        listed = ", ".join(sorted(entry.name for entry in root.iterdir())[:6]) or "nothing"
        raise DataError(f"{root} is not {name}: {_wanted(name)}; found {listed}")
    names = paired(records, there, source.notes)
    samples = _samples(records, names, source, scale)
    if not samples:
        raise DataError(
            f"no image for any of {len(records)} labelled ones below {there.root}, first {records[0].key}; expected "
            f"files ending in {', '.join(IMAGE_SUFFIXES)}: give their folder with --images"
        )
    size = um_per_px or _pixel_size([records[k] for k in names], scale, source)
    if not form.obtain:  # a contest's download has images of other kinds, too
        _note_unlabelled({sample.name for sample in samples}, there, source)
    if scale != 1:
        source.notes.append(f"points, pixel size and match radius are scaled by {scale:g}, as the images are")
    radius = form.radius_px and form.radius_px * scale
    if form.radius_um and size:
        radius = form.radius_um / size
    kinds = sorted({kind for sample in samples for kind in sample.classes} - {LOOK_ALIKE} or {""})
    radii = {kind: round(radius, 3) for kind in kinds} if radius else {}
    smallest = _smallest(records, names, scale, source)
    return DatasetReading(Dataset(root, tuple(samples), radii, size, smallest), source.problems, source.notes)


def _wanted(name: str) -> str:
    obtain = FORMATS[name].obtain
    return f"expected {FORMATS[name].expected}" + (f". They are to be had from {obtain}" if obtain else "")


def _samples(records: Sequence[Record], names: dict[int, str], source: Source, scale: float) -> list[Sample]:
    """The records whose image is there, by name; a record without one is a note."""
    divided = any(record.split for record in records)
    samples, doubles, undivided = [], 0, 0
    for k, name in names.items():
        record = records[k]
        points, classes = without_doubles(record.points, record.classes)
        doubles += len(record.points) - len(points)
        undivided += divided and not record.split
        samples.append(
            Sample(
                name,
                source.images.root / name,
                (points + 0.5) * scale - 0.5,
                classes,
                group=record.group or name,
                split=record.split or "train",
            )
        )
    if alone := [record.key for k, record in enumerate(records) if k not in names]:
        source.notes.append(
            f"{len(alone)} of {len(records)} labelled images are not below {source.images.root}, first {alone[0]}: "
            "left out"
        )
    if doubles:
        source.notes.append(f"{doubles} points occur twice: kept once")
    if undivided:
        source.notes.append(f"{undivided} images are in no split, as others are: taken as train")
    return sorted(samples, key=lambda sample: sample.name)


def _note_unlabelled(labelled: set[str], images: Images, source: Source) -> None:
    """Say which images have no labels at all: one that is known to be empty must have an empty file of them."""
    if without := [name for name in images.names if name not in labelled]:
        source.notes.append(
            f"{len(without)} of {len(images.names)} images below {images.root} have no labels, first {without[0]}: "
            "left out; if nothing is to be found on them, their labels must say so, without an object"
        )


def _smallest(records: Sequence[Record], names: dict[int, str], scale: float, source: Source) -> float | None:
    """The radius of the smallest object, rounded down, with a note on where it is; look-alikes are none."""
    sizes = [
        (radius * scale, name)
        for k, name in names.items()
        for radius, kind in zip(records[k].radii, records[k].classes, strict=bool(records[k].radii))
        if kind != LOOK_ALIKE and radius > 0
    ]
    if not sizes:
        return None
    radius, name = min(sizes)
    source.notes.append(f"the smallest annotated object has a radius of {radius:.3g} px, in {name}")
    return math.floor(1000 * radius) / 1000 or None


def _pixel_size(records: Sequence[Record], scale: float, source: Source) -> float | None:
    sizes = sorted({record.um_per_px for record in records if record.um_per_px})
    if len(sizes) > 1:
        source.notes.append(
            f"the images have pixels of {' and '.join(f'{size:g}' for size in sizes)} um: pixel size and match radius "
            "are of their mean; for those of one scanner give a folder of its images with --images"
        )
    return round(float(np.mean(sizes)) / scale, 6) if sizes else None
