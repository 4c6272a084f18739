"""Reading an image file as (H, W, C), with its own numbers, or saying in one sentence why not."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import ExifTags, Image
from tifffile import PHOTOMETRIC

from pointsense.errors import DataError, UsageError

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""What is looked for in folders. A file named explicitly is recognised by its content."""

# Fields of tens of thousands of pixels are normal here, and the files are the user's own.
Image.MAX_IMAGE_PIXELS = None

TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PNG_MARK = b"\x89PNG\r\n\x1a\n"
PNG_COLOUR_WITH_SIXTEEN_BITS = (b"\x10\x02", b"\x10\x04", b"\x10\x06")  # bit depth, colour type
PLAIN_MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I;16L", "I", "F")
ALPHA = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)

HIGHEST = 1e33
"""Of floats: brought to the range of whole numbers they are to stay below what float32 holds."""

Array = npt.NDArray[Any]


def read_image(path: Path | str) -> Array:
    """Read a PNG, JPEG, TIFF or BMP file.

    Numbers stay as they are stored: nothing is rescaled. Palettes become RGB, bilevel images 0 and 255; an
    alpha channel is dropped (with a warning in the log where it is not opaque everywhere: what lies under
    transparent pixels is not defined). Of a JPEG with several pictures the first is read. Orientation tags
    are not applied, which is logged: points are meant in the stored rows and columns.

    Returns
    -------
    (H, W, C) array of uint8, uint16 or float32.

    Raises
    ------
    DataError
        If the file is missing, empty, truncated, of another format, CMYK, has more than one page, or holds
        NaN, infinities or whole numbers beyond 16 bits.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(26)
    except OSError as error:
        raise DataError(f"cannot read the image {path}: {error.strerror or error}") from error
    if not start:
        raise DataError(f"the image {path} is empty (0 bytes); copy it again")
    try:
        image = _read_tiff(path) if start[:4] in TIFF_MARKS else _read_with_pillow(path, start)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever the damaged bytes lead them to
        raise DataError(f"cannot read the image {path}: {error}; it is damaged or truncated") from error
    return with_known_dtype(path, image)


def _read_with_pillow(path: Path, start: bytes) -> Array:
    if start[:8] == PNG_MARK and start[24:26] in PNG_COLOUR_WITH_SIXTEEN_BITS:
        raise DataError(  # Pillow keeps the upper 8 bits and says nothing
            f"{path} is a PNG with colour or alpha at 16 bits, of which 8 would be lost; save it as TIFF"
        )
    try:
        image = Image.open(path, formats=("PNG", "JPEG", "BMP"))
    except Image.UnidentifiedImageError as error:
        raise DataError(
            f"{path} is not a PNG, JPEG, TIFF or BMP image, or its start is damaged: convert it, or copy it again"
        ) from error
    with image:
        if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
            raise _too_many_planes(path, f"{image.n_frames} frames")  # type: ignore[attr-defined]
        return _from_pillow(path, image)


def _from_pillow(path: Path, image: Image.Image) -> Array:
    if image.mode == "CMYK":
        raise _cmyk(path)
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "PA":
        image = image.convert("RGBA")
    elif image.mode not in PLAIN_MODES:
        raise DataError(
            f"{path} has the colour mode {image.mode}; convert it to RGB or grey and save it again"
        )
    _warn_if_turned(path, image.getexif().get(ExifTags.Base.Orientation, 1))
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[:, :, None]
    return _without_alpha(path, array) if image.mode in ("LA", "RGBA") else array


def _orientation(page: Any) -> int:
    return int(page.tags.valueof("Orientation", 1))


def _warn_if_turned(path: Path, orientation: int) -> None:
    if orientation != 1:
        log.warning(
            "%s: a tag asks viewers to turn the image; points are in its rows and columns as they are stored, "
            "save it turned if that is not meant",
            path,
        )


def _read_tiff(path: Path) -> Array:
    with tifffile.TiffFile(path) as tiff:
        if len(tiff.series) != 1:
            raise _too_many_planes(path, f"{len(tiff.pages)} pages")
        series = tiff.series[0]
        page: Any = series.keyframe
        _assert_complete(path, tiff)
        if page.photometric == PHOTOMETRIC.SEPARATED:
            raise _cmyk(path)
        axes = [
            pair for pair in zip(series.axes, series.shape, strict=True) if pair[1] > 1 or pair[0] in "YX"
        ]
        order = _row_column_channel(path, axes)
        if ("C", 3) in axes and page.photometric != PHOTOMETRIC.RGB:
            log.warning(  # without its name, so that a folder of such images is told of once
                "images of three channels (axis C) are taken for red, green and blue; to find objects in one channel "
                "of fluorescence alone, save it as an image of its own"
            )
        if page.photometric == PHOTOMETRIC.YCBCR:
            return _read_tiff_with_pillow(path, series)
        try:
            array = np.asarray(series.asarray())
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            return _read_tiff_with_pillow(path, series)
        _warn_if_turned(path, _orientation(page))
        palette = page.colormap if page.photometric == PHOTOMETRIC.PALETTE else None
    array = array.reshape([size for _, size in axes]).transpose(order)
    array = array if array.ndim == 3 else array[:, :, None]

    if palette is not None:
        return (np.moveaxis(palette, 0, -1)[array[:, :, 0]] >> 8).astype(np.uint8)
    if page.photometric not in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.RGB):
        raise DataError(f"{path} has the colour space {page.photometric.name}; convert it to RGB or grey")
    if page.photometric == PHOTOMETRIC.MINISWHITE and array.dtype.kind in "bu":
        array = ~array
    has_alpha = any(kind in ALPHA for kind in page.extrasamples)
    if page.photometric == PHOTOMETRIC.RGB and array.shape[2] == 4:
        has_alpha = True  # an unnamed fourth sample of colours
    return _without_alpha(path, array) if has_alpha and ("S", array.shape[2]) in axes else array


def _row_column_channel(path: Path, axes: list[tuple[str, int]]) -> tuple[int, ...]:
    """The permutation that brings the named axes into the order row, column, channel."""
    names = "".join(name for name, _ in axes)
    for wanted in ("YX", "YXS", "YXC"):
        if sorted(names) == sorted(wanted):
            return tuple(names.index(name) for name in wanted)
    shape = tuple(size for _, size in axes)
    planes = math.prod(size for name, size in axes if name not in "YXS")
    raise _too_many_planes(path, f"{planes} pages (axes {names}, shape {shape})")


def _assert_complete(path: Path, tiff: tifffile.TiffFile) -> None:
    """tifffile fills what is missing with zeros in some layouts; an unfinished copy is an error here."""
    size = tiff.filehandle.size
    for page in tiff.pages:
        ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
        if max(ends, default=0) > size:
            raise DataError(f"the image {path} is truncated ({size} bytes); copy it again")


def _read_tiff_with_pillow(path: Path, series: Any) -> Array:
    """What tifffile decodes only with imagecodecs (LZW, JPEG): by Pillow where it keeps all bits."""
    page = series.keyframe
    if _orientation(page) != 1:  # Pillow turns a TIFF by itself
        raise DataError(
            f"{path} has a tag that asks viewers to turn it, and is compressed with {page.compression.name}; save it "
            "turned, or uncompressed or with deflate, or install imagecodecs"
        )
    channels = []
    with Image.open(path, formats=("TIFF",)) as image:
        for one in series.pages:
            image.seek(one.index)
            channels.append(_from_pillow(path, image))
    array = np.concatenate(channels, axis=2)
    if array.dtype.newbyteorder("=") != page.dtype.newbyteorder("="):
        raise DataError(
            f"{path} is compressed with {page.compression.name} at {page.dtype}; "
            "save it uncompressed or with deflate, or install imagecodecs"
        )
    return array


def _without_alpha(path: Path, array: Array) -> Array:
    alpha = array[:, :, -1]
    opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind == "u" else 1
    if alpha.min() < opaque:
        log.warning(
            "%s: transparent pixels; the alpha channel is dropped, the colours below it are used", path
        )
    return array[:, :, :-1]


def pixels_of(image: Any, name: str) -> Array:
    """What a caller gives as an image, (H, W) or (H, W, C), as `read_image` would give it.

    Raises
    ------
    UsageError
        If it is a path.
    DataError
        If it is of another shape, or its numbers do not fit.
    """
    if isinstance(image, str | Path):
        raise UsageError(f"expected the pixels of an image, found a path: give read_image({str(image)!r})")
    array = np.asarray(image)
    if array.ndim not in (2, 3) or not array.size:
        raise DataError(f"{name} has the shape {array.shape}; expected (H, W) or (H, W, channels), and no 0")
    return with_known_dtype(name, array if array.ndim == 3 else array[:, :, None])


def with_known_dtype(path: Path | str, array: Array) -> Array:
    """An array of any numbers as uint8, uint16 or float32; `path` is what messages call it.

    Raises
    ------
    DataError
        If its numbers do not fit, or are no numbers.
    """
    what = str(path) if str(path).startswith("the image") else f"the image {path}"
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f":
        if bad := np.count_nonzero(~np.isfinite(array)):
            raise DataError(f"{what} holds {bad} NaN or infinite values; replace them and save it again")
        if float(np.abs(array).max(initial=0)) > HIGHEST:
            raise DataError(f"{what} holds numbers beyond {HIGHEST:g}; rescale them and save it again")
        return np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype.kind not in "iu":
        raise DataError(f"{what} has {array.dtype} pixels; save it with 8 or 16 bits, or as float")
    if array.dtype not in (np.uint8, np.uint16):
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > np.iinfo(np.uint16).max:
            raise DataError(
                f"{what} has {array.dtype} pixels from {low} to {high}; expected 0 to 65535: "
                "save it with 8 or 16 bits"
            )
        array = array.astype(np.uint16)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def _cmyk(path: Path) -> DataError:
    return DataError(f"{path} is a CMYK image, made for printing; convert it to RGB and save it again")


def _too_many_planes(path: Path, found: str) -> DataError:
    return DataError(
        f"{path} holds {found}, expected one image; save each as a file of its own "
        "(channels of one image: as the last axis, or with their axis named C in the metadata)"
    )
