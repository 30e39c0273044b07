"""Resize and crop in 8 bits, as torchvision and timm do it, and pixels as numbers."""

import numpy as np
import torch
from PIL import Image

from saddlepoint.classifier import Preprocessing
from saddlepoint.data.sizes import AnyLevels, AnyPixels, Crop
from saddlepoint.errors import InputError

LARGEST = 2**27
"""Pixels that an image may have after its resize, and after its crop."""


def preprocess(image: Image.Image, preprocessing: Preprocessing) -> Crop:
    """Return the crop that a model sees, as 8-bit levels (3, H, W).

    Raises:
        InputError: it would have more than 2²⁷ pixels, for it is elongated, or the size that is asked for is large.
    """
    if preprocessing.resize is not None:
        size = (preprocessing.resize,) * 2 if preprocessing.squash else _scaled(image, preprocessing.resize)
        image = _resize(image, size, preprocessing.interpolation)
    if preprocessing.crop is not None:
        image = _centre_crop(image, preprocessing.crop)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def pixels(levels: AnyLevels) -> AnyPixels:
    """Return levels / 255 as float32: the numbers in [0, 1] that a classifier takes."""
    return levels.float() / 255


def _scaled(image: Image.Image, shorter: int) -> tuple[int, int]:
    """Return the size at which the shorter side has so many pixels, the longer in proportion, rounded down."""
    least = min(image.size)
    width, height = (shorter if side == least else int(shorter * side / least) for side in image.size)
    return width, height


def _resize(image: Image.Image, size: tuple[int, int], interpolation: str) -> Image.Image:
    _require_room(image, size)
    if size == image.size:
        return image
    return image.resize(size, Image.Resampling[interpolation.upper()])


def _centre_crop(image: Image.Image, side: int) -> Image.Image:
    """Cut the central square; black fills what a smaller image lacks."""
    _require_room(image, (side, side))
    left, top = (_offset(length, side) for length in image.size)
    return image.crop((left, top, left + side, top + side))


def _require_room(image: Image.Image, size: tuple[int, int]) -> None:
    """Raise InputError if an image would have more pixels than `LARGEST`."""
    width, height = size
    if width * height > LARGEST:
        raise InputError(f"an image of {image.width} × {image.height} would become {width} × {height}; expected less")


def _offset(length: int, side: int) -> int:
    return round((length - side) / 2) if length >= side else -((side - length) // 2)
