"""What training images are divided by into those to fit and those to choose on, and whether both can have points."""

from __future__ import annotations

from collections.abc import Sequence

from pointsense.datasets.dataset import Sample
from pointsense.errors import DataError


def drawn_by_image(samples: Sequence[Sample], val: Sequence[Sample] = ()) -> bool:
    """Whether images are drawn, not groups: all are of one group, or groups of `val` are among theirs."""
    groups = {s.group for s in samples}
    return len(groups) == 1 or bool(groups & {s.group for s in val})


def check_both_parts(
    samples: Sequence[Sample], val: Sequence[Sample] = (), classes: Sequence[str] = ("",)
) -> None:
    """See that points of each class can be in both parts.

    Raises
    ------
    DataError
        If there are fewer than two images, no point, or points of a class are in fewer than two of what is drawn.
    """
    if len(samples) < 2:
        raise DataError(
            f"expected at least two training images, one to fit and one to select on, found {len(samples)}"
        )
    if not any(len(sample.points) for sample in samples):
        raise DataError(
            "none of the training images has a point: annotate them, one line image,y,x of points.csv for each object"
        )
    by_image = drawn_by_image(samples, val)
    units = [s.name if by_image else s.group for s in samples]
    each = "training images" if len(set(units)) == len(samples) else "groups of training images"
    for k, name in enumerate(classes):
        filled = {unit for s, unit in zip(samples, units, strict=True) if any(s.labels(classes) == k)}
        if len(filled) < 2:
            raise DataError(
                f"points{f' of the class {name}' if name else ''} are in {len(filled)} of the {len(set(units))} "
                f"{each}; expected at least two, one to fit "
                "and one to select on: annotate more images"
            )
