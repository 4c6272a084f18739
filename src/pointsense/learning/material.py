"""What is learned from and chosen on: images, seen to be what a training needs, and to fit in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pointsense.datasets import Sample
from pointsense.errors import DataError, UsageError
from pointsense.images import InputContract
from pointsense.learning.crops import Field, fields_of, images_of, read_checked
from pointsense.learning.selection import Selection
from pointsense.model.classes import PointClass
from pointsense.model.config import Config

PIXEL = 2
"""Bytes of a channel of a pixel that is learned from, float16."""


def prepare(
    fit: Sequence[Sample],
    select: Sequence[Sample],
    classes: Sequence[PointClass],
    config: Config,
    contract: InputContract | None = None,
) -> tuple[InputContract, list[Field], Selection | None]:
    """The contract that the images to fit imply, these in working px, and the selection part.

    The images to fit are read twice, for the contract and for the fields: as they are read they need not be kept.

    Parameters
    ----------
    fit, select : sequences of Sample
    classes : sequence of PointClass
    config : Config
        With scale set.
    contract : InputContract, optional
        Of a training before, whose choices are kept: nothing is chosen.

    Raises
    ------
    DataError
        If an image cannot be read or does not fit to the others, points lie outside of theirs, or all is more than the
        machine's memory.
    UsageError
        If the match radius is that of an object larger than the images.
    """
    shapes: list[tuple[int, ...]] = []

    def images() -> Iterator[npt.NDArray[Any]]:
        for image in images_of(fit):
            shapes.append(image.shape)
            yield image

    if contract is None:
        contract = InputContract.from_images(
            images(), [sample.points for sample in fit], stains=config.stains
        )
        chosen_on = read_checked(select)
        for sample, image in zip(select, chosen_on, strict=True):
            contract.check(image, sample.name)
        selection = Selection(select, chosen_on, classes)
    else:
        for _ in images():
            pass  # to see that they are right
        selection, chosen_on = None, []
    side = max(max(shape[:2]) for shape in shapes)
    if far := [kind for kind in classes if 2 * kind.radius > side]:
        raise UsageError(
            f"the match radius is {far[0].radius:g} px, that of an object larger than the images ({side} px): give "
            "--radius in px of the images"
        )
    require_memory(shapes, contract.channels, config, sum(image.nbytes for image in chosen_on))
    names = [kind.name for kind in classes]
    return contract, fields_of(fit, images_of(fit), contract, config.scale, names), selection


def require_memory(
    shapes: Sequence[tuple[int, ...]], channels: int, config: Config, chosen_on: int = 0
) -> None:
    """Fail where images of these shapes (H, W, ...), as they are learned from, are more than the memory.

    `chosen_on` are the bytes of those of the selection part, which are kept as they are.

    Else the system ends a training without a word, that of a second look after hours.

    Raises
    ------
    DataError
    """
    total = memory()
    pixels = sum(int(np.prod(shape[:2], dtype=np.int64)) for shape in shapes)
    needed = PIXEL * channels * pixels * (config.scale**2 + bool(config.look)) + chosen_on
    if total is not None and needed > total:
        raise DataError(
            f"{len(shapes)} training images take {needed / 1e9:.1f} GB of memory as they are learned from, and this "
            f"machine has {total / 1e9:.1f} GB: cut out the parts that are annotated, or take fewer "
            "(--max-train-images N)"
        )


def memory() -> int | None:
    """Bytes of the machine's memory, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
