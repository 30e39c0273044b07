"""Files: the photograph that ships with the package, and writing without ever leaving half a file."""

import io
import os
import secrets
from pathlib import Path

from PIL.Image import Image

from saddlepoint.errors import InputError

ASSETS = Path(__file__).parent / "assets"
COFFEE = ASSETS / "coffee.png"
"""An espresso, 600 × 400 (CC0; see the README beside it)."""


def in_utf8(text: str) -> str:
    r"""Return text that UTF-8 can say: bytes of another encoding, as names of files may have, as \xff."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a file atomically: readers see the old content or the new, never a part.

    Returns:
        The absolute path.

    Raises:
        InputError: the folder or the file cannot be written.
    """
    path = Path(path).absolute()
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        try:
            part.write_bytes(content)
            os.replace(part, path)  # noqa: PTH105 - the name says that it replaces
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"cannot write {str(path)!r}: {reason}; expected a folder that can be written to") from None
    return path


def make_folder(path: str | Path) -> Path:
    """Create a folder and those above it where missing; return its absolute path.

    Raises:
        InputError: it cannot be created, or is something else.
    """
    path = Path(path).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"cannot create folder {str(path)!r}: {reason}; pass another folder") from None
    return path


def write_image(path: str | Path, image: Image) -> Path:
    """Write an image as PNG, atomically; return the absolute path."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return write_bytes(path, buffer.getvalue())
