"""Files that are there whole or not at all, and names that UTF-8 can say."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from saddlepoint.errors import InputError


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of another when the block ends without an error.

    Atomic and durable: readers, and whoever comes after a kill or a power cut, see the old content or the new one.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            # Before the rename: no name may point to bytes that a power cut can lose.
            os.fsync(file.fileno())
        os.replace(part, path)  # noqa: PTH105 - the name says that it replaces
        sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Make the names in a folder durable: without it a power cut may undo a rename. Windows opens no folders."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a file as `replaced` does; return the absolute path.

    Raises:
        InputError: the folder or the file cannot be written.
    """
    path = Path(path).absolute()
    try:
        with replaced(path) as file:
            file.write(content)
    except OSError as error:
        raise InputError(
            f"cannot write {str(path)!r}: {reason(error)}; expected a folder that can be written to"
        ) from None
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
        raise InputError(f"cannot create folder {str(path)!r}: {reason(error)}; pass another folder") from None
    return path


def reason(error: OSError) -> str:
    """Return what the system says, in a few words."""
    return error.strerror or type(error).__name__


def in_utf8(text: str) -> str:
    r"""Return text that UTF-8 can say: bytes of another encoding, as names of files may have, as \xff."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
