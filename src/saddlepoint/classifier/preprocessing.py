"""What a model does to a photograph before its first layer, as data; `saddlepoint.data` carries it out."""

from dataclasses import dataclass
from typing import Literal

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Resize the shorter side to `resize` pixels, then cut the central `crop` × `crop` square.

    Both happen in 8 bits, before pixels become numbers in [0, 1], so that the clean crop is itself an 8-bit image.

    Attributes:
        resize: length of the shorter side in pixels; None leaves the size as it is.
        crop: side of the central square in pixels; None keeps the whole image.
        interpolation: the filter of the resize, with antialiasing.
        squash: both sides become `resize`, whatever the aspect ratio.
    """

    resize: int | None = None
    crop: int | None = None
    interpolation: Interpolation = "bilinear"
    squash: bool = False
