"""A tiny synthetic set and a tiny model trained on it, once for all tests that need one."""

import hashlib
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# numba looks at the file of a compiled function alone, not at those of the functions that it calls: a cache for each
# state of the sources, so that no test runs code of yesterday.
_compiled = ("recovery/compiled/*.py", "inference/compiled_atoms.py")
_sources = sorted(path for part in _compiled for path in (ROOT / "src" / "pointsense").glob(part))
_digest = hashlib.sha256(b"".join(path.read_bytes() for path in _sources)).hexdigest()[:16]
os.environ["NUMBA_CACHE_DIR"] = str(ROOT / ".pytest_cache" / "numba" / _digest)


@pytest.fixture(scope="session")
def cells(tmp_path_factory) -> Path:
    """Six images of 96 x 96 px, four of them `train`; not to be written to."""
    from pointsense.datasets.synthetic import make_synthetic

    return make_synthetic(tmp_path_factory.mktemp("cells") / "data", images=6, size=96, seed=3)


TINY = {"steps": 60, "batch": 4, "patch": 64, "width": 8, "checks": 2, "jitter": 0.0, "ema": 0.9}
"""Settings of a model that finds some cells after seconds."""


@pytest.fixture(scope="session")
def run(cells, tmp_path_factory) -> Path:
    """The folder of a default-preset model that was trained for a few steps; not to be written to."""
    from pointsense.datasets import load_dataset
    from pointsense.learning.fit import train
    from pointsense.model.config import override
    from pointsense.model.presets import preset

    out = tmp_path_factory.mktemp("model") / "run"
    train(load_dataset(cells), out, override(preset("pointsense"), TINY), radius=6.0, class_name="cell")
    return out


@pytest.fixture(scope="session")
def detector(run):
    """That model, loaded on the CPU."""
    from pointsense.inference.detector import Detector

    return Detector.load(run, device="cpu")
