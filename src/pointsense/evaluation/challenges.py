"""How challenges match detections with their labels: the rule, and the radius in micrometres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pointsense.datasets import Dataset
from pointsense.errors import UsageError
from pointsense.evaluation.match import PROTOCOLS


@dataclass(frozen=True)
class Challenge:
    """A challenge's way to score.

    Attributes
    ----------
    protocol : str
        One of `PROTOCOLS`.
    radius_um : float
        Match radius.
    """

    protocol: str
    radius_um: float


CHALLENGES = {
    # The formal definition; the introduction of the same page says 8 um, which is to be reported beside it.
    "icpr2012": Challenge("one-to-one", 5.0),
    "icpr2012-8um": Challenge("one-to-one", 8.0),
    "mitos14": Challenge("one-to-one", 8.0),
    # Several detections of one mitosis are one true positive.
    "amida13": Challenge("duplicate-tolerant", 7.5),
    "tupac16": Challenge("duplicate-tolerant", 7.5),
    "midog": Challenge("greedy", 7.5),
    # 6 px at 0.55 um.
    "crchisto": Challenge("one-to-one", 3.3),
}
"""By the name that `evaluate --protocol` takes beside those of `PROTOCOLS`."""


RHO = "rho"
"""The paper's way: one-to-one within less than the radius of the smallest object of the data set."""


def resolve(name: str, dataset: Dataset) -> tuple[str, float | None]:
    """The protocol of a name, and the match radius in px of the data set where the name has one.

    Raises
    ------
    UsageError
        If the name is unknown, or the pixel size or the smallest object is not.
    """
    if name in PROTOCOLS:
        return name, None
    if name == RHO:
        return "one-to-one", rho_px(dataset)
    if name not in CHALLENGES:
        known = ", ".join((*PROTOCOLS, *CHALLENGES, RHO))
        raise UsageError(f"unknown --protocol '{name}'; use one of {known}")
    return CHALLENGES[name].protocol, radius_px(name, dataset)


def radius_px(name: str, dataset: Dataset) -> float:
    """The match radius of a challenge in px of the data set.

    Raises
    ------
    UsageError
        If the pixel size is not known.
    """
    challenge = CHALLENGES[name]
    if dataset.um_per_px is None:
        raise UsageError(
            f"--protocol {name} matches within {challenge.radius_um:g} um, and the pixel size of {dataset.root} is not "
            'known: write {"um_per_px": UM} to dataset.json'
        )
    return challenge.radius_um / dataset.um_per_px


def rho_px(dataset: Dataset) -> float:
    """The largest match radius below that of the smallest object of the data set, px.

    Raises
    ------
    UsageError
        If the smallest object is not known.
    """
    if dataset.smallest_radius_px is None:
        raise UsageError(
            f"--protocol rho matches within the radius of the smallest object, and {dataset.root} does not tell it: "
            'write {"smallest_radius_px": PX} to dataset.json, or convert labels that have regions or boxes'
        )
    return float(np.nextafter(dataset.smallest_radius_px, 0))
