"""Points to sparse signals to measurements, and recovered signals back to candidate points."""

from pointsense.encoding.axes import Arc, Channels, Encoding, ObservationAxes
from pointsense.encoding.decode import Candidates, candidates
from pointsense.encoding.grid import FlattenedMap
from pointsense.encoding.projection import Footprint, ProjectionCode, splat
from pointsense.encoding.sensing import CapacityWarning, Kind, capacity, measure, sensing_matrix

__all__ = [
    "Arc",
    "Candidates",
    "CapacityWarning",
    "Channels",
    "Encoding",
    "FlattenedMap",
    "Footprint",
    "Kind",
    "ObservationAxes",
    "ProjectionCode",
    "candidates",
    "capacity",
    "measure",
    "sensing_matrix",
    "splat",
]
