"""The proof that a network has a property, in one file, for an audit that reads network and property by itself.

Hints of each box find its bounds again; where the box was halved, the audit halves it, too, and the file says at which
sides (`saddlepoint_audit.properties`). A proof is kept only where the audit comes to it.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from saddlepoint.certificates.branching.boxes import Halvings as Found
from saddlepoint.certificates.branching.refutation import Refuted
from saddlepoint.certificates.evidence import arrays_of_hints, steps_of
from saddlepoint.certificates.listing import Listing
from saddlepoint.errors import CertificateError, InputError
from saddlepoint.properties.property import Box, Clause, Constraint, Property
from saddlepoint.results.folder.documents import write_bytes
from saddlepoint_audit.boxes import Halvings, split
from saddlepoint_audit.files import Refused
from saddlepoint_audit.operations import Values
from saddlepoint_audit.proofs import Hints, least_of
from saddlepoint_audit.properties import ARITHMETIC, VERSION, Question, questions, targets

Arithmetic = Literal["float32", "real"]

_MORE = 4
"""How many times as many boxes the audit may halve as the search did, which has slopes for each of them,"""
_FEWEST = 1000
"""and how many in any case."""


def asked_by(path: Path, declared: Property) -> tuple[list[Question], Property]:
    """Return what the audit reads in a file, if it is the property, and that in the audit's order.

    Raises:
        InputError: the audit does not read such files.
        CertificateError: it reads another property.
    """
    try:
        asked = questions(path)
    except Refused as error:
        raise InputError(f"no proof can be kept: {error}; expected a property of VNN-LIB 1") from None
    clauses = tuple(
        Clause(box, tuple(Constraint(*constraint) for constraint in clause))
        for question in asked
        for box in [Box(question.lower, question.upper)]
        for clause in question.clauses
    )
    ordered = Property(declared.inputs, declared.outputs, clauses)
    if _set_of(ordered) != _set_of(declared):
        raise CertificateError(
            f"{path.name} is read as two different properties: that is a bug of saddlepoint; please report it"
        )
    return asked, ordered


def _set_of(declared: Property) -> set[object]:
    """Return a property's clauses whatever their order, constraints in whole coefficients."""
    return {
        (box.lower, box.upper, frozenset(map(_whole, clause.constraints)))
        for box, clauses in declared.by_box()
        for clause in clauses
    }


def _whole(constraint: Constraint) -> tuple[frozenset[tuple[int, Fraction]], Fraction]:
    common = math.lcm(*(a.denominator for a in constraint.coefficients.values()))
    return frozenset((j, a * common) for j, a in constraint.coefficients.items()), constraint.bound * common


def kept(path: Path, listing: Listing, asked: Sequence[Question], refuted: Sequence[Refuted]) -> Arithmetic | None:
    """Write the proof if the audit comes to it, of every float32 execution or else of real arithmetic; return which.

    Args:
        path: the file.
        listing: the network, as the audit reads it.
        asked: the property, as it reads that.
        refuted: what the search has shown, box by box.
    """
    for arithmetic, unit in ARITHMETIC.items():
        if None not in (parts := [*_by_box(listing, asked, refuted, unit)]):
            _write(path, listing, parts, arithmetic)
            return "float32" if arithmetic == "float32" else "real"
    return None


def _by_box(
    listing: Listing, asked: Sequence[Question], refuted: Sequence[Refuted], unit: float
) -> Iterator[Hints | Halvings | None]:
    """Yield what proves each box, up to the first of which nothing does."""
    for question, own in zip(asked, refuted, strict=True):
        yield (part := _of_box(listing, question, own, unit))
        if part is None:
            return


def _of_box(listing: Listing, question: Question, own: Refuted, unit: float) -> Hints | Halvings | None:
    """Return the fewest hints from which the audit comes to a proof; None where it comes to none."""
    arrays = {name: tensor.numpy() for name, tensor in listing.arrays.items()}
    target = targets(question, listing.entries, arrays)
    hints = [] if own.hints is None else [replace(own.hints, rows={}, bent={}), own.hints]
    for one in hints:
        if least_of(target[0], question.region, *target[1:], one, unit) > 0:
            return one
    if own.halvings is not None:
        # Without slopes a file is small; of many parts that is not even tried, for each takes milliseconds.
        tries = ((False, _FEWEST + own.domains), (True, _FEWEST + _MORE * own.domains))
        for bent, most in tries[own.domains > _FEWEST :]:
            steps = _Followed(own.halvings, bent=bent, most=most)
            try:
                if split(target[0], question.region, *target[1:], steps, unit) > 0:
                    return steps.kept()
            except Refused:
                continue
    return None


@final
class _Followed:
    """Follows how the search has halved a box, chooses by itself where the search needed no halves; keeps both."""

    def __init__(self, search: Found, *, bent: bool, most: int) -> None:
        self._search, self._bent, self._most = search, bent, most
        self._todo: list[int | None] = [0]
        self._now: int | None = None
        self._sides, self._numbers = list[int](), list[int]()
        self._slopes = list[dict[int, NDArray[np.uint8]]]()

    def slopes(self) -> Mapping[int, NDArray[np.uint8]]:
        """Return those that the search had for the next part."""
        self._now = self._todo.pop()
        own = self._search.slopes.get(self._now, {}) if self._bent and self._now is not None else {}
        steps = {place: steps_of(own[i].flatten(1)) for place, i in enumerate(sorted(own))}
        self._sides.append(-1)
        self._numbers.append(len(self._slopes) if steps else -1)
        self._slopes += [steps] if steps else []
        return steps

    def side(self, slope: Values, width: Values) -> int:
        """Return that of the search, or the one along which the forms change most; −1 after too many."""
        if len(self._sides) > self._most:
            return -1
        known = None if self._now is None else self._search.halved.get(self._now)
        steepest = int((np.abs(slope).max(0) * width + 1e-6 * width).argmax())
        side, lower, upper = (steepest, None, None) if known is None else known
        self._sides[-1] = side
        self._todo += [upper, lower]
        return side

    def kept(self) -> Halvings:
        """Return what was taken, as the audit reads it."""
        names = self._slopes[0].keys() if self._slopes else ()
        slopes: dict[int, NDArray[Any]] = {k: np.stack([one[k] for one in self._slopes]) for k in names}
        return Halvings(np.array(self._sides, np.int32), np.array(self._numbers, np.int32), slopes)


def _write(path: Path, listing: Listing, parts: Sequence[Hints | Halvings | None], arithmetic: str) -> None:
    from safetensors.numpy import save

    arrays = {f"network/{name}": tensor.numpy() for name, tensor in listing.arrays.items()}
    kinds = list[str]()
    for box, own in enumerate(parts):
        if isinstance(own, Hints):
            kinds.append("lines" if own.bounded else "intervals")
            arrays |= {f"{box}/{name}": array for name, array in arrays_of_hints(own).items()}
        elif own is not None:
            kinds.append("halves")
            arrays |= {f"{box}/sides": own.sides, f"{box}/bent": own.bent}
            arrays |= {f"{box}/slopes/{place}": steps for place, steps in own.neurons.items()}
    about = {
        "saddlepoint-property": VERSION,
        "network": json.dumps(listing.entries),
        "arithmetic": arithmetic,
        "boxes": json.dumps(kinds),
    }
    write_bytes(path.absolute(), save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, about))
