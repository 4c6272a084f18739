"""The match radius: what a data set says of it, or a guess from how closely the points lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from pointsense.datasets.by_class import parse_by_class
from pointsense.datasets.dataset import Dataset
from pointsense.errors import DataError, UsageError

CROWDED = 20
"""Points in a typical image from which on neighbours may be taken to touch now and then."""

FAR_PX = 100.0
"""Median distance in pixels above which neighbours say more about the tissue than about an object's size."""

SHARE = 0.4
"""Of the median distance: below one half, so that the match circles of typical neighbours do not overlap."""

OF_MODEL = "the model's own"
"""Where a match radius comes from that a model was trained with."""


def nearest_distances(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distance in pixels of each of the distinct (K, 2) points to the nearest other one; none for K < 2."""
    points = np.unique(points, axis=0)
    if len(points) < 2:
        return np.zeros(0)
    return cKDTree(points).query(points, k=2)[0][:, 1]


def estimate_radius(dataset: Dataset) -> float | None:
    """Match radius in pixels from the spacing of the `train` points, or None where spacing cannot tell.

    The estimate is 0.4 times the median distance to the nearest neighbour. It stands for an object's size
    only in crowded fields, where neighbours often touch; of points strewn over a large field, at random,
    spacing tells the density and nothing else. Hence None unless a typical image with points holds at least
    20 of them and the median distance is at most 100 px.
    """
    counts = [len(sample.points) for sample in dataset.train if len(sample.points)]
    if not counts or np.median(counts) < CROWDED:
        return None
    distances = np.concatenate([nearest_distances(sample.points) for sample in dataset.train])
    if not len(distances) or (median := float(np.median(distances))) > FAR_PX:
        return None
    return round(SHARE * median, 1)


def parse_radii(texts: Sequence[str]) -> dict[str, float]:
    """Match radii in pixels by class, "" for all others, from texts `PX` and `CLASS=PX`.

    Raises
    ------
    UsageError
        If a text is neither, or says the same class again.
    """
    return parse_by_class(texts, "--radius", "a positive number of pixels, or CLASS=PX", least=0.0)


def known_radius(dataset: Dataset, class_name: str = "") -> float | None:
    """Match radius in pixels that `dataset.json` gives for a class, or for all points; None if it does not.

    Raises
    ------
    UsageError
        If no class is named and the classes that occur have different radii.
    """
    if class_name:
        return dataset.radius_px.get(class_name, dataset.radius_px.get(""))
    occurring = {name for sample in dataset.samples for name in sample.classes}
    radii = {name: radius for name, radius in sorted(dataset.radius_px.items()) if name in occurring}
    if len(set(radii.values())) > 1:
        listed = ", ".join(f"{name or 'no class'} {radius:g}" for name, radius in radii.items())
        raise UsageError(
            f"the classes of {dataset.root} have different match radii (px: {listed}); choose one class with "
            "--class, or one radius for all with --radius"
        )
    return next(iter(radii.values()), None)


def radii_of_classes(
    dataset: Dataset, names: Sequence[str], given: Sequence[str], of_model: Mapping[str, float] | None = None
) -> dict[str, tuple[float, str]]:
    """Match radius of each class in pixels, and where it comes from; see `parse_radii` and `match_radius`.

    A model of one class has one radius, whatever the class is called here.

    Raises
    ------
    UsageError
        See `match_radius`; also if a radius is given for a class that is none of `names`.
    """
    radii = parse_radii(given)
    if strange := [name for name in radii if name and name not in names]:
        known = ", ".join(filter(None, names)) or "not told apart; choose them with --class"
        raise UsageError(f"--radius names the class '{strange[0]}', but the classes here are: {known}")
    for name in filter(None, names):
        dataset.only(name)  # fails where no point is of that class
    own = dict(of_model or {})
    if len(own) == 1:
        own = dict.fromkeys(names, *own.values())
    return {name: match_radius(dataset, name, radii, of_model=own.get(name)) for name in names}


def match_radius(
    dataset: Dataset,
    class_name: str = "",
    given: float | Mapping[str, float] | None = None,
    *,
    of_model: float | None = None,
) -> tuple[float, str]:
    """Match radius in pixels, and where it comes from, as a phrase to print.

    In this order: `given`; that of `dataset.json`; `of_model`, the one that a model was trained with; an
    estimate from the spacing of the points (`estimate_radius`).

    Parameters
    ----------
    dataset : Dataset
    class_name : str
        The class whose points count; all points where it is empty.
    given : float, or mapping of class name to float, optional
        In pixels of the image; of a mapping that of the class counts, else that of "".
    of_model : float, optional
        In pixels of the image.

    Raises
    ------
    UsageError
        If `given` is not a positive number, the classes have different radii and none is chosen, or nothing
        tells the radius.
    DataError
        If it is to be estimated, and there is no point.
    """
    if isinstance(given, Mapping):
        given = given.get(class_name, given.get(""))
    if given is not None:
        if not 0 < given < math.inf:
            raise UsageError(f"--radius is {given:g}, expected a positive number of pixels")
        return float(given), "as given"
    if (known := known_radius(dataset, class_name)) is not None:
        return known, "from dataset.json"
    if of_model is not None:
        return of_model, OF_MODEL
    counted = dataset.only(class_name) if class_name else dataset
    if not any(len(sample.points) for sample in counted.samples):
        raise DataError(
            f"{dataset.root} holds no point: annotate its images, one line of image,y,x in points.csv for each object"
        )
    estimate = estimate_radius(counted)
    if estimate is None:
        of, to = (f" of {class_name}", f"{class_name}=PX") if class_name else ("", "PX")
        raise UsageError(
            f"the match radius{of} is not known, and the points of {dataset.root} are too few or too far apart to "
            f"estimate it: give --radius {to}, how far from its annotation a detection may lie (about an object's "
            'radius), or write {"radius_px": PX} to dataset.json'
        )
    return estimate, "estimated from the spacing of the points"
