"""What is compared: the default preset, the heat map on the same network, the paper's systems, and other detectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tasks import FAMILIES


@dataclass(frozen=True)
class Method:
    """A way to learn from points.

    Attributes
    ----------
    title : str
        For the tables.
    preset : str
        Of pointsense; not used by a peer.
    settings : dict
        On top of the preset and of the task's own.
    peer : str
        Name among `peers.PEERS`; "" for our own network.
    seeds : int
        How many trainings the comparison asks for.
    families : tuple of str
        Families of tasks that it is compared on; all where it is empty.
    first_fold : bool
        Whether one fold of a family is enough.
    """

    title: str
    preset: str = "pointsense"
    settings: dict[str, Any] = field(default_factory=dict)
    peer: str = ""
    seeds: int = 1
    families: tuple[str, ...] = ()
    first_fold: bool = False

    def cells(self) -> list[tuple[str, int]]:
        """The tasks and seeds that the comparison asks for."""
        families = self.families or tuple(FAMILIES)
        return [
            (task, seed)
            for family in families
            for task in (FAMILIES[family][:1] if self.first_fold else FAMILIES[family])
            for seed in range(self.seeds)
        ]


METHODS = {
    "code": Method("pointsense", seeds=3),
    "heatmap": Method("heat map, same network", settings={"target": "heatmap"}, seeds=3),
    "fcrn": Method("density, FCRN-A", peer="fcrn"),
    "faster-rcnn": Method(
        "Faster R-CNN",
        peer="faster-rcnn",
        settings={"weights": "{data}/weights/mobilenetv2_100.safetensors"},
    ),
    "log": Method("LoG", peer="log"),
    "spotiflow": Method("Spotiflow", peer="spotiflow", first_fold=True),
}
