"""How challenges match detections with their labels: the rule, and the radius in micrometres."""

from __future__ import annotations

from dataclasses import dataclass

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


def resolve(name: str, dataset: Dataset) -> tuple[str, float | None]:
    """The protocol of a name, and the match radius in px of the data set where the name is a challenge's.

    Raises
    ------
    UsageError
        If the name is unknown, or the pixel size is not.
    """
    if name in PROTOCOLS:
        return name, None
    if name not in CHALLENGES:
        raise UsageError(f"unknown --protocol '{name}'; use one of {', '.join((*PROTOCOLS, *CHALLENGES))}")
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
