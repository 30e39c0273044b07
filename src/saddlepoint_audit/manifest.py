"""A digest of every file that a run's claims rest on: whoever signs the list has signed the run."""

import hashlib
from pathlib import Path

from saddlepoint_audit.files import Refused, json_of

NAME = "manifest.json"
PARTS = ("spec.json", "summary.json", "rows", "adversarial", "evidence")
"""Of a run folder; what is added later, as a report is, is no part of it."""
PIECE = 2**20


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a run folder, by its name from there, in order."""
    files = [path for part in PARTS for path in (folder / part, *sorted((folder / part).rglob("*"))) if path.is_file()]
    return {path.relative_to(folder).as_posix(): digest(path) for path in files if path.name != NAME}


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    total = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                total.update(piece)
    except OSError as error:
        raise Refused(f"{path.name} cannot be read: {error}") from None
    return total.hexdigest()


def differing(folder: Path) -> list[str]:
    """Return one line for each file that the manifest does not tell of, that is gone, or that is another one.

    Raises:
        Refused: the manifest cannot be read.
    """
    told, there = json_of(folder / "evidence" / NAME), digests(folder)
    if not isinstance(told, dict) or not isinstance(told.get("files"), dict):
        raise Refused(f"{NAME} is no manifest")
    listed = told["files"]
    return [
        *(f"{name} is in no manifest" for name in there.keys() - listed.keys()),
        *(f"{name} is gone" for name in listed.keys() - there.keys()),
        *(
            f"{name} is not the file of the manifest"
            for name in there.keys() & listed.keys()
            if there[name] != listed[name]
        ),
    ]
