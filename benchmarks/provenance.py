"""What numbers depend on beside the method: the machine and the versions."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def hardware(device: str) -> dict[str, Any]:
    """What the numbers in seconds depend on."""
    import torch

    models = [
        line.split(":", 1)[1].strip()
        for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else [])
        if line.startswith("model name")
    ]
    found = {
        "device": device,
        "cpu": models[0] if models else platform.machine(),
        "threads": torch.get_num_threads(),
    }
    return found | ({"gpu": torch.cuda.get_device_name()} if device.startswith("cuda") else {})


def versions() -> dict[str, str]:
    """Versions of what computed the numbers; `commit` ends in -dirty where files differ from it."""
    found = {name: version(name) for name in ("pointsense", "torch", "numpy", "scipy", "timm")}
    describe = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return {"python": platform.python_version(), **found}
    return {"python": platform.python_version(), **found, "commit": commit}
