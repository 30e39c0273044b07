"""Whether a run folder is sound: every file read, every point compared with what was written."""

import math
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from saddlepoint.errors import InputError, RunError
from saddlepoint.results.folder.documents import read_document
from saddlepoint.results.folder.merged import load, records_of
from saddlepoint.results.folder.points import read_points, stored
from saddlepoint.results.folder.reader import SPEC, SUMMARY, read_sessions, read_spec
from saddlepoint.results.folder.shards import names, points_path, read_rows, rows_path
from saddlepoint.results.records.radius import spelled
from saddlepoint.results.records.record import Attacked
from saddlepoint.results.records.schema import checked
from saddlepoint.results.records.summary import summarise


def check_run(path: str | Path) -> list[str]:
    """Return one line for everything that is wrong with a run folder; none when it is sound."""
    folder = Path(path).absolute()
    if not (folder / SPEC).is_file():
        return [f"{str(folder)!r} is no run folder: it has no {SPEC}"]
    parts = [_documents(folder), _summary(folder), _against_spec(folder)]
    try:
        parts += [_shard(folder, name) for name in names(folder)]
    except RunError as error:
        return [str(error)]
    return list(dict.fromkeys(line for part in parts for line in part))


def _documents(folder: Path) -> Iterator[str]:
    for read in (read_spec, read_sessions):
        try:
            read(folder)
        except RunError as error:
            yield str(error)


def _summary(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the rows together, and with what is said to follow from them."""
    try:
        summary = summarise(load(folder))
        if (folder / SUMMARY).exists() and read_document(folder / SUMMARY) != summary:
            yield f"{str(folder / SUMMARY)!r} does not follow from the rows; the same command writes it again"
    except RunError as error:
        yield str(error)


def _against_spec(folder: Path) -> Iterator[str]:
    """Yield where records contradict the specification: other threats, points outside, missing examples."""
    try:
        spec, records = read_spec(folder), list(records_of(load(folder)))
    except RunError:
        return  # named elsewhere
    threats = {(threat["norm"], threat["eps"]) for threat in spec.get("threats", ())}
    for record in records:
        threat = (record.norm, record.eps)
        if threats and threat not in threats:
            asked = ", ".join(f"{norm} eps {spelled(eps)}" for norm, eps in sorted(threats))
            yield f"the record {record.key!r} is of {threat[0]} eps {threat[1]:g}; the specification asks for {asked}"
        yield from _contradictions(record) if isinstance(record, Attacked) else ()
    expected = spec.get("data", {}).get("examples")
    present = {threat: {record.id for record in records if (record.norm, record.eps) == threat} for threat in threats}
    if expected is not None and (folder / SUMMARY).exists():
        for (norm, eps), identities in sorted(present.items()):
            if len(identities) != expected:
                have = f"{len(identities)} of {expected} examples have a record"
                yield f"{have} at {norm} eps {spelled(eps)}, in a finished run"


def _contradictions(attack: Attacked) -> Iterator[str]:
    """Yield what cannot be true of one record."""
    size: float = getattr(attack, attack.norm)
    if attack.distance > attack.eps:
        yield f"the point of {attack.id!r} lies {attack.distance:.9g} away, beyond eps {attack.eps:.9g}"
    if not math.isclose(attack.distance, size, rel_tol=1e-6):
        yield f"the record of {attack.id!r} has distance {attack.distance:.9g} and {attack.norm} {size:.9g}"
    if attack.success == (attack.margin > 0) and attack.accuracy in (0, 1):
        yield f"the record of {attack.id!r} has success {attack.success} and the margin {attack.margin:.4g}"
    if attack.clean_correct and attack.clean_margin < 0:
        yield f"the record of {attack.id!r} is correct on the clean image, by the margin {attack.clean_margin:.4g}"


def _shard(folder: Path, name: str) -> Iterator[str]:
    try:
        rows, there = read_rows(folder, name).to_pylist(), stored(points_path(folder, name))
    except RunError as error:
        yield str(error)
        return
    for row in rows:
        try:
            checked(row)
        except InputError as error:
            yield f"{str(rows_path(folder, name))!r}: {error}"
    kept = {row["key"] for row in rows if row["kept"]}
    if kept & there:
        try:
            deque(read_points(points_path(folder, name), sorted(kept & there)), maxlen=0)
        except RunError as error:
            yield str(error)
    for identity in sorted(kept - there):
        yield f"the point of {identity!r} is missing; expected it in {str(points_path(folder, name))!r}"
    for identity in sorted(there - kept):
        yield f"{str(points_path(folder, name))!r} holds a point of {identity!r}, which no row keeps"
