"""The first steps of a writer: is the folder ours or empty, was the same thing asked, what did a kill leave behind."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saddlepoint.errors import InputError, RunError
from saddlepoint.results.folder.canonical import canonical, difference, digest
from saddlepoint.results.folder.documents import make_folder, remove, remove_parts, write_document
from saddlepoint.results.folder.reader import PROVENANCE, SPEC, SUMMARY, read_sessions, read_spec
from saddlepoint.results.folder.retention import Keep, check_keep
from saddlepoint.results.folder.shards import POINTS, ROWS, remove_pointless, remove_uncommitted

LOCK = "lock"
_SHOWN = 5


def asked(spec: Mapping[str, Any], keep: Keep) -> dict[str, Any]:
    """Return the specification with its rule of retention.

    Raises:
        InputError: `keep` is no rule, or the specification is not JSON or names another rule.
    """
    check_keep(keep)
    if spec.get("keep", keep) != keep:
        raise InputError(f"keep is {keep!r}, but the specification says {spec['keep']!r}; expected one of them")
    whole = {**spec, "keep": keep}
    canonical(whole)
    return whole


def claim(folder: Path) -> None:
    """Create the folder, or refuse one that holds something else; what is in it stays untouched.

    Raises:
        RunError: the folder cannot be made, or has other content.
    """
    make_folder(folder)
    if (folder / SPEC).exists():
        return
    # `spec.json` comes last, so a writer that was killed before leaves no more than this.
    early = {LOCK, ROWS, POINTS, PROVENANCE}
    inside = [path for name in (ROWS, POINTS) for path in (folder / name).glob("*")]
    present = [path for path in (*folder.iterdir(), *inside) if not path.name.startswith(".")]
    other = next((path for path in present if path.parent != folder or path.name not in early), None)
    if other is not None:
        raise RunError(
            f"{str(folder)!r} holds {str(other.relative_to(folder))!r} and no {SPEC}; expected a new folder, an "
            "empty one, or that of an earlier run"
        )


def begin(folder: Path, spec: dict[str, Any], provenance: Mapping[str, Any]) -> list[str]:
    """Bring a claimed folder, whose lock is held, into the state in which rows can be added.

    Returns:
        One line for each shard that was lost and is to be computed again.

    Raises:
        RunError: another specification was asked for before, or a file is torn, foreign or newer.
    """
    old = read_spec(folder) if (folder / SPEC).exists() else None
    changes = [] if old is None else difference(old, spec)
    if changes:
        more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        raise RunError(
            f"{str(folder)!r} holds a run of another specification ({'; '.join(changes[:_SHOWN])}{more}); go on with "
            "its own, or pass another folder"
        )
    for place in (folder / ROWS, folder / POINTS):
        make_folder(place)
        remove_parts(place)
    remove_parts(folder)
    lost = remove_pointless(folder)
    if lost:
        remove(folder / SUMMARY)  # it says that nothing is missing
    remove_uncommitted(folder)
    sessions = read_sessions(folder) if (folder / PROVENANCE).exists() else []
    write_document(folder / PROVENANCE, {"sessions": [*sessions, dict(provenance)]})
    if old is None:
        write_document(folder / SPEC, {"spec": spec, "digest": digest(spec)})
    return lost
