"""Verdicts: what was shown of an example and a set, and what records come to, example by example."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any

from saddlepoint.results.errors import RunError


class Verdict(StrEnum):
    """One word for what a certificate has shown, and never more than that.

    CERTIFIED: no point of the set is misclassified: the proven margin is finite and positive.
    FALSIFIED: a point of the set is misclassified, as the untouched model said of it.
    UNKNOWN: neither was shown.
    TIMEOUT: neither was shown, and the time was over.
    """

    CERTIFIED = "certified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"
    TIMEOUT = "timeout"


class Standing(StrEnum):
    """What all records together say of one example under one threat; each is in one of these, or has an error.

    MISCLASSIFIED: the clean image is.
    BROKEN: the clean image is right, and a point of the set was found that is not.
    CERTIFIED: it is proven that there is no such point.
    UNDECIDED: neither.
    """

    MISCLASSIFIED = "misclassified"
    BROKEN = "broken"
    CERTIFIED = "certified"
    UNDECIDED = "undecided"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Judged:
    """One example under one threat.

    Attributes:
        standing: what its records say.
        attack: which attack broke it.
        margin: the least margin that an attack has found; None where none ran.
        lower_bound: the best that was proven; None where no certificate ran.
        error: why there is no verdict.
        passes: forwards and backwards that the attacks had spent when the example was broken.
    """

    id: str
    index: int
    norm: str
    eps: float
    label: int | None
    standing: Standing
    attack: str | None = None
    margin: float | None = None
    lower_bound: float | None = None
    error: str | None = None
    passes: int | None = None


def judged(records: Iterable[Mapping[str, Any]]) -> list[Judged]:
    """Return the verdict of every (norm, ε, example) of the records, in that order.

    Raises:
        RunError: an example is broken and certified at once, which is a defect of an attack or of a certificate.
    """
    by_example = sorted(records, key=lambda row: (row["index"], row["id"]))
    return sorted(standings(by_example), key=lambda each: (each.norm, each.eps, each.index, each.id))


def standings(records: Iterable[Mapping[str, Any]]) -> Iterator[Judged]:
    """Yield the verdicts of records that are sorted by example, holding those of one example at a time.

    Raises:
        RunError: as `judged`.
    """
    for _, rows in groupby(records, key=lambda row: row["index"]):
        threats: dict[tuple[str, str, float], list[Mapping[str, Any]]] = {}
        for row in rows:
            threats.setdefault((row["id"], row["norm"], row["eps"]), []).append(row)
        yield from (_judged(threats[key]) for key in sorted(threats))


def standing_of(row: Mapping[str, Any]) -> Standing:
    """Return what one record says alone."""
    if row.get("error") is not None:
        return Standing.ERROR
    if not row["clean_correct"]:
        return Standing.MISCLASSIFIED
    if row.get("success"):
        return Standing.BROKEN
    return Standing.CERTIFIED if 0 < (row.get("lower_bound") or 0) < float("inf") else Standing.UNDECIDED


def _judged(rows: list[Mapping[str, Any]]) -> Judged:
    first = rows[0]
    found = [row for row in rows if row["error"] is None]
    attacks = [row for row in found if row["kind"] == "attack"]
    proofs = [row for row in found if row["kind"] == "certificate"]
    broken = next((row for row in attacks if row["success"]), None)
    bound = max((row["lower_bound"] for row in proofs), default=None)
    proven = any(row["lower_bound"] > 0 and row["lower_bound"] != float("inf") for row in proofs)
    right = all(row["clean_correct"] for row in found)
    if proven and right and broken is not None:
        raise RunError(
            f"{first['id']!r} is broken by {broken['attack']} and certified at once, at {first['norm']} eps "
            f"{first['eps']:g}; this is a defect of saddlepoint: please report it"
        )
    standing = (
        Standing.ERROR
        if not found
        else Standing.MISCLASSIFIED
        if not right
        else Standing.BROKEN
        if broken is not None
        else Standing.CERTIFIED
        if proven
        else Standing.UNDECIDED
    )
    return Judged(
        first["id"],
        first["index"],
        first["norm"],
        first["eps"],
        found[0]["label"] if found else first["label"],
        standing,
        broken["attack"] if broken is not None and standing is Standing.BROKEN else None,
        min((row["margin"] for row in attacks), default=None),
        bound,
        None if found else first["error"],
        broken["forwards"] + broken["backwards"] if broken is not None and standing is Standing.BROKEN else None,
    )
