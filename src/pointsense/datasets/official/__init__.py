"""Downloads of contests and exports of annotation tools, read as they come: `FORMATS` by name."""

from pointsense.datasets.official.reading import FORMATS, named, read_official

__all__ = ["FORMATS", "named", "read_official"]
