"""Tables 2 to 7 of the paper: what was published, and what its own rows were made with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Published:
    """A row as it was printed; None where the paper gives no number."""

    method: str
    f1: float
    precision: float | None = None
    recall: float | None = None


@dataclass(frozen=True)
class Table:
    """A table of results.

    Attributes
    ----------
    title : str
    contest : str
        Whose images these are, and how they are scored: a name of `datasets.official.FORMATS` and of
        `evaluation.challenges.CHALLENGES`.
    scored_on : str
        What the published scores are of.
    rows : tuple of Published
    settings : dict
        The paper's, for its own systems.
    """

    title: str
    contest: str
    scored_on: str
    rows: tuple[Published, ...]
    settings: dict[str, Any] = field(default_factory=dict)


def _settings(
    m: int, L: int, beta: float, lam: float, alpha: float, bandwidth: float, patch: int
) -> dict[str, Any]:
    return {
        "measurements": m,
        "axes": L,
        "beta": beta,
        "lam": lam,
        "alpha": alpha,
        "bandwidth": bandwidth,
        "patch": patch,
    }


ICPR2012 = _settings(112, 27, 0.20, 0.39, 1.3, 40, 260)
MITOS14 = _settings(103, 30, 0.24, 0.39, 1.5, 40, 260)
AMIDA = _settings(118, 25, 0.32, 0.43, 1.4, 45, 200)

VALIDATION = "a random part of the training images"

TABLES = {
    "table2": Table(
        "ICPR 2012 contest of mitosis detection",
        "icpr2012",
        "the contest's 15 test images",
        (
            Published("UTRECHT", 0.584, 0.511, 0.680),
            Published("NEC", 0.659, 0.747, 0.590),
            Published("IPAL", 0.718, 0.698, 0.740),
            Published("DNN", 0.782, 0.886, 0.700),
            Published("RCasNN", 0.716, 0.720, 0.713),
            Published("CasNN-single", 0.745, 0.738, 0.753),
            Published("CasNN-average", 0.788, 0.804, 0.772),
            Published("CNNCS", 0.821, 0.853, 0.791),
            Published("ECNNCS-1", 0.8509, 0.8637, 0.8385),
            Published("ECNNCS-2", 0.8620, 0.8793, 0.8454),
            Published("Faster RCNN", 0.6440, 0.5334, 0.8152),
        ),
        ICPR2012,
    ),
    "table3": Table(
        "ICPR 2014 contest, MITOS-ATYPIA-14, mean of four slides",
        "mitos14",
        "the contest's test images, whose labels are not public",
        (
            Published("CUHK", 0.356),
            Published("MINES", 0.235),
            Published("YILDIZ", 0.167),
            Published("STRAS", 0.024),
            Published("CNNCS", 0.633),
        ),
        MITOS14,
    ),
    "table4": Table(
        "ICPR 2014 contest, MITOS-ATYPIA-14, validation",
        "mitos14",
        VALIDATION,
        (
            Published("CNNCS", 0.6365, 0.6210, 0.6527),
            Published("ECNNCS-1", 0.6579, 0.6421, 0.6745),
            Published("ECNNCS-2", 0.6703, 0.6384, 0.7056),
            Published("Faster RCNN", 0.6253, 0.5351, 0.7520),
        ),
        MITOS14,
    ),
    "table5": Table(
        "AMIDA13",
        "amida13",
        f"the contest's test images; CNNCS, ECNNCS and Faster RCNN: {VALIDATION}",
        (
            Published("IDSIA", 0.611, 0.610, 0.612),
            Published("DTU", 0.483, 0.427, 0.555),
            Published("AggNet", 0.433, 0.441, 0.424),
            Published("CUHK", 0.427, 0.690, 0.310),
            Published("SURREY", 0.344, 0.357, 0.332),
            Published("CNNCS", 0.4727, 0.3952, 0.5879),
            Published("ECNNCS-1", 0.6008, 0.5988, 0.6028),
            Published("ECNNCS-2", 0.6332, 0.6137, 0.6541),
            Published("Faster RCNN", 0.5852, 0.4875, 0.7319),
        ),
        AMIDA,
    ),
    "table6": Table(
        "AMIDA 2016, TUPAC16",
        "tupac16",
        f"the contest's test images, whose labels are not public; CNNCS, ECNNCS and Faster RCNN: {VALIDATION}",
        (
            Published("Lunit", 0.652),
            Published("IBM Research", 0.648),
            Published("Contextvision", 0.616),
            Published("The Chinese University of Hong Kong", 0.601),
            Published("Microsoft Research Asia", 0.596),
            Published("CNNCS", 0.6264),
            Published("ECNNCS-1", 0.6576),
            Published("ECNNCS-2", 0.6856),
            Published("Faster RCNN", 0.6043),
        ),
        AMIDA,
    ),
    "table7": Table(
        "AMIDA 2016, TUPAC16, validation",
        "tupac16",
        VALIDATION,
        (
            Published("CNNCS", 0.6264, 0.5478, 0.7314),
            Published("ECNNCS-1", 0.6576, 0.5936, 0.7370),
            Published("ECNNCS-2", 0.6856, 0.6423, 0.7352),
            Published("Faster RCNN", 0.6043, 0.4961, 0.7728),
        ),
        AMIDA,
    ),
}
"""By the name that `reproduce` takes."""
