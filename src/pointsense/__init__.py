"""pointsense: cells, nuclei and mitoses as points, by compressed codes and sparse recovery."""

__version__ = "0.1.0"
