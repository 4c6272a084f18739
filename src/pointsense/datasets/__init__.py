"""Data sets of images and points: reading the layouts, checking them, estimating the object's size."""

from pointsense.datasets.check import Finding, check, summary
from pointsense.datasets.crowding import too_dense
from pointsense.datasets.dataset import Dataset, Sample, check_points_inside
from pointsense.datasets.listing import list_images
from pointsense.datasets.load import load_dataset
from pointsense.datasets.radius import estimate_radius, match_radius, parse_radii, radii_of_classes

__all__ = [
    "Dataset",
    "Finding",
    "Sample",
    "check",
    "check_points_inside",
    "estimate_radius",
    "list_images",
    "load_dataset",
    "match_radius",
    "parse_radii",
    "radii_of_classes",
    "summary",
    "too_dense",
]
