"""Photographs: read, brought into a model's shape, written again; and the way from a perturbation to 8 bits."""

from saddlepoint.data.figure import BLUE, VERMILION, Panel, figure
from saddlepoint.data.files import COFFEE, in_utf8, make_folder, write_bytes, write_image
from saddlepoint.data.images import read_image, to_image
from saddlepoint.data.preprocess import pixels, preprocess
from saddlepoint.data.quantise import levels, magnified

__all__ = [
    "BLUE",
    "COFFEE",
    "VERMILION",
    "Panel",
    "figure",
    "in_utf8",
    "levels",
    "magnified",
    "make_folder",
    "pixels",
    "preprocess",
    "read_image",
    "to_image",
    "write_bytes",
    "write_image",
]
