"""The pixel size that an image's file states."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import tifffile

MICROMETRES = {
    "nm": 1e-3,
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "\\u00b5m", "micron", "microns"), 1.0),
    "mm": 1e3,
    "cm": 1e4,
}
"""In a unit, as OME and ImageJ call it: with the sign of micro, the Greek letter, or the sign's number."""

PLAUSIBLE = 0.001, 100.0
"""Micrometres a pixel of a microscope: what is beyond is a default of some program, such as one pixel a centimetre."""

UNLIKE = 1.1
"""Factor from which on pixel sizes are of two magnifications."""


def are_alike(one: float, other: float) -> bool:
    """Whether two pixel sizes are of one magnification."""
    return 1 / UNLIKE < one / other < UNLIKE


def stored_um_per_px(path: Path | str) -> float | None:
    """Micrometres a pixel by a TIFF's OME-XML, ImageJ's calibration, or its resolution in pixels a centimetre.

    None for other files, and where nothing `PLAUSIBLE` is stated; dots an inch are a printer's.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            size = _by_ome(tiff) or _by_resolution(tiff)
    except Exception:  # whatever a file that is no TIFF, or a damaged one, leads its reader to
        return None
    return size if size is not None and PLAUSIBLE[0] <= size <= PLAUSIBLE[1] else None


def _by_ome(tiff: tifffile.TiffFile) -> float | None:
    if not tiff.ome_metadata:
        return None
    for element in ElementTree.fromstring(tiff.ome_metadata).iter():
        if element.tag.endswith("}Pixels") and "PhysicalSizeX" in element.attrib:
            unit = MICROMETRES.get(element.get("PhysicalSizeXUnit", "um").lower())
            return unit and float(element.attrib["PhysicalSizeX"]) * unit
    return None


def _by_resolution(tiff: tifffile.TiffFile) -> float | None:
    page = tiff.pages.first
    pixels, per = page.tags.valueof("XResolution", (0, 1))
    by_imagej = tiff.imagej_metadata or {}
    unit = str(by_imagej.get("unit", "")).lower() or {3: "cm"}.get(page.tags.valueof("ResolutionUnit", 2), "")
    return MICROMETRES[unit] * per / pixels if pixels and unit in MICROMETRES else None
