"""Solvers and gradients compiled by numba, for the CPU. Nothing here imports numba before use."""

from __future__ import annotations

import importlib
import logging
from functools import cache
from pathlib import Path

from torch import Tensor

log = logging.getLogger(__name__)

BACKENDS = ("auto", "compiled", "torch")


@cache
def installed() -> bool:
    """Whether numba is there and can be imported, which is told where it cannot: then torch does its work."""
    try:
        importlib.import_module("numba")
    except (ImportError, SystemError) as error:  # the latter where it was built for another NumPy
        if getattr(error, "name", None) != "numba":
            log.warning("numba fails, and slower code does its work: %s", error)
        return False
    return True


def check(backend: str) -> None:
    """Raise a ValueError if it is no backend."""
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")


def serves(backend: str, x: Tensor) -> bool:
    """Whether compiled code works on x: "auto" asks for it on the CPU, where numba is there.

    Raises
    ------
    ValueError
        If `backend` is no backend, or "compiled" one that cannot be had.
    """
    check(backend)
    if backend == "compiled" and not (installed() and x.device.type == "cpu"):
        why = f"x is on {x.device}" if installed() else "numba is not installed: pip install numba"
        raise ValueError(f"backend 'compiled' needs numba and tensors on the CPU, and {why}")
    if backend == "torch" or x.device.type != "cpu" or not installed():
        return False
    _announce()
    return True


@cache
def _announce() -> None:
    """Say that the first call compiles, where no earlier process has."""
    from .rows import solve_rows

    folder = solve_rows.stats.cache_path
    if folder is None:
        log.warning(
            "compiling the recovery solvers, about 20 s in every process: no folder can be written to keep it"
        )
    elif not any(Path(folder).glob("rows.solve_rows-*.nbi")):
        log.warning("compiling the recovery solvers for this machine: once, about 20 s (kept in %s)", folder)
