"""The device that a name means, and the precision that it computes in."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext
from typing import Any

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


def pick_precision(name: str, device: torch.device) -> str:
    """Fabric's name of a precision: as given, else ("auto") half precision where the device computes it fast."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "bf16-mixed" if device.type == "cpu" and _fast_at_half() else "32-true"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Where networks compute in the precision of a name, see `pick_precision`."""
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(pick_precision(precision, device))
    return torch.autocast(device.type, dtype=half) if half else nullcontext()


def _fast_at_half() -> bool:
    """Whether the processor has instructions for bfloat16: oneDNN supports it without them, too, but slowly."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    has_instructions = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    return platform.machine().lower() not in ("x86_64", "amd64") or has_instructions()
