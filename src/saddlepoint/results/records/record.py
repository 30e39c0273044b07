"""A record: what one method found for one example under one threat. Its key is (kind, norm, ε, id)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

SUITE, PROBED, VOTES = "suite", "probe", "smoothing"
"""Names of records: of attacks, of a short search, and of those that are `Voted`; others are methods of `certify`."""
NORMS = ("linf", "l2", "l1")
"""Of balls; x_adv − x is measured in each."""


def proves(bound: float) -> bool:
    """Tell whether a lower bound on the margin is a proof: 0 < bound < ∞.

    A bound of ∞ is a defect of whoever computed it, for no logits differ by that much.
    """
    return 0 < bound < math.inf


def key_of(kind: str, norm: str, eps: float, identity: str) -> str:
    """Return the key of a record as one text.

    Args:
        kind: "attack" or "certificate".
        norm: the name of the ball.
        eps: ε, in pixels.
        identity: of the example.
    """
    return f"{kind} {norm} {eps!r} {identity}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What every record says: which example, under which threat, by which method.

    Attributes:
        id: stable identity of the example in its data set.
        index: place of the example in the data set, from 0.
        digest: SHA-256 of pixels and label; None if the example could not be read.
        label: the true class y; likewise.
        norm: of the ball: "linf", "l2" or "l1".
        eps: its radius, for pixels in [0, 1].
        name: of a certificate, its method, such as "crown"; of an attack "suite", or "probe" for a short search.
        method: the same with all its settings, as one line for people.
    """

    kind: ClassVar[str]
    id: str
    index: int
    digest: str | None
    label: int | None
    norm: str
    eps: float
    name: str
    method: str

    @property
    def key(self) -> str:
        """Kind, norm, ε and id, as one text: the key of the record and of its point."""
        return key_of(self.kind, self.norm, self.eps, self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked(_Record):
    """What attacks found; `COLUMNS` says what each field means.

    `margin` is z_y − max_{j≠y} z_j at the point, in logits; distances are of x_adv − x, for pixels in [0, 1].
    """

    kind: ClassVar[str] = "attack"
    target: int | None = None
    clean_label: int
    clean_margin: float
    clean_correct: bool
    success: bool
    accuracy: float
    attack: str | None
    restart: int
    adversarial_label: int
    margin: float
    distance: float
    linf: float
    l2: float
    l1: float
    steps: int
    forwards: int
    backwards: int
    seconds: float | None = None
    doubts: tuple[str, ...] = ()
    kept: bool = False

    @property
    def broken(self) -> bool:
        """Whether an attack broke it; what is wrong from the start, no attack has broken."""
        return self.success and self.attack != "clean"

    @property
    def stands(self) -> bool:
        """Whether the clean image is classified correctly, and no attack broke it."""
        return self.clean_correct and not self.success


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified(_Record):
    """What a bound proves: the margin is at least `lower_bound` on the whole set, in logits; −∞ if none was found."""

    kind: ClassVar[str] = "certificate"
    clean_label: int
    clean_margin: float
    clean_correct: bool
    lower_bound: float
    tolerance: float
    seconds: float | None = None
    domains: int | None = None

    @property
    def proven(self) -> bool:
        """Whether no point of the set is misclassified."""
        return self.clean_correct and proves(self.lower_bound)


@dataclass(frozen=True, slots=True, kw_only=True)
class Voted(_Record):
    """What votes under noise prove: the class is constant on the ℓ2 ball of this radius, for pixels in [0, 1].

    Abstaining counts as misclassified, with a radius of 0.
    """

    kind: ClassVar[str] = "certificate"
    clean_label: int
    clean_correct: bool
    radius: float
    seconds: float | None = None

    @property
    def proven(self) -> bool:
        """Whether the certified ball holds that of the threat."""
        return self.clean_correct and self.eps < self.radius < math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(_Record):
    """Why nothing can be said of an example."""

    kind: ClassVar[str] = "attack"
    error: str


Proof = Certified | Voted
Record = Attacked | Certified | Voted | Failed
RECORDS: tuple[type[Record], ...] = (Attacked, Certified, Voted, Failed)
FIELDS: dict[type[Record], tuple[str, ...]] = {record: tuple(f.name for f in fields(record)) for record in RECORDS}


def type_of(row: Mapping[str, Any]) -> type[Record]:
    """Return which record a row holds."""
    if row.get("error") is not None:
        return Failed
    if row.get("kind") == Attacked.kind:
        return Attacked
    return Voted if row.get("name") == VOTES else Certified


def from_row(row: Mapping[str, Any]) -> Record:
    """Return the record that a row of a run folder holds."""
    made = type_of(row)
    values = {name: row[name] for name in FIELDS[made]}
    if made is Attacked:
        values["doubts"] = tuple(row["doubts"].split(", ")) if row["doubts"] else ()
    return made(**values)


def to_row(record: Record) -> dict[str, Any]:
    """Return the record by column; columns that it lacks are missing."""
    values = {name: getattr(record, name) for name in FIELDS[type(record)]}
    if isinstance(record, Attacked):
        values["doubts"] = ", ".join(record.doubts) or None
    return {"kind": record.kind, **values, "key": record.key}
