"""A property of VNN-LIB 1, read a second time, and the proof that a network has it.

A property is a union of clauses {x : l ≤ x ≤ u, A h(x) ≤ b}; it holds if none has a point. Every comparison is read
with ≤, as the competitions do: what holds of the closed set holds of the open one. Numbers are fractions.

A clause of one constraint is refuted where ⟨a, h(x)⟩ − b > 0 on its box; one of several where the largest of these is,
max(v, w) = v + relu(w − v), whose operations are appended to the network here.
"""

import gzip
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from saddlepoint_audit.boxes import Halvings, split
from saddlepoint_audit.enclosures import FLOAT32, REAL, Region
from saddlepoint_audit.files import BROKEN, Array, Refused, arrays_of
from saddlepoint_audit.operations import MOST, Network, Values
from saddlepoint_audit.proofs import Hints, least_of

VERSION = "1"
ARITHMETIC = {"float32": FLOAT32, "real": REAL}
WORD = re.compile(r"[()]|[^\s();]+|;[^\n]*")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
VARIABLE = re.compile(r"[XY]_\d{1,9}")
CLAUSES = 2**17
"""That a property may have, multiplied out."""

Linear = dict[str, Fraction]
"""Σ a_v v + c over variables v such as X_0; c stands at ""."""
Clause = tuple[Linear, ...]
"""Of these, none above 0."""
Constraint = tuple[Mapping[int, Fraction], Fraction]
"""a, by the place of the output, and b of ⟨a, y⟩ ≤ b."""


@dataclass(frozen=True)
class Question:
    """One box, and the constraints of each clause over it."""

    lower: tuple[Fraction, ...]
    upper: tuple[Fraction, ...]
    clauses: tuple[tuple[Constraint, ...], ...]

    @property
    def region(self) -> Region:
        """The least box of float64 numbers that holds it."""
        low, high = np.array([-up(-v) for v in self.lower]), np.array([up(v) for v in self.upper])
        if not (np.maximum(np.abs(low), np.abs(high)) < MOST).all():
            raise Refused("a bound of an input is too large")
        return Region(low, high, (low + high) / 2, 0.0, "linf")


def questions(path: Path) -> list[Question]:
    """Return what a file asks, box by box; boxes without a point ask nothing.

    Raises:
        Refused: something in it is not read here.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode()
        return _questions(list(_expressions(text)))
    except (OSError, EOFError, *BROKEN) as error:
        raise Refused(f"{path.name} cannot be read: {error}") from None


def _expressions(text: str) -> Iterator[Any]:
    """Yield s-expressions as nested lists."""
    stack: list[list[Any]] = [[]]
    for word in WORD.findall(text):
        if word == "(":
            stack.append([])
        elif word == ")" and len(stack) > 1:
            stack[-2].append(stack.pop())
        elif not word.startswith(";"):
            stack[-1].append(word)
    if len(stack) != 1:
        raise ValueError("a parenthesis is never closed")
    yield from stack[0]


def _questions(expressions: Sequence[Any]) -> list[Question]:
    declared, clauses = list[str](), [Clause()]
    for expression in expressions:
        match expression:
            case ["declare-const", str(name), "Real"] if VARIABLE.fullmatch(name) and name not in declared:
                declared.append(name)
            case ["assert", list(formula)]:
                clauses = _both(clauses, _formula(formula, declared))
            case _:
                raise ValueError(f"{str(expression)!r:.60} is not understood; expected VNN-LIB of version 1")
    inputs = sum(name[0] == "X" for name in declared)
    asked: dict[tuple[tuple[Fraction, ...], ...], list[tuple[Constraint, ...]]] = {}
    for clause in clauses:
        asked.setdefault(_box(clause, inputs), []).append(tuple(map(_constraint, filter(_of_output, clause))))
    return [
        Question(low, high, tuple(own))
        for (low, high), own in asked.items()
        if all(a <= b for a, b in zip(low, high, strict=True))
    ]


def _both(one: Sequence[Clause], other: Sequence[Clause]) -> list[Clause]:
    if len(one) * len(other) > CLAUSES:
        raise ValueError(f"it multiplies out to more than {CLAUSES} clauses")
    return [(*a, *b) for a in one for b in other]


def _formula(formula: Any, declared: Sequence[str]) -> list[Clause]:  # noqa: ANN401 - nested lists
    """Return a formula as a disjunction of clauses."""
    match formula:
        case ["and", *parts]:
            clauses = [Clause()]
            for part in parts:
                clauses = _both(clauses, _formula(part, declared))
            return clauses
        case ["or", *parts]:
            return [clause for part in parts for clause in _formula(part, declared)]
        case ["<=" | "<", less, more]:
            return [(_plus(_linear(less, declared), _linear(more, declared), -1),)]
        case [">=" | ">", more, less]:
            return [(_plus(_linear(less, declared), _linear(more, declared), -1),)]
        case _:
            raise ValueError(f"{str(formula)!r:.60} is not understood; expected and, or, <=, >=")


def _linear(item: Any, declared: Sequence[str]) -> Linear:  # noqa: ANN401 - nested lists
    match item:
        case str(word) if NUMBER.fullmatch(word):
            return {"": Fraction(word)}
        case str(word) if word in declared:
            return {word: Fraction(1)}
        case ["+", first, *rest]:
            return (
                _plus(_linear(first, declared), _linear(["+", *rest], declared)) if rest else _linear(first, declared)
            )
        case ["-", only]:
            return _plus({}, _linear(only, declared), -1)
        case ["-", first, *rest]:
            return _plus(_linear(first, declared), _linear(["+", *rest], declared), -1)
        case ["*", str(factor), other] if NUMBER.fullmatch(factor):
            return _plus({}, _linear(other, declared), Fraction(factor))
        case _:
            raise ValueError(f"{str(item)!r:.60} is no linear expression of declared variables")


def _plus(one: Linear, other: Linear, factor: Fraction | int = 1) -> Linear:
    return {v: one.get(v, Fraction(0)) + factor * other.get(v, Fraction(0)) for v in {**one, **other}}


def _variables(linear: Linear) -> set[str]:
    return {v for v, a in linear.items() if v and a}


def _of_output(linear: Linear) -> bool:
    return any(v[0] == "Y" for v in _variables(linear))


def _box(clause: Clause, inputs: int) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """Return what bounds of single inputs leave."""
    lower, upper = dict[str, Fraction](), dict[str, Fraction]()
    for linear in clause:
        names = _variables(linear)
        if _of_output(linear):
            if any(name[0] == "X" for name in names):
                raise ValueError("a constraint has both inputs and outputs")
            continue
        (name,) = names  # another number of them is not understood
        limit = -linear.get("", Fraction(0)) / linear[name]
        if linear[name] > 0:
            upper[name] = min(limit, upper.get(name, limit))
        else:
            lower[name] = max(limit, lower.get(name, limit))
    every = [f"X_{i}" for i in range(inputs)]
    return tuple(lower[name] for name in every), tuple(upper[name] for name in every)


def _constraint(linear: Linear) -> Constraint:
    """Return a constraint in whole coefficients."""
    coefficients = {int(v[2:]): a for v, a in linear.items() if v and a}
    common = math.lcm(*(a.denominator for a in coefficients.values()))
    return {j: a * common for j, a in coefficients.items()}, -linear.get("", Fraction(0)) * common


def up(value: Fraction) -> float:
    """Return the least float64 number that is not below."""
    near = float(value)
    return near if Fraction(near) >= value else math.nextafter(near, math.inf)


def targets(
    question: Question, entries: list[dict[str, Any]], arrays: Mapping[str, Array]
) -> tuple[Network, Values, Values]:
    """Return a network, functionals of its output, (D, m), and what each must exceed for its clause to be refuted.

    Args:
        question: of one box.
        entries: the network's list.
        arrays: by `{position}/{name}`.
    """
    network = Network.of(entries, arrays)
    if not all(question.clauses):
        raise Refused("a clause has no constraint: every point of its box meets it")
    parts = [[_row(constraint, network.operations[-1].size) for constraint in clause] for clause in question.clauses]
    if all(len(own) == 1 for own in parts):
        rows, thresholds = zip(*(own[0] for own in parts), strict=True)
        return network, np.array(rows), np.array(thresholds)
    listed, own, count = list(entries), dict(arrays), len(parts)

    def added(kind: str, parents: list[int], **more: Array) -> int:
        own.update({f"{len(listed)}/{name}": array for name, array in more.items()})
        listed.append({"kind": kind, "parents": parents, "shape": [count]})
        return len(listed) - 1

    last, largest = len(entries) - 1, -1
    for layer in zip_longest(*parts):
        # Of a clause that has fewer constraints the first stands again: the largest is the same.
        filled = [clause[0] if one is None else one for one, clause in zip(layer, parts, strict=True)]
        weight, offset = np.array([row for row, _ in filled]), -np.array([bound for _, bound in filled])
        value = added("dense", [last], weight=weight, offset=offset)
        if largest >= 0:
            gap = added("sum", [value, largest], scales=np.array([1.0, -1.0]))
            value = added("max", [largest, added("relu", [gap]), value])
        largest = value
    return Network.of(listed, own), np.eye(count), np.zeros(count)


def _row(constraint: Constraint, outputs: int) -> tuple[Values, float]:
    """Return a, which float64 holds, and b rounded up."""
    coefficients, bound = constraint
    row = np.zeros(outputs)
    for place, a in coefficients.items():
        if place >= outputs or abs(a) > 2**53:
            raise Refused("a constraint is of an output that there is not, or has coefficients of too many digits")
        row[place] = float(a)
    return row, up(bound)


@dataclass(frozen=True, eq=False)
class Proof:
    """The file of a proof: the network's list and arrays, and by box how it is halved, or hints."""

    entries: list[dict[str, Any]]
    arrays: Mapping[str, Array]
    arithmetic: str
    boxes: Mapping[int, Hints | Halvings]

    @classmethod
    def read(cls, path: Path) -> "Proof":
        """Return the proof of a file.

        Raises:
            Refused: it holds something else.
        """
        arrays, about = arrays_of(path)
        if about.get("saddlepoint-property") != VERSION:
            raise Refused(f"{path.name} holds no proof of a property of this version")
        try:
            owned: dict[str, dict[str, Array]] = {}
            for name, array in arrays.items():
                owner, _, rest = name.partition("/")
                owned.setdefault(owner, {})[rest] = array
            network = owned.pop("network", {})
            kinds = json.loads(about["boxes"])
            boxes = {
                b: Halvings.of(own) if kind == "halves" else Hints.of(own, kind == "lines")
                for b, kind in enumerate(kinds)
                for own in [owned.get(str(b), {})]
            }
            if about["arithmetic"] not in ARITHMETIC or any(k not in ("halves", "lines", "intervals") for k in kinds):
                raise ValueError("its arithmetic or a kind of proof is not known")
            return cls(json.loads(about["network"]), network, about["arithmetic"], boxes)
        except BROKEN as error:
            raise Refused(f"{path.name} is no proof: {type(error).__name__} {error}") from None

    def least(self, asked: Sequence[Question]) -> float:
        """Return the least violation that is proven over all clauses; positive: the property holds.

        Raises:
            Refused: the proof does not fit the network or the property.
        """
        if len(asked) != len(self.boxes):
            raise Refused(f"the property has {len(asked)} boxes, the proof is of {len(self.boxes)}")
        return min((self._least(question, self.boxes[box]) for box, question in enumerate(asked)), default=math.inf)

    def _least(self, question: Question, own: Hints | Halvings) -> float:
        unit = ARITHMETIC[self.arithmetic]
        network, rows, thresholds = targets(question, self.entries, self.arrays)
        if len(question.lower) != network.operations[0].size:
            raise Refused(f"the property has {len(question.lower)} inputs, the network has others")
        if isinstance(own, Hints):
            return least_of(network, question.region, rows, thresholds, own, unit)
        least = split(network, question.region, rows, thresholds, own, unit)
        if own.done != len(own.sides):
            raise Refused("the proof goes on behind its end")
        return least
