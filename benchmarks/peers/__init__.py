"""Detectors that ours is compared with: one file each, one small interface (`pointsense.peers.problem`).

A peer's module is imported when it is asked for, so that each needs only its own libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pointsense.errors import UsageError

if TYPE_CHECKING:
    from pointsense.peers.problem import Peer

PEERS = {
    "log": ("peers.log", "fit"),
    "fcrn": ("peers.fcrn", "fit"),
    "faster-rcnn": ("pointsense.peers.faster_rcnn", "fit"),
    "spotiflow": ("peers.spotiflow", "fit"),
}
"""Module and function of each peer, by name."""


def load_peer(name: str) -> Peer:
    """The function that fits a peer.

    Raises
    ------
    UsageError
        If there is none of that name; the message lists those that are.
    """
    if name not in PEERS:
        raise UsageError(f"unknown peer '{name}': the peers are {', '.join(PEERS)}")
    module, function = PEERS[name]
    return getattr(import_module(module), function)
