"""The input contract: what a model was trained on, and how any image is brought to it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pointsense.errors import DataError
from pointsense.images.bands import converted
from pointsense.images.levels import (
    FAINTEST,
    MOST_CHANGE,
    are_unlike,
    common_levels,
    own_levels,
    pixels_at,
    sampled,
    strong_stains,
)

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
"""Rec. 601 weights of red, green and blue."""

CLIP = (-0.5, 2.0)
"""Inputs beyond these, in units of white minus black, carry no more information than the bounds."""

MOST_BEYOND = 0.5
"""Share of an image beyond these from which on it is said that it is on another scale."""

Dtype = Literal["uint8", "uint16", "float32"]
DTYPES: tuple[Dtype, ...] = ("uint8", "uint16", "float32")

FEWEST = 64.0
"""Least contrast that is stretched, in counts, of an image of more bits than the training's: it may use few of them."""

Levels = Literal["fixed", "image"]


class InputContract(BaseModel):
    """Channels, number type, black and white levels of the images that a model was trained on.

    It is stored with the weights, so that a crop, a slide and another person's file go through the same
    numbers.

    Attributes
    ----------
    channels : int
        Channels of the model's input; grey and RGB are converted into each other, nothing else.
    dtype : "uint8", "uint16" or "float32"
        Number type of the training images.
    low, high : tuple of float, one per channel
        Levels, in the numbers of `dtype`, that become 0 and 1.
    levels : "fixed" or "image"
        With "image" each image has levels of its own, its 1 and 99.8 percentiles over all channels, or a higher white
        where few objects are bright in a large field. They are those of the whole image, whatever its tiles; a crop of
        it may have others.
    colour_alone : bool
        Whether all training images but blank ones had colours; grey ones are then strange to the model.
    stains : tuple of float, empty or one per channel
        Optical densities that the strong stains of each bright RGB image are brought to; empty: they stay as they are.
        An image's own are those of the whole image, whatever its tiles; a crop of it may have others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: int = Field(ge=1)
    dtype: Dtype
    low: tuple[float, ...]
    high: tuple[float, ...]
    levels: Levels = "fixed"
    colour_alone: bool = False
    stains: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> InputContract:
        if not len(self.low) == len(self.high) == self.channels:
            raise ValueError(f"low and high must have one level for each of the {self.channels} channels")
        if not all(
            low < high < np.inf and low > -np.inf for low, high in zip(self.low, self.high, strict=True)
        ):
            raise ValueError("each low must be below its high, and both finite")
        if self.stains and (
            len(self.stains) != self.channels or not all(0 < d < np.inf for d in self.stains)
        ):
            raise ValueError(f"stains must be {self.channels} positive densities, or none")
        return self

    @classmethod
    def from_images(
        cls,
        images: Iterable[Array],
        points: Sequence[Array] = (),
        levels: Levels | None = None,
        *,
        stains: bool = False,
    ) -> InputContract:
        """The contract that training images of shape (H, W, C), as `read_image` gives them, imply.

        8-bit images keep 0 and 255 as their levels, as cameras and scanners meant them. For 16-bit and float
        images the levels are the 0.1 and 99.9 percentiles of each channel over all images (of at most
        32,768 pixels an image, drawn with a fixed seed); white is higher where it would clip annotated `points`, (N, 2)
        for each image. Grey among RGB images counts as RGB, 8 bits among
        16 as 16. Unless `levels` are given, images have levels of their own where their contrasts are unlike:
        where they differ by more than a factor of 2, the tenth of the images at either end, and empty ones, left out.
        With `stains` those of each image are brought to the mean of the bright RGB images, where there are any and the
        levels are fixed.

        Raises
        ------
        DataError
            If there is no image, or channel counts or number types cannot be brought together.
        """
        generator, samples, at_points = np.random.default_rng(0), [], []
        for k, image in enumerate(images):
            samples.append(sampled(image, generator))
            if k < len(points) and len(points[k]):
                at_points.append(pixels_at(image, points[k]))
        if not samples:
            raise DataError("no training image: expected at least one to learn the input contract from")

        counts = {sample.shape[1] for sample in samples}
        if len(counts) > 1 and counts != {1, 3}:
            raise DataError(
                f"the training images have {_listed(sorted(counts))} channels; expected one count for all, "
                "or grey and RGB: leave out or convert the others"
            )
        channels = max(counts)
        kinds = {str(sample.dtype) for sample in samples}
        if "float32" in kinds and len(kinds) > 1:
            raise DataError(
                f"the training images are of the types {_listed(sorted(kinds))}; expected whole numbers or "
                "floats throughout: convert one of the two"
            )
        seen = [s for s in samples if np.ptp(s) > 0]  # blank ones are of no colour
        colour_alone = bool(seen) and all(s.shape[1] == 3 and not (s[:, :1] == s).all() for s in seen)
        dtype: Dtype = max((kind for kind in DTYPES if kind in kinds), key=DTYPES.index)
        levels = levels or ("image" if are_unlike([_rescaled(s, dtype) for s in samples]) else "fixed")
        if dtype == "uint8":
            low, high = np.zeros(channels), np.full(channels, 255.0)
        else:

            def pooled(parts: Sequence[Array]) -> Array:
                same = [np.broadcast_to(_rescaled(part, dtype), (len(part), channels)) for part in parts]
                return np.concatenate([np.empty((0, channels), np.float32), *same])

            low, high = common_levels(pooled(samples), pooled(at_points))
        contract = cls(
            channels=channels,
            dtype=dtype,
            low=tuple(low.tolist()),
            high=tuple(high.tolist()),
            levels=levels,
            colour_alone=colour_alone,
        )
        return contract._with_stains_of(samples) if stains else contract

    def _with_stains_of(self, samples: Sequence[Array]) -> InputContract:
        """The contract that brings stains to the mean of these images, of which there are pixels (N, C) each."""
        seen = [] if self.levels == "image" else [self._stains_of(sample) for sample in samples]
        found = [one for one in seen if one is not None]
        if not found:
            log.warning(
                "no training image is RGB tissue on a bright ground with fixed levels: there are no stains to bring to "
                "one strength (stains=true changes nothing)"
            )
            return self
        return self.model_copy(update={"stains": tuple(np.mean(found, axis=0).tolist())})

    def check(self, image: Array, name: str = "the image") -> None:
        """Fail, or warn in the log, where `image` (H, W, C) does not keep the contract.

        Raises
        ------
        DataError
            If the channel count is another and not grey against RGB, or, unless each image has levels of its own, a
            float image meets a model of whole-number images (or the reverse) without lying in [0, 1].
        """
        found = image.shape[2]
        if found != self.channels and {found, self.channels} != {1, 3}:
            raise DataError(
                f"{name} has {_plural(found, 'channel')}, the model was trained on "
                f"{_plural(self.channels, 'channel')}; only grey and RGB are converted: "
                "choose the channels, or a model trained on such images"
            )
        kind = str(image.dtype)
        if kind == self.dtype or self.levels == "image":
            return
        if kind == "float32":
            low, high = float(image.min()), float(image.max())
            if low < 0 or high > 1:
                raise DataError(
                    f"{name} is a float image from {low:.4g} to {high:.4g}, the model was trained on "
                    f"{self.dtype}; expected floats in [0, 1], or save it as {self.dtype}"
                )
        elif self.dtype == "float32":
            if min(self.low) < 0 or max(self.high) > 1:
                raise DataError(
                    f"{name} is {kind}, the model was trained on float images with levels from "
                    f"{min(self.low):.4g} to {max(self.high):.4g}; save it as float32 on that scale"
                )
        elif (brightest := int(image.max())) < (np.iinfo(image.dtype).max + 1) / 8:
            log.warning(
                "%s: its maximum is %d of %d, as of a %d-bit image; it will look dark to the model "
                "(trained on %s): rescale it to the full range of its type",
                name,
                brightest,
                np.iinfo(image.dtype).max,
                brightest.bit_length(),
                self.dtype,
            )

    def _warn_if_beyond(self, image: Array, name: str) -> None:
        """Say in the log where most of `image` (H, W, C) lies beyond what a model of fixed levels tells apart."""
        if self.levels == "image" or self.dtype == "uint8":  # whose levels are the whole range
            return
        values = self._converted(sampled(image, np.random.default_rng(0))[None])
        share = (values - np.array(self.low)) / np.subtract(self.high, self.low)
        # Darker than black is next to none of the training's pixels.
        if np.mean((share < 0) | (share > CLIP[1])) > MOST_BEYOND:
            log.warning(
                "%s: most of it is darker or brighter than anything that the model tells apart (black %s, white %s of "
                "%s): bring it to the scale of the training images",
                name,
                *(_listed(f"{level:.4g}" for level in levels) for levels in (self.low, self.high)),
                self.dtype,
            )

    def warn_if_grey(self, image: Array, name: str) -> None:
        """Say in the log where `image` (H, W, C) has no colour, nor is blank, and all of the training's had some."""
        if self.colour_alone and (image[..., :1] == image).all() and np.ptp(image) > 0:
            log.warning(
                "%s is grey, the model has seen colours alone: look whether its points are right", name
            )

    def _levels_of(self, image: Array) -> tuple[Array, Array]:
        """What becomes 0 and 1 in an image (H, W, C), in the numbers of `dtype`."""
        low, high = (np.array(level, np.float32) for level in (self.low, self.high))
        if self.levels == "fixed":
            return low, high
        sample = sampled(image, np.random.default_rng(0))[None]
        black, white = own_levels(self._converted(sample), self._converted(image[::2, ::2]))
        contrast = float((high - low).max())
        # Floats of the training may reach further than an image's full range.
        if str(image.dtype) != self.dtype:
            contrast = min(contrast, _full_range(self.dtype))
        least = FAINTEST * contrast
        if str(image.dtype) == "uint16" and self.dtype != "uint16":
            least = FEWEST * _full_range(self.dtype) / _full_range("uint16")
        return np.array(black, np.float32), np.array(max(white, black + least), np.float32)

    def apply(self, image: Array, name: str = "the image") -> npt.NDArray[np.float32]:
        """The model's input for an image.

        Whole numbers of another width and floats in [0, 1] are brought to `dtype` by their full range, RGB to
        grey by luminance (Rec. 601), grey to RGB by repetition; then black (`low`) becomes 0, white (`high`)
        1, and what lies outside [-0.5, 2] is clipped. Where the image's stains are brought to another strength, what
        is brighter than 1 is white.

        Parameters
        ----------
        image : (H, W, C) array of uint8, uint16 or float32
            As `read_image` gives it.
        name : str
            What messages call the image.

        Returns
        -------
        (channels, H, W) float32

        Raises
        ------
        DataError
            See `check`.
        """
        self.check(image, name)
        self._warn_if_beyond(image, name)
        levels, powers = self._levels_of(image), self._powers_of(image)

        def as_input(part: Array) -> npt.NDArray[np.float32]:
            values = np.moveaxis(self._levelled(part, *levels), 2, 0)
            if powers is not None:
                np.clip(values, 1 / 255, 1, out=values)
                np.power(values, powers.reshape(-1, 1, 1), out=values)
            return values

        return converted(image, self.channels, as_input)

    def _powers_of(self, image: Array) -> npt.NDArray[np.float32] | None:
        """To which the channels of an image (H, W, C) are raised, which multiplies its densities; None: to none."""
        if not self.stains:
            return None
        own = self._stains_of(sampled(image, np.random.default_rng(0)))
        if own is None:
            return None
        return np.clip(np.array(self.stains) / own, 1 / MOST_CHANGE, MOST_CHANGE).astype(np.float32)

    def _stains_of(self, pixels: Array) -> Array | None:
        """The strong stains of an image by pixels (N, C) of it, where levels are fixed."""
        return strong_stains(self._levelled(pixels[None], *self._levels_of(pixels[None]))[0])

    def _levelled(self, image: Array, low: Array, high: Array) -> npt.NDArray[np.float32]:
        """An image (H, W, C) with the contract's channels, `low` made 0 and `high` 1."""
        values = self._converted(image)
        values -= low
        values /= high - low
        return np.clip(values, *CLIP, out=values)

    def _converted(self, image: Array) -> npt.NDArray[np.float32]:
        """An image (H, W, C) with the contract's channels and in the numbers of its `dtype`."""
        values = _rescaled(image, self.dtype)
        if self.channels == 1 and values.shape[2] == 3:
            return (values @ LUMINANCE)[:, :, None]
        return np.repeat(values, 3, axis=2) if self.channels == 3 and values.shape[2] == 1 else values


def _full_range(dtype: str) -> float:
    return {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}[dtype]


def _rescaled(image: Array, dtype: str) -> npt.NDArray[np.float32]:
    """The image as float32 in the numbers of `dtype`."""
    values = image.astype(np.float32)
    if str(image.dtype) != dtype:
        values *= np.float32(_full_range(dtype) / _full_range(str(image.dtype)))
    return values


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _listed(values: Iterable[object]) -> str:
    return " and ".join(str(value) for value in values)
