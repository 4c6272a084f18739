"""The device that a name means, and the precision that it computes in."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from pointsense.errors import UsageError

BFLOAT16 = (8, 0)
"""Compute capability from which on GPUs have instructions for bfloat16."""


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name: auto (cuda where it is there, else cpu), cpu, cuda, cuda:N, mps.

    The last is for the default head alone: the paper's, and losses of recovered codes, need float64, which it lacks.

    Raises
    ------
    UsageError
        If it is none of these, or not there; another one is never used instead.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "cpu")
    kind, colon, number = name.partition(":")
    if kind not in there or (colon and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"unknown device '{name}'; use auto, cpu, cuda, cuda:N or mps")
    if not there[kind] or (number and int(number) >= torch.cuda.device_count()):
        raise UsageError(f"there is no device '{name}' on this machine; use --device auto or cpu")
    return torch.device(name)


def pick_precision(name: str, device: torch.device) -> str:
    """Fabric's name of a precision: as given, else ("auto") half precision where the device computes it fast.

    On a CPU half precision is bfloat16, also where float16 is asked for, as Fabric has it in training.

    Raises
    ------
    UsageError
        If the device does not compute in half precision and is told to.
    """
    if name == "auto":
        if device.type == "cuda":
            return "bf16-mixed" if torch.cuda.get_device_capability(device) >= BFLOAT16 else "16-mixed"
        return "bf16-mixed" if device.type == "cpu" and _fast_at_half() else "32-true"
    if name != "32-true" and not torch.amp.is_autocast_available(device.type):
        raise UsageError(
            f"the device '{device}' does not compute in half precision; use precision 32-true or auto"
        )
    return "bf16-mixed" if (name, device.type) == ("16-mixed", "cpu") else name


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Where networks compute in the precision of a name, see `pick_precision`."""
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(pick_precision(precision, device))
    return torch.autocast(device.type, dtype=half) if half else full_precision()


@contextmanager
def full_precision() -> Iterator[None]:
    """Where a GPU's convolutions are of float32: else cuDNN rounds what they take to 10 bits (TF32)."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _fast_at_half() -> bool:
    """Whether the processor has instructions for bfloat16: oneDNN computes with it without them, too, but slowly."""
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    has_instructions = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return platform.machine().lower() not in ("x86_64", "amd64") or has_instructions()
