"""Image files of any kind as upright 8-bit RGB."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from saddlepoint.errors import InputError

# Formats that hold pixels. Others, such as EPS, would start an external program to be drawn.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "ICO", "TGA")
_PAPER = "white"


def read_image(path: str | Path) -> Image.Image:
    """Return an image file as upright 8-bit RGB.

    The EXIF rotation is applied. Transparency is laid on white, a palette looked up, CMYK and grey converted, 16-bit
    grey divided by 257; of an animation the first frame is taken. Colour profiles are ignored, as models are trained.

    Raises:
        InputError: there is no such file, or it is no image, broken, or has pixels without a scale.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_known()) as image:
                image.load()
                return upright_rgb(image)
    except Exception as error:
        raise InputError(f"cannot read image {str(path)!r}: {_reason(path, error)}") from None


def suffixes() -> frozenset[str]:
    """Return the endings of the files that `read_image` takes, in lower case with their dot."""
    known = set(_known())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return a decoded image as upright 8-bit RGB; see `read_image`."""
    return _rgb(_upright(image))


def to_image(levels: torch.Tensor) -> Image.Image:
    """Return a uint8 tensor (3, H, W) as an RGB image."""
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().cpu().numpy())


def _known() -> list[str]:
    """Return those formats that this build of Pillow has."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image.copy()  # Broken EXIF data say nothing about the rotation; the pixels are fine.


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bits(image)
    if image.mode == "F":
        raise InputError("its pixels are floating-point numbers without a scale; expected 8 or 16 bits")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, _PAPER)
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise InputError("its pixels are 32-bit integers without a scale; expected 8 or 16 bits")
    return Image.fromarray(np.rint(values / 257).astype(np.uint8)).convert("RGB")


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    if not path.exists():
        return "there is no such file"
    if path.is_dir():
        return "it is a folder; expected an image file"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, UnidentifiedImageError):
        return "it is no image in a known format; expected PNG, JPEG, WebP, TIFF, GIF or BMP"
    return f"the file is broken ({' '.join(str(error).split())[:100] or type(error).__name__}); expected a whole image"
