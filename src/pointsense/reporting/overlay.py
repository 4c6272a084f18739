"""Detections drawn on the image: found cells, misses and false alarms, told apart by shape and colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pointsense import colours
from pointsense.evaluation.match import Match
from pointsense.images.levels import sampled
from pointsense.writing import replacing

SMALLEST_SIDE = 576  # px; smaller images are enlarged, so that the marks do not hide the cells
LARGEST_SIDE = 2400  # px; no image is enlarged beyond it
LEGEND_TEXT = 16  # px

SHOWN = (0.1, 99.8)
"""Percentiles that become black and white where an image is stretched."""

DARK = 96
"""Of 8 bits: an image whose upper percentile of these is lower is too dark to see anything on."""


def draw_overlay(
    image: np.ndarray | Image.Image,
    detections: np.ndarray,
    truth: np.ndarray | None = None,
    match: Match | None = None,
    *,
    classes: np.ndarray | None = None,
    known: Sequence[str] = (),
    radius: float | Mapping[str, float] = 6.0,
) -> Image.Image:
    """Draw points on an image, with a legend that counts them below it.

    Found cells are circles, misses squares, false alarms crosses and the annotated positions dots. Without
    `truth` all detections are plain circles. Detections that the protocol ignores (a second one on a cell)
    are plain circles too.

    Parameters
    ----------
    image : (h, w) or (h, w, channels) array
        As `as_rgb` shows it; or a picture, as it is.
    detections : (K, 2) float array
        Detected points (y, x), px.
    truth : (N, 2) float array, optional
        Annotated points (y, x), px; needs `match`.
    match : Match, optional
        How the two were matched.
    classes : (K,) array of str, optional
        Class of each detection, told apart by colour where there is no `truth`.
    known : sequence of str
        All classes that there may be, so that each has the same colour in every picture.
    radius : float, or mapping of class name to float
        Radius of the marks in px of the image; the match radius is a good choice. With `truth` a number.
    """
    picture, scale = _enlarged(image)
    draw = ImageDraw.Draw(picture)
    width = max(2, round(picture.width / 400))
    at_scale = _scaled(detections, scale)
    legend = []

    def reach_of(name: str = "") -> float:
        return max((radius[name] if isinstance(radius, Mapping) else radius) * scale, 5.0)

    if truth is None or match is None:
        names = np.full(len(at_scale), "") if classes is None else np.asarray(classes)
        for name, colour in colours.of_classes(
            names.tolist(), known or ([""] if not len(names) else ())
        ).items():
            for point in at_scale[names == name]:
                _circle(draw, point, reach_of(name), colour, width)
            legend.append(
                (
                    "circle",
                    colour,
                    f"{np.sum(names == name)} {name}" if name else _counted(len(at_scale), "detection"),
                )
            )
    else:
        cells, reach = _scaled(truth, scale), reach_of()
        hits = at_scale[match.pairs[:, 1]]
        alarms = at_scale[match.false_alarms]
        ignored = np.setdiff1d(
            np.arange(len(at_scale)), np.concatenate([match.pairs[:, 1], match.false_alarms])
        )
        for point in at_scale[ignored]:
            _circle(draw, point, reach, colours.DETECTION, width)
        for point in hits:
            _circle(draw, point, reach, colours.HIT, width)
        for point in cells[match.missed]:
            _square(draw, point, reach, colours.MISS, width)
        for point in alarms:
            _cross(draw, point, reach, colours.FALSE_ALARM, width)
        for point in cells:
            _dot(draw, point, max(2.0, reach / 6), colours.TRUTH)
        legend = [
            ("dot", colours.TRUTH, f"{len(cells)} annotated"),
            ("circle", colours.HIT, f"{len(hits)} found"),
            ("square", colours.MISS, f"{match.false_negatives} missed"),
            ("cross", colours.FALSE_ALARM, _counted(len(alarms), "false alarm")),
        ]
        if len(ignored):
            legend.append(("circle", colours.DETECTION, f"{len(ignored)} ignored"))
    return _with_legend(picture, legend)


def write_overlay(
    path: Path,
    image: np.ndarray,
    detections: np.ndarray,
    classes: np.ndarray | None = None,
    *,
    known: Sequence[str] = (),
    radius: float | Mapping[str, float] = 6.0,
) -> None:
    """Write `image` with circles around the `detections` (K, 2), coloured by class, as a PNG; see `draw_overlay`."""
    picture = draw_overlay(image, detections, classes=classes, known=known, radius=radius)
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Return the image (h, w) or (h, w, channels) as (h, w, 3) uint8, so that one sees what is in it.

    Grey is repeated; of two channels, or more than three, the brightest at each pixel is shown. Numbers other than
    uint8, dark images, and channels that become one, each by itself, are stretched between their `SHOWN` percentiles,
    which are those of pixels drawn from a large image.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    merged = image.shape[2] not in (1, 3)
    drawn = np.nan_to_num(sampled(image, np.random.default_rng(0)).astype(np.float64))
    if merged or image.dtype != np.uint8 or np.percentile(drawn, SHOWN[1]) < DARK:
        values = np.nan_to_num(image.astype(np.float64))
        low, high = np.percentile(drawn, SHOWN, axis=0 if merged else None)
        flat, each = high <= low, (0, 1) if merged else None  # flat but for few pixels
        low, high = np.where(flat, values.min(axis=each), low), np.where(flat, values.max(axis=each), high)
        shown = np.clip((values - low) / np.where(high > low, high - low, 1.0), 0, 1)
        image = np.round(255 * shown).astype(np.uint8)
    image = image.max(axis=2, keepdims=True) if merged else image
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _enlarged(image: np.ndarray | Image.Image) -> tuple[Image.Image, int]:
    picture = image if isinstance(image, Image.Image) else Image.fromarray(as_rgb(image))
    scale = max(1, min(round(SMALLEST_SIDE / min(picture.size)), LARGEST_SIDE // max(picture.size)))
    size = (picture.width * scale, picture.height * scale)
    return (picture.resize(size, Image.Resampling.BICUBIC) if scale > 1 else picture), scale


def _scaled(points: np.ndarray, scale: int) -> np.ndarray:
    """Return points (K, 2) (y, x) of the enlarged image: pixel centres move with the pixel's corner."""
    return (np.asarray(points, dtype=np.float64).reshape(-1, 2) + 0.5) * scale - 0.5


def _circle(draw: ImageDraw.ImageDraw, point: np.ndarray, reach: float, colour: str, width: int) -> None:
    draw.ellipse(_box(point, reach), outline=colour, width=width)


def _square(draw: ImageDraw.ImageDraw, point: np.ndarray, reach: float, colour: str, width: int) -> None:
    draw.rectangle(_box(point, reach), outline=colour, width=width)


def _cross(draw: ImageDraw.ImageDraw, point: np.ndarray, reach: float, colour: str, width: int) -> None:
    left, top, right, bottom = _box(point, 0.75 * reach)
    draw.line((left, top, right, bottom), fill=colour, width=width + 1)
    draw.line((left, bottom, right, top), fill=colour, width=width + 1)


def _dot(draw: ImageDraw.ImageDraw, point: np.ndarray, reach: float, colour: str) -> None:
    draw.ellipse(_box(point, reach), fill=colour, outline="black")


def _box(point: np.ndarray, reach: float) -> tuple[float, float, float, float]:
    y, x = float(point[0]), float(point[1])
    return x - reach, y - reach, x + reach, y + reach


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _with_legend(picture: Image.Image, entries: list[tuple[str, str, str]]) -> Image.Image:
    """Return the picture with a dark strip below it: a mark and a text for each entry, wrapped."""
    size = max(LEGEND_TEXT, picture.width // 60)
    font = ImageFont.load_default(size)
    line = round(2.0 * size)
    places, x, y = [], size, 0
    for _, _, text in entries:
        wide = round(1.8 * size + font.getlength(text) + 1.2 * size)
        if x + wide > picture.width and x > size:
            x, y = size, y + line
        places.append((x, y))
        x += wide
    whole = Image.new("RGB", (picture.width, picture.height + y + line), "#1b1b1b")
    whole.paste(picture, (0, 0))
    draw = ImageDraw.Draw(whole)
    for (mark, colour, text), (left, top) in zip(entries, places, strict=True):
        middle = picture.height + top + line / 2
        centre = np.array([middle, left + 0.55 * size])
        if mark == "dot":
            _dot(draw, centre, size / 4, colour)
        else:
            shapes = {"circle": _circle, "square": _square, "cross": _cross}
            shapes[mark](draw, centre, size / 2, colour, max(2, size // 8))
        draw.text((left + 1.8 * size, middle), text, fill="#f2f2f2", font=font, anchor="lm")
    return whole
