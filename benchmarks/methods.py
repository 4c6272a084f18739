"""What is compared: each set's preset, the heat map on the same network, the paper's systems, and other detectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tasks import FAMILIES, WEIGHTS


@dataclass(frozen=True)
class Method:
    """A way to learn from points.

    Attributes
    ----------
    title : str
        For the tables.
    preset : str
        In place of the task's own; "" for that.
    settings : dict
        On top of the preset and of the task's own.
    on_tasks : dict of task to dict
        Settings of some tasks alone, on top of those.
    peer : str
        Name among `peers.PEERS`; "" for our own network.
    seeds : int
        How many trainings the comparison asks for.
    families : tuple of str
        Families of tasks that it is compared on; all where it is empty.
    first_fold : bool
        Whether one fold of a family is enough.
    ablates : tuple of str
        Where it is the task's preset with one choice changed: the tasks on which both are compared.
    trained_as : str
        The method whose training it reads with its own settings; "" where it is trained itself.
    refit : bool
        Whether that training is made once more on all training images, with its thresholds.
    beside : tuple of str
        Methods that its F1 is compared with, in place of those that its table compares with.
    """

    title: str
    preset: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    on_tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    peer: str = ""
    seeds: int = 1
    families: tuple[str, ...] = ()
    first_fold: bool = False
    ablates: tuple[str, ...] = ()
    trained_as: str = ""
    refit: bool = False
    beside: tuple[str, ...] = ()

    def settings_on(self, task: str) -> dict[str, Any]:
        """Its settings on a task."""
        return self.settings | self.on_tasks.get(task, {})

    def cells(self) -> list[tuple[str, int]]:
        """The tasks and seeds that the comparison asks for."""
        if self.ablates:
            return [(task, seed) for task in self.ablates for seed in range(self.seeds)]
        families = self.families or tuple(FAMILIES)
        return [
            (task, seed)
            for family in families
            for task in (FAMILIES[family][:1] if self.first_fold else FAMILIES[family])
            for seed in range(self.seeds)
        ]


# The paper's training as far as it is stated: patches of the grid in four turns, one linear layer on pooled features of
# a frozen network. Its ResNet-152 is replaced by the encoder that all systems here share. That these do not learn is
# seen on one fold.
LITERAL: dict[str, Any] = WEIGHTS | {"backbone": "mobilenetv2_100", "steps": 2000, "look": 0}

# What the literal systems lack to learn at all: features that keep positions, a target that is smooth in them, distance
# beside mass, an encoder that learns, and crops around the rare objects.
REPAIRS: dict[str, Any] = {
    "head": "spatial",
    "width": 64,
    "freeze": False,
    "sensing": "smoothed",
    "sensing_sigma": 3.0,
    "channels": "mass",
    "lam": 0.05,
    "amplitude_threshold": 0.0,
    "bandwidth": 0.0,
    "scale": 0.0,
    "patch": 128,
    "sampling": "random",
    "flips": True,
    "zoom": 1.25,
    "jitter": 0.2,
    "batch": 8,
    "steps": 1800,
    "ema": 0.995,
}
REPAIRED: dict[str, Any] = LITERAL | REPAIRS
PAPER = ("icpr2012", "mitos14_half")

ONE_OF_EACH = tuple(name for name in FAMILIES if name != "icpr2012-A04")
"""Families with images of their own."""

DENSE, TISSUE, RARE, SIZES = ("vgg_cells",), ("crchisto",), ("icpr2012-fold0",), ("dsb2018",)
LARGE = ("bccd-WBC", "bccd-RBC")
SLIDES = ("icpr2012", "icpr2012-A04", "mitos14_half")
"""Families with images of several slides, which are stained unlike."""

AS_STAINED: dict[str, Any] = {"stains": False}
"""Images as they are: in place of stains of one strength, which came after what has this."""

FOUR: dict[str, Any] = {"views": 4}
FOUR_OF_MITOSES = {task: FOUR for family in SLIDES for task in FAMILIES[family]}
"""In place of two in the first look at mitoses, which came after what has this."""

HEATMAP: dict[str, Any] = {"target": "heatmap", "spots": 0.0}
"""In place of the code, with nothing beside it."""

SHORT: dict[str, Any] = {"steps": 2500, "view_zoom": 1.0}
"""The preset for many sizes as it was when single choices were changed on it."""

ABLATED = {
    "vgg_cells": "overlay0",
    "crchisto": "code",
    "icpr2012-fold0": "alone-look0",
    "dsb2018": "steps2500",
    "bccd-WBC": "code",
    "bccd-RBC": "code",
}
"""Tasks on which single choices are measured, and the method that they change: on rare objects without a second look,
which would hide what they do to the first, and without a heat map beside; on dense ones without crops over crops; on
those of many sizes in half the steps, by views that are all as large. These came after them."""

CHANGES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "margin0": ("crops learned from up to their borders", {"margin": 0}, DENSE + RARE),
    "zoom1": ("crops of one size", {"zoom": 1.0}, RARE),
    "zoom125": ("crops enlarged and shrunk by a quarter", {"zoom": 1.25}, DENSE),
    "patch128": ("crops of 128 px, twice as many a step", SHORT | {"patch": 128, "batch": 8}, SIZES),
    "patch256": ("crops of 256 px, half as many a step", {"patch": 256, "batch": 4}, DENSE + RARE),
    "patch384": ("crops of 384 px, as many a step", SHORT | {"patch": 384}, SIZES),
    "scale15": ("working px of two thirds", SHORT | {"scale": 1.5}, SIZES),
    "scale2": ("working px of half the side", SHORT | {"scale": 2.0}, SIZES),
    "stride2": ("cells of half the side", SHORT | {"stride": 2}, SIZES),
    "zoom15": ("crops enlarged and shrunk by half, not a quarter", SHORT | {"zoom": 1.5}, SIZES),
    "overlay": ("crops of fluorescence over one another", SHORT | {"overlay": 0.3}, SIZES),
    "hard": ("half of the other crops around false alarms", {"hard": 0.5, "checks": 8}, DENSE + RARE),
    "hard-control": ("as many checks, no false alarms", {"checks": 8}, RARE),
    "jitter0": ("no change of colours", {"jitter": 0.0}, DENSE + RARE),
    "ema0": ("no average of the weights", {"ema": 0.0}, DENSE + RARE),
    "beta0": ("no count in the label", {"beta": 0.0}, DENSE + RARE),
    "stains": ("stains of one strength", {"stains": True}, TISSUE),
    "axes2": ("two axes of 48 measurements", {"axes": 2, "measurements": 48}, DENSE),
    "axes4": ("four axes of 24 measurements", {"axes": 4, "measurements": 24}, DENSE),
    "axes16": ("16 axes of six measurements", {"axes": 16, "measurements": 6}, DENSE),
    "gaussian": ("iid Gaussian sensing", {"sensing": "gaussian"}, DENSE + RARE),
    "filtered": ("filtered Gaussian sensing", {"sensing": "filtered"}, DENSE + TISSUE + RARE),
    "steps2": ("twice as many steps", {"steps": 6000}, DENSE),
    "steps5000": ("5,000 steps, twice as many", SHORT | {"steps": 5000}, SIZES),
    "l1-paper": ("end-to-end L1 term, rule (8)", {"alpha": 0.05, "backward": "paper"}, DENSE + RARE),
    "l1-exact": ("end-to-end L1 term, exact rule", {"alpha": 0.05, "backward": "exact"}, DENSE + RARE),
}
"""What single choices change of the default, and on which tasks, by name."""

READINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "look0": ("no second look", {"look": 0}),
    "views1": ("one view", {"views": 1, "look_views": 1}),
    "views1-look4": ("one view, four in the second look", {"views": 1}),
    "views8": ("eight views", {"views": 8, "look_views": 8}),
}
"""Other ways to predict with the models that the mitoses' settings train, by name."""

METHODS = {
    "code": Method("pointsense", seeds=3),
    "heatmap": Method("heat map, same network", settings=HEATMAP, seeds=3),
    **{
        key: Method(
            f"{title}, four views",
            settings=FOUR,
            seeds=3,
            families=SLIDES,
            trained_as=name,
            beside=(beside,),
        )
        for key, name, title, beside in (
            ("views4", "code", "pointsense", "heatmap-views4"),
            ("heatmap-views4", "heatmap", "heat map", "heatmap"),
        )
    },
    **{
        key: Method(
            f"{title}, stains as they are",
            settings=settings | AS_STAINED | FOUR,
            seeds=3,
            families=SLIDES,
            beside=("views4", "heatmap-views4"),
        )
        for key, title, settings in (
            ("stains0", "pointsense", {}),
            ("heatmap-stains0", "heat map", HEATMAP),
        )
    },
    "alone": Method(
        "pointsense, stains as they are, no heat map beside",
        settings=AS_STAINED | FOUR | {"spots": 0.0},
        seeds=3,
        families=PAPER,
        beside=("stains0", "heatmap-stains0"),
    ),
    "stains0-refit": Method(
        "pointsense, stains as they are, learned again from all images",
        families=PAPER,
        trained_as="stains0",
        refit=True,
        beside=("stains0", "heatmap-stains0"),
    ),
    **{
        f"{name}-{key}": Method(
            f"{title}, stains as they are, {words}",
            settings=settings,
            families=PAPER,
            trained_as=name,
            beside=(f"{beside}-{key}" if name != beside else beside,),
        )
        for name, title, beside in (
            ("stains0", "pointsense", "heatmap-stains0"),
            ("heatmap-stains0", "heat map", "heatmap-stains0"),
        )
        for key, (words, settings) in READINGS.items()
    },
    "alone-look0": Method(
        f"pointsense, stains as they are, no heat map beside, {READINGS['look0'][0]}",
        settings=READINGS["look0"][1],
        families=PAPER,
        trained_as="alone",
        beside=("heatmap-stains0-look0",),
    ),
    "overlay0": Method("no crop over another", settings={"overlay": 0.0}, seeds=3, families=DENSE),
    "wide-crops": Method(
        "crops of 256 px, half as many a step, enlarged and shrunk by a quarter",
        settings={"patch": 256, "batch": 4, "zoom": 1.25},
        seeds=3,
        ablates=LARGE,
    ),
    "steps2500": Method("2,500 steps, views alike", settings=SHORT, seeds=3, families=SIZES),
    **{
        f"{name}-alike": Method(
            f"{title}, all views as large",
            settings={"view_zoom": 1.0},
            seeds=3,
            families=SIZES,
            trained_as=name,
            beside=(beside,),
        )
        for name, title, beside in (
            ("code", "pointsense", "heatmap-alike"),
            ("heatmap", "heat map", "heatmap"),
        )
    },
    "fcrn": Method("density, FCRN-A", peer="fcrn", settings=AS_STAINED, on_tasks=FOUR_OF_MITOSES),
    "faster-rcnn": Method(
        "Faster R-CNN",
        peer="faster-rcnn",
        settings=WEIGHTS | AS_STAINED | {"backbone": "mobilenetv2_100"},
    ),
    "log": Method("LoG", peer="log", settings=AS_STAINED),
    "spotiflow": Method(
        "Spotiflow", peer="spotiflow", settings=AS_STAINED, families=ONE_OF_EACH, first_fold=True
    ),
    "cnncs": Method("CNNCS", "cnncs", LITERAL, families=PAPER, first_fold=True),
    "ecnncs-1": Method("ECNNCS-1", "ecnncs-1", LITERAL, families=PAPER, first_fold=True),
    "ecnncs-2": Method("ECNNCS-2", "ecnncs-2", LITERAL, families=PAPER, first_fold=True),
    "ecnncs-exact": Method(
        "ECNNCS, exact rule",
        "ecnncs-2",
        LITERAL | {"backward": "exact"},
        families=PAPER,
        first_fold=True,
    ),
    "cnncs-repaired": Method("CNNCS, repaired", "cnncs", REPAIRED, seeds=3, families=PAPER),
    "ecnncs-1-repaired": Method(
        "ECNNCS-1, repaired",
        "ecnncs-1",
        # Thresholds that LISTA learns rise until nothing is recovered, which the L1 term prefers: they are not learned.
        REPAIRED | {"alpha": 0.01, "recovery": "fista", "recovery_steps": 100},
        families=PAPER,
    ),
    "ecnncs-2-repaired": Method("ECNNCS-2, repaired", "ecnncs-2", REPAIRED | {"alpha": 0.01}, families=PAPER),
    "ecnncs-exact-repaired": Method(
        "ECNNCS, exact rule, repaired",
        "ecnncs-2",
        REPAIRED | {"alpha": 0.01, "backward": "exact"},
        families=PAPER,
    ),
    **{
        f"{name}-weak": Method(
            f"{title}, repaired, α = 0.001",
            "ecnncs-2",
            REPAIRED | {"alpha": 0.001, "backward": rule},
            seeds=3,
            families=PAPER,
        )
        for name, title, rule in (
            ("ecnncs-2", "ECNNCS-2", "paper"),
            ("ecnncs-exact", "ECNNCS, exact rule", "exact"),
        )
    },
    **{
        name: Method(
            title,
            settings=AS_STAINED | {"look": 0, "overlay": 0.0, "spots": 0.0} | change,
            on_tasks=FOUR_OF_MITOSES,
            ablates=tasks,
        )
        for name, (title, change, tasks) in CHANGES.items()
    },
}


def training_of(name: str) -> str:
    """The method whose training a method reads, or learns again: its own, where it is trained itself."""
    return METHODS[name].trained_as or name if name in METHODS else name
