"""Photographs: read, brought into a model's shape, written again; and the way from a perturbation to 8 bits."""

from saddlepoint.data.figure import BLUE, VERMILION, Panel, figure
from saddlepoint.data.image_files import COFFEE, write_image
from saddlepoint.data.images import read_image, to_image
from saddlepoint.data.preprocess import pixels, preprocess
from saddlepoint.data.quantise import levels, magnified

__all__ = [
    "BLUE",
    "COFFEE",
    "VERMILION",
    "Panel",
    "figure",
    "levels",
    "magnified",
    "pixels",
    "preprocess",
    "read_image",
    "to_image",
    "write_image",
]
