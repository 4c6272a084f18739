"""The device that a name means."""

from __future__ import annotations

import torch

from pointsense.errors import UsageError


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name: auto, cpu, cuda, cuda:N, mps.

    Raises
    ------
    UsageError
        If it is none of these, or not there; another one is never used instead.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if there[kind]))
    kind, colon, number = name.partition(":")
    if kind not in there or (colon and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"unknown device '{name}'; use auto, cpu, cuda, cuda:N or mps")
    if not there[kind] or (number and int(number) >= torch.cuda.device_count()):
        raise UsageError(f"there is no device '{name}' on this machine; use --device auto or cpu")
    return torch.device(name)
