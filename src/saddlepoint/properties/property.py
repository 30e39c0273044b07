"""What must not happen: inputs of a box whose outputs meet linear constraints.

A property is a union of clauses

    {x : l ≤ x ≤ u, A h(x) ≤ b}

and holds if all of them are empty ("unsat"). A point in one is a counterexample ("sat"). Numbers are exact: decimals
of a file are fractions, not the nearest float.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray

from saddlepoint.errors import InputError

Array = NDArray[np.float64]
Number = float | Fraction

_WHOLE = 2**53
"""Integers up to this are float64 numbers."""


@final
@dataclass(frozen=True, slots=True)
class Constraint:
    """⟨a, y⟩ ≤ b, or < b.

    Attributes:
        coefficients: a, by the position in the flattened output; none is 0.
        bound: b.
        strict: whether equality does not count.
    """

    coefficients: Mapping[int, Fraction]
    bound: Fraction
    strict: bool = False

    def met(self, y: Sequence[Number]) -> bool:
        """Whether finite outputs meet it, without any rounding."""
        value = sum((a * Fraction(y[j]) for j, a in self.coefficients.items()), start=Fraction(0))
        return value < self.bound if self.strict else value <= self.bound

    def scaled(self) -> tuple[dict[int, float], float]:
        """Return the same half-space with coefficients that float64 holds, and b rounded up.

        Raises:
            InputError: the coefficients have no common multiple that float64 holds.
        """
        common = math.lcm(*(a.denominator for a in self.coefficients.values()))
        numbers = {j: a * common for j, a in self.coefficients.items()}
        if any(abs(a) > _WHOLE for a in numbers.values()):
            raise InputError("a constraint has coefficients of too many digits; expected such as 0.125 or 3")
        return {j: float(a) for j, a in numbers.items()}, _up(self.bound * common)


@final
@dataclass(frozen=True, eq=False)
class Box:
    """{x : l ≤ x ≤ u}, of flattened inputs.

    Attributes:
        lower: l.
        upper: u.
    """

    lower: tuple[Fraction, ...]
    upper: tuple[Fraction, ...]

    @property
    def empty(self) -> bool:
        """Whether no real point is in it."""
        return any(low > high for low, high in zip(self.lower, self.upper, strict=True))

    @cached_property
    def outer(self) -> tuple[Array, Array]:
        """The least float64 box that holds it."""
        low = np.array([-_up(-value) for value in self.lower])
        return low, np.array([_up(value) for value in self.upper])

    @cached_property
    def inner(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The largest float32 box in it, empty where l > u: witnesses lie there.

        It is also in the box of the nearest float64 numbers, by which others may read the same decimals.
        """
        low = [-_single(-max(value, _nearest(value))) for value in self.lower]
        high = [_single(min(value, _nearest(value))) for value in self.upper]
        return np.array(low, np.float32), np.array(high, np.float32)

    def holds(self, x: Sequence[Number]) -> bool:
        """Whether a point is in it, without any rounding."""
        return all(a <= Fraction(v) <= b for a, v, b in zip(self.lower, x, self.upper, strict=True))


@final
@dataclass(frozen=True, eq=False)
class Clause:
    """{x ∈ box : all constraints hold of h(x)}."""

    box: Box
    constraints: tuple[Constraint, ...]

    def met(self, x: Sequence[Number], y: Sequence[Number]) -> bool:
        """Whether x with h(x) = y is a counterexample."""
        return all(map(math.isfinite, y)) and self.box.holds(x) and all(one.met(y) for one in self.constraints)


@final
@dataclass(frozen=True, slots=True)
class Variable:
    """An input or output as a file declares it: its name, the type of its elements, and its shape."""

    name: str
    kind: str
    shape: tuple[int, ...]


@final
@dataclass(frozen=True, eq=False)
class Property:
    """A union of clauses, none of which may have a point.

    Attributes:
        inputs: how many numbers an input has.
        outputs: how many an output has.
        clauses: what must not happen; those of one box share it.
        declared: input and output as a file of version 2 declares them; None of version 1.
    """

    inputs: int
    outputs: int
    clauses: tuple[Clause, ...]
    declared: tuple[Variable, Variable] | None = None

    def by_box(self) -> list[tuple[Box, list[Clause]]]:
        """Return the clauses, box by box, without those that no input can meet."""
        groups: dict[int, tuple[Box, list[Clause]]] = {}
        for clause in self.clauses:
            if not clause.box.empty:
                groups.setdefault(id(clause.box), (clause.box, []))[1].append(clause)
        return list(groups.values())


def robustness(lower: Array, upper: Array, label: int, classes: int) -> Property:
    """Return the property that all inputs of a box have this label: no other class has a logit as large.

    Args:
        lower: the least value of each coordinate, any shape.
        upper: the greatest, of the same shape.
        label: y.
        classes: how many logits there are.
    """
    low, high = (tuple(map(Fraction, np.asarray(side, np.float64).ravel().tolist())) for side in (lower, upper))
    box, one = Box(low, high), Fraction(1)
    others = (j for j in range(classes) if j != label)
    clauses = tuple(Clause(box, (Constraint({label: one, j: -one}, Fraction(0)),)) for j in others)
    return Property(len(low), classes, clauses)


def _nearest(value: Fraction) -> Fraction:
    """Return the nearest float64 number; the number itself where all are too small."""
    try:
        return Fraction(float(value))
    except OverflowError:
        return value


def _up(value: Fraction) -> float:
    """Return the least float64 number that is not below."""
    try:
        near = float(value)
    except OverflowError:
        return math.inf if value > 0 else -float(np.finfo(np.float64).max)
    return near if Fraction(near) >= value else math.nextafter(near, math.inf)


def _single(value: Fraction) -> np.float32:
    """Return the greatest float32 number that is not above."""
    with np.errstate(over="ignore"):
        near = np.float32(_up(value))
    if not np.isfinite(near):
        return np.float32(-np.inf) if near < 0 else np.finfo(np.float32).max
    return near if Fraction(float(near)) <= value else np.nextafter(near, np.float32(-np.inf))
