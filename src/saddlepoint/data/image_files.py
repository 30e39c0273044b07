"""The photograph that ships with the package, and images as files."""

import io
from pathlib import Path

from PIL.Image import Image

from saddlepoint.files import write_bytes

ASSETS = Path(__file__).parent / "assets"
COFFEE = ASSETS / "coffee.png"
"""An espresso, 600 × 400 (CC0; see the README beside it)."""


def write_image(path: str | Path, image: Image) -> Path:
    """Write an image as PNG, atomically; return the absolute path."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return write_bytes(path, buffer.getvalue())
