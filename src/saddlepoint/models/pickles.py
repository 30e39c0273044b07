"""What a pickle would run, told from its instructions; none of them is carried out."""

import io
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

_MOST = 2**20
"""Bytes that are looked at; code is named at the head."""

_NAME = re.compile(r"\w+(\.\w+)+")


def first_code(path: Path) -> str | None:
    """Return the first function or class that a pickle, or a file of torch.save, names; None if there is none."""
    try:
        head = _head(path)
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None
    return next((name for name in _names(io.BytesIO(head)) if _NAME.fullmatch(name)), None)


def _head(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return file.read(_MOST)
    with zipfile.ZipFile(path) as archive:
        inside = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
        if inside is None:
            return b""
        with archive.open(inside) as file:
            return file.read(_MOST)


def _names(stream: io.BytesIO) -> Iterator[str]:
    """Yield what the pickles in a stream, one after the other, import by name."""
    texts = [""]
    try:
        while True:
            for operation, argument, _ in pickletools.genops(stream):
                if operation.name in ("GLOBAL", "INST"):
                    yield str(argument).replace(" ", ".")
                elif operation.name == "STACK_GLOBAL":
                    yield ".".join(texts[-2:])
                elif isinstance(argument, str):
                    texts.append(argument)
    except Exception:  # the end of the stream, or whatever a damaged one makes of it
        return
