"""pointsense: cells, nuclei and mitoses as points, by compressed codes and sparse recovery.

    from pointsense import Detector, read_image
    detections = Detector.load("RUN").predict(read_image("a.png"))
    detections.points  # (K, 2), rows (y, x), px; the origin is the centre of the first pixel

The public names are imported at their first use, so that `import pointsense` stays quick and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pointsense.datasets import Dataset, check, load_dataset, match_radius
    from pointsense.errors import DataError, PointsenseError, UsageError
    from pointsense.evaluation import Case, best_threshold, evaluate, match
    from pointsense.images import read_image
    from pointsense.inference.detector import Detector
    from pointsense.learning.fit import refit, train
    from pointsense.model.config import Config
    from pointsense.model.presets import preset
    from pointsense.points import Detections
    from pointsense.recovery import SparseRecovery, lasso, sparse_code

__version__ = "0.1.0"

_HOMES = {
    "Case": "pointsense.evaluation",
    "Config": "pointsense.model.config",
    "DataError": "pointsense.errors",
    "Dataset": "pointsense.datasets",
    "Detections": "pointsense.points",
    "Detector": "pointsense.inference.detector",
    "PointsenseError": "pointsense.errors",
    "SparseRecovery": "pointsense.recovery",
    "UsageError": "pointsense.errors",
    "best_threshold": "pointsense.evaluation",
    "check": "pointsense.datasets",
    "evaluate": "pointsense.evaluation",
    "lasso": "pointsense.recovery",
    "load_dataset": "pointsense.datasets",
    "match": "pointsense.evaluation",
    "match_radius": "pointsense.datasets",
    "preset": "pointsense.model.presets",
    "read_image": "pointsense.images",
    "refit": "pointsense.learning.fit",
    "sparse_code": "pointsense.recovery",
    "train": "pointsense.learning.fit",
}

__all__ = [
    "Case",
    "Config",
    "DataError",
    "Dataset",
    "Detections",
    "Detector",
    "PointsenseError",
    "SparseRecovery",
    "UsageError",
    "best_threshold",
    "check",
    "evaluate",
    "lasso",
    "load_dataset",
    "match",
    "match_radius",
    "preset",
    "read_image",
    "refit",
    "sparse_code",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pointsense' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
