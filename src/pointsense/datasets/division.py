"""Training images divided into those to fit and those to choose on, as `train` and `val` are."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pointsense.datasets.dataset import Sample
from pointsense.errors import DataError

log = logging.getLogger(__name__)

DRAWS = 64
"""Random orders of the groups among which the most even division is taken."""

FAR_OFF = 1.5
"""Times as many images as wanted from which on a division is improved image by image, or group by group."""

Unit = tuple[bool, str]
"""What is drawn as a whole: an image (True) or a group, by its name."""


def units_of(samples: Sequence[Sample], val: Sequence[Sample] = ()) -> list[Unit]:
    """Of each sample the unit that it is drawn with: its group, or itself if the group is in `val`, or the only one.

    Where most of `val` is of groups of the samples, so is what a model is for: all are drawn by image.
    """
    groups, seen = {s.group for s in samples}, Counter(s.group for s in val)
    known = sum(count for group, count in seen.items() if group in groups)
    all_by_image = len(groups) == 1 or 2 * known > seen.total()
    return [(True, s.name) if all_by_image or s.group in seen else (False, s.group) for s in samples]


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
    units = units_of(samples, val)
    each = "training images" if len(set(units)) == len(samples) else "groups of training images"
    for k, name in enumerate(classes):
        filled = {unit for s, unit in zip(samples, units, strict=True) if any(s.labels(classes) == k)}
        if len(filled) < 2:
            raise DataError(
                f"points{f' of the class {name}' if name else ''} are in {len(filled)} of the {len(set(units))} "
                f"{each}; expected at least two, one to fit "
                "and one to select on: annotate more images"
            )


def draw_selection(
    samples: Sequence[Sample],
    fraction: float,
    seed: int,
    val: Sequence[Sample] = (),
    classes: Sequence[str] = ("",),
) -> tuple[list[Sample], list[Sample]]:
    """Samples to fit and samples to select on, divided as `train` and `val` are: what is chosen is to hold there.

    No group is in both parts, unless it is in `val`, too, or most of `val` is of known groups, or all images are of
    one: then the images themselves are drawn, some of each such group, and the log says so. Of several random
    divisions the one is taken whose selection part holds most nearly the fraction of the images, of the points of each
    class, and of each group whose images are drawn: by chance alone it may be almost without points. Where classes are
    so rare that none of these divisions has points of each on both sides and about the fraction of the images, the
    best is improved unit by unit.

    Raises
    ------
    DataError
        If there are fewer than two images, or points of a class are in too few groups to have them in both parts.
    """
    check_both_parts(samples, val, classes)
    units = units_of(samples, val)
    _warn_if_drawn_by_image(samples, val)
    names = sorted(set(units))
    parts = _parts_of(samples, units, names, classes)
    points = parts[1]
    generator = np.random.default_rng([seed, 7])
    best, chosen = np.inf, np.zeros(0, dtype=int)
    for _ in range(DRAWS):
        order = generator.permutation(len(names))
        uneven = 0.0
        for part in parts:
            share = np.cumsum(part[order], axis=0) / part.sum(axis=0)
            uneven = uneven + np.abs(share - fraction).mean(axis=1)
            if part is points:  # they are needed on both sides
                uneven[((share == 0) | (share == 1)).any(axis=1)] = np.inf
        if (lowest := np.min(uneven)) < best:
            best, chosen = lowest, order[: int(np.argmin(uneven)) + 1]
    taken = np.zeros(len(names), dtype=bool)
    taken[chosen] = True
    if not len(chosen) or parts[0][taken].sum() > FAR_OFF * fraction * len(samples):
        taken = _improved(taken, parts, fraction)
    kinds = points[taken].sum(axis=0)
    if (kinds == 0).any() or (kinds == points.sum(axis=0)).any():
        raise DataError(
            f"no division of {len(names)} {'images' if all(image for image, _ in names) else 'groups'} was found that "
            "has points of each class to fit and to select on: annotate more images, or choose fewer classes with "
            "--class"
        )
    selected = {name for name, one in zip(names, taken, strict=True) if one}
    both: tuple[list[Sample], list[Sample]] = [], []
    for s, unit in zip(samples, units, strict=True):
        both[unit in selected].append(s)
    return both


def _warn_if_drawn_by_image(samples: Sequence[Sample], val: Sequence[Sample]) -> None:
    groups = {s.group for s in samples}
    if seen := groups & {s.group for s in val}:
        log.warning(
            "groups are in train and in val (%d of %d): images are drawn one by one for the selection part, too, which "
            "flatters as val does",
            len(seen),
            len(groups),
        )
    elif len(groups) == 1:
        log.warning("all training images are of one group: the selection part is drawn by image and flatters")


def _parts_of(
    samples: Sequence[Sample], units: Sequence[Unit], names: Sequence[Unit], classes: Sequence[str]
) -> list[npt.NDArray[np.float64]]:
    """Of each unit: its images (U, 1), its points by class (U, K), and its images by group that is divided (U, G)."""
    place = {unit: k for k, unit in enumerate(names)}
    divided = {s.group for s, (by_image, _) in zip(samples, units, strict=True) if by_image}
    groups = {group: k for k, group in enumerate(sorted(divided))}
    images, points = np.zeros((len(names), 1)), np.zeros((len(names), len(classes)))
    members = np.zeros((len(names), len(groups)))
    for s, unit in zip(samples, units, strict=True):
        labels = s.labels(classes)
        images[place[unit]] += 1
        points[place[unit]] += np.bincount(labels[labels >= 0], minlength=len(classes))
        if s.group in groups:
            members[place[unit], groups[s.group]] += 1
    return [images, points, *([members] if groups else [])]


def _improved(
    taken: npt.NDArray[np.bool_], parts: Sequence[npt.NDArray[np.float64]], fraction: float
) -> npt.NDArray[np.bool_]:
    """A division (U,) of which unit after unit changes sides, each time the one that makes it most even."""
    shares = [part / part.sum(axis=0) for part in parts]
    taken, before = taken.copy(), np.inf
    while True:
        sign = np.where(taken, -1.0, 1.0)[:, None]
        after = [
            share[taken].sum(axis=0) + sign * share for share in shares
        ]  # of each unit, were it to change
        uneven = sum(np.abs(share - fraction).mean(axis=1) for share in after)
        one_sided = (after[1] < 1e-9) | (after[1] > 1 - 1e-9)
        uneven = uneven + len(parts) * one_sided.sum(axis=1)
        k = int(np.argmin(uneven))
        if not uneven[k] < before - 1e-12:
            return taken
        before, taken[k] = uneven[k], ~taken[k]
