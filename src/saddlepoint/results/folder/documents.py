"""Files that are there whole or not at all, and the JSON documents of a run folder."""

import json
import re
from pathlib import Path
from typing import Any

from saddlepoint.errors import InputError, RunError, reason
from saddlepoint.files import replaced, sync
from saddlepoint.results.folder.canonical import canonical

VERSION = 1
_PART = re.compile(r"\.[0-9a-f]{16}\.part")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file as `replaced` does: after a kill or a power cut it holds the old content or the new.

    Raises:
        RunError: it cannot be written.
    """
    try:
        with replaced(path) as file:
            file.write(content)
    except OSError as error:
        raise RunError(f"cannot write {str(path)!r} ({reason(error)}); make room or pass another folder") from None


def make_folder(path: Path) -> None:
    """Create a folder, and those above it where missing.

    Raises:
        RunError: it cannot be created, or is something else.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        sync(path.parent)
    except OSError as error:
        raise RunError(f"cannot create the folder {str(path)!r} ({reason(error)}); pass another one") from None


def remove(path: Path) -> None:
    """Remove a file, durably; that it is gone already is fine.

    Raises:
        RunError: it cannot be removed.
    """
    try:
        path.unlink()
        sync(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"cannot remove {str(path)!r} ({reason(error)}); remove it by hand") from None


def remove_parts(folder: Path) -> None:
    """Remove what writes that were killed left behind; only a holder of the lock may."""
    for path in folder.iterdir():
        if _PART.fullmatch(path.name):
            remove(path)


def write_document(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON document of ours: equal content gives equal bytes."""
    head = {"format": _format(path), "version": VERSION}
    write_bytes(path, canonical({**head, **content}, indent=2) + b"\n")


def read_document(path: Path, *expected: tuple[str, type]) -> dict[str, Any]:
    """Return a JSON document of ours, without its format and version.

    Args:
        path: the file.
        expected: keys that must be there, with their types.

    Raises:
        RunError: it is missing, torn, foreign or of a newer version.
    """
    name = str(path)
    try:
        content = json.loads(path.read_bytes())
        canonical(content)
    except (OSError, ValueError, RecursionError, InputError) as error:
        raise RunError(f"{name!r} cannot be read ({reason(error)}); expected {_format(path)}") from None
    if not isinstance(content, dict) or content.pop("format", None) != _format(path):
        raise RunError(f"{name!r} is not of a run folder; expected {_format(path)}")
    version = content.pop("version", None)
    if type(version) is int and version > VERSION:
        raise RunError(f"{name!r} was written by a newer saddlepoint (version {version}); update saddlepoint")
    if version != VERSION or any(not isinstance(content.get(key), kind) for key, kind in expected):
        raise RunError(f"{name!r} is torn or was edited; expected {_format(path)}, version {VERSION}")
    return content


def _format(path: Path) -> str:
    return f"saddlepoint-run-{path.stem}"
