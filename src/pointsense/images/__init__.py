"""Images as arrays, and the contract between a model and the images that it can see."""

from pointsense.images.contract import InputContract
from pointsense.images.reading import IMAGE_SUFFIXES, read_image

__all__ = ["IMAGE_SUFFIXES", "InputContract", "read_image"]
