"""VNN-LIB: properties of networks as text, version 1 as the competitions use it, and version 2.

A file is a list of s-expressions; each is read with its line, so that what is not understood is named by it. An
assertion is brought to a disjunction of conjunctions of linear comparisons, and the conjunction of all assertions is
multiplied out.
"""

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import final

from saddlepoint.errors import InputError
from saddlepoint.properties.property import Box, Clause, Constraint, Property, Variable

LARGEST = 2**28
"""Bytes that a file may have, or unfold to."""
_CLAUSES = 2**17
"""Clauses that assertions may multiply out to."""
_DEEP = 200
"""Parentheses inside of each other."""

_TOKEN = re.compile(r'[()\[\],]|"[^"\n]*"|[^\s()\[\],;"]+|;[^\n]*|\n')
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_OLD = re.compile(r"([XY])_(\d{1,9})")
_ORDER = {"<=": (1, False), "<": (1, True), ">=": (-1, False), ">": (-1, True)}
_TYPES = ("real", "float16", "float32", "float64")


@final
@dataclass(frozen=True, slots=True)
class Word:
    """A name, a number or a sign, and the line that it stands in."""

    text: str
    line: int


@final
@dataclass(frozen=True, slots=True)
class Form:
    """What stands between parentheses, and the line where it begins."""

    items: "tuple[Word | Form, ...]"
    line: int

    @property
    def head(self) -> str:
        """What it begins with; nothing where that is no word."""
        return self.items[0].text if self.items and isinstance(self.items[0], Word) else ""


Item = Word | Form
Terms = dict[tuple[str, int], Fraction]


@final
@dataclass(frozen=True, slots=True)
class Linear:
    """Σ a_v v + c over variables v: ("X", i) and ("Y", j)."""

    terms: Terms
    constant: Fraction = Fraction(0)

    def plus(self, other: "Linear", factor: Fraction = Fraction(1)) -> "Linear":
        """Return self + factor · other."""
        terms = dict(self.terms)
        for variable, a in other.terms.items():
            terms[variable] = terms.get(variable, Fraction(0)) + factor * a
        return Linear({v: a for v, a in terms.items() if a}, self.constant + factor * other.constant)

    def times(self, factor: Fraction) -> "Linear":
        """Return factor · self."""
        return Linear({}).plus(self, factor)


@final
@dataclass(frozen=True, slots=True)
class Atom:
    """linear ≤ 0, or < 0, and the line that it stands in."""

    linear: Linear
    strict: bool
    line: int


Dnf = list[tuple[Atom, ...]]


def read_property(path: str | Path) -> Property:
    """Return the property in a VNN-LIB file, which may be compressed by gzip.

    Raises:
        InputError: there is no such file, or something in it is not understood, named with its line.
    """
    try:
        return parse(_text(Path(path)))
    except InputError as error:
        raise InputError(f"{str(path)!r}: {error}") from None


def parse(text: str) -> Property:
    """Return the property in the text of a VNN-LIB file.

    Raises:
        InputError: something is not understood, named with its line.
    """
    forms = _forms(text)
    reading = _Reading()
    for form in forms:
        reading.take(form)
    return reading.property()


def _text(path: Path) -> str:
    expected = "expected a VNN-LIB file, or one compressed by gzip"
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if data.startswith(b"\x1f\x8b"):
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(LARGEST + 1)
    except FileNotFoundError:
        raise InputError(f"there is no such file; {expected}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"it cannot be read ({str(error)[:80]}); {expected}") from None
    if len(data) > LARGEST:
        raise InputError(f"it has more than {LARGEST} bytes; {expected}")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InputError(f"it is no text; {expected}") from None


def _words(text: str) -> Iterator[Word]:
    """Yield parentheses, names, numbers and signs, with their lines; comments are left out."""
    line = 1
    for match in _TOKEN.finditer(text):
        if match.group() == "\n":
            line += 1
        elif match.group()[0] != ";":
            yield Word(match.group(), line)


def _forms(text: str) -> list[Form]:
    """Return the s-expressions of a text."""
    done, stack = list[Item](), list[tuple[int, list[Item]]]()
    for word in _words(text):
        inner = stack[-1][1] if stack else done
        if word.text == "(":
            stack.append((word.line, []))
        elif not stack:
            raise _wrong(word.line, f"{word.text[:40]!r} stands outside of parentheses")
        elif word.text == ")":
            line, items = stack.pop()
            (stack[-1][1] if stack else done).append(Form(tuple(items), line))
        else:
            inner.append(word)
        if len(stack) > _DEEP:
            raise _wrong(word.line, f"more than {_DEEP} parentheses are open")
    if stack:
        raise _wrong(stack[-1][0], "a parenthesis is never closed")
    return [form for form in done if isinstance(form, Form)]


def _wrong(line: int, what: str, expected: str = "") -> InputError:
    return InputError(f"line {line}: {what}" + (f"; expected {expected}" if expected else ""))


@dataclass
class _Reading:
    """What is known of a file so far: version 1 declares X_i and Y_j one by one, version 2 networks with variables."""

    sizes: dict[str, int] = field(default_factory=lambda: {"X": 0, "Y": 0})
    seen: set[tuple[str, int]] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    declared: dict[str, Variable] = field(default_factory=dict)
    modern: bool = False
    asserts: list[Dnf] = field(default_factory=list)
    line: int = 1

    def take(self, form: Form) -> None:
        """Read one statement."""
        statements: dict[str, Callable[[Form], None]] = {
            "vnnlib-version": self._version,
            "declare-const": self._constant,
            "declare-network": self._network,
            "assert": self._assertion,
        }
        self.line = form.line
        if form.head not in statements:
            raise _wrong(form.line, f"the statement {form.head[:40]!r} is not known", ", ".join(statements))
        statements[form.head](form)

    def _version(self, form: Form) -> None:
        text = form.items[1].text if len(form.items) == 2 and isinstance(form.items[1], Word) else ""
        if not re.fullmatch(r"<?2\.\d+>?", text):
            raise _wrong(form.line, f"the version {text[:20]!r} is not known", "<2.0>, or no statement for version 1")
        self.modern = True

    def _constant(self, form: Form) -> None:
        texts = [item.text if isinstance(item, Word) else "" for item in form.items]
        match = _OLD.fullmatch(texts[1]) if len(texts) == 3 and texts[2] == "Real" else None
        if match is None or self.modern:
            raise _wrong(form.line, "this declaration is not understood", "such as (declare-const X_0 Real)")
        variable = match[1], int(match[2])
        if variable in self.seen:
            raise _wrong(form.line, f"{texts[1]} is declared twice")
        self.seen.add(variable)
        self.sizes[match[1]] = max(self.sizes[match[1]], variable[1] + 1)

    def _network(self, form: Form) -> None:
        self.modern = True
        if self.declared:
            raise _wrong(form.line, "a second network is declared, and one can be proven", "a property of one network")
        parts = [item for item in form.items[2:] if isinstance(item, Form)]
        for part in parts:
            if part.head not in ("declare-input", "declare-output"):
                raise _wrong(
                    part.line, f"{part.head[:40]!r} is not supported", "declare-input and declare-output alone"
                )
            kind = "X" if part.head == "declare-input" else "Y"
            if kind in self.declared:
                raise _wrong(part.line, f"a second {part.head[8:]} is declared", "one of each")
            variable = _variable(part)
            if variable.name in self.names:
                raise _wrong(part.line, f"{variable.name!r} is declared twice")
            self.names[variable.name], self.declared[kind] = kind, variable
            self.sizes[kind] = _count(variable.shape)
        if len(self.declared) != 2:
            raise _wrong(form.line, "the network lacks an input or an output", "declare-input and declare-output")

    def _assertion(self, form: Form) -> None:
        if len(form.items) != 2 or not isinstance(form.items[1], Form):
            raise _wrong(form.line, "this assertion is not understood", "(assert FORMULA)")
        self.asserts.append(self._formula(form.items[1]))

    def _formula(self, form: Form) -> Dnf:
        """Return a formula as a disjunction of conjunctions."""
        arguments = [item for item in form.items[1:] if isinstance(item, Form)]
        if form.head in ("and", "or"):
            if not arguments or len(arguments) != len(form.items) - 1:
                raise _wrong(form.line, f"{form.head!r} is not followed by formulas alone")
            parts = [self._formula(argument) for argument in arguments]
            return _sum(parts, form.line) if form.head == "or" else _product(parts, form.line)
        if form.head in (*_ORDER, "==", "!="):
            return self._comparison(form, list(_joined(form.items[1:])))
        raise _wrong(form.line, f"the formula {form.head[:40]!r} is not understood", f"and, or, {', '.join(_ORDER)}")

    def _comparison(self, form: Form, sides: list[Item]) -> Dnf:
        if len(sides) != 2:
            raise _wrong(form.line, f"{form.head!r} compares {len(sides)} values", "two")
        left, right = map(self._linear, sides)
        difference = left.plus(right, Fraction(-1))
        if not difference.terms:
            raise _wrong(form.line, "a comparison has no variable, or the same on both sides")
        if form.head in _ORDER:
            sign, strict = _ORDER[form.head]
            # Files of version 1 write < by mistake, and everybody reads ≤.
            return [(Atom(difference.times(Fraction(sign)), strict and self.modern, form.line),)]
        below, above = (Atom(difference.times(Fraction(sign)), form.head == "!=", form.line) for sign in (1, -1))
        return [(below, above)] if form.head == "==" else [(below,), (above,)]

    def _linear(self, item: Item) -> Linear:
        """Return an arithmetic expression, which must be linear."""
        if isinstance(item, Word):
            return self._word(item)
        parts = [self._linear(part) for part in _joined(item.items[1:])]
        if item.head == "+" and parts:
            return _added(parts)
        if item.head == "-" and parts:
            minus = [part.times(Fraction(-1)) for part in parts]
            return minus[0] if len(parts) == 1 else _added([parts[0], *minus[1:]])
        if item.head == "*" and parts:
            return _multiplied(parts, item.line)
        raise _wrong(item.line, f"{item.head[:40]!r} is no arithmetic", "+, − or *")

    def _word(self, word: Word) -> Linear:
        if _NUMBER.fullmatch(word.text):
            return Linear({}, Fraction(word.text))
        kind, place = self._place(word)
        if place >= self.sizes[kind] or (self.seen and (kind, place) not in self.seen):
            raise _wrong(word.line, f"{word.text[:40]!r} is not declared")
        return Linear({(kind, place): Fraction(1)})

    def _place(self, word: Word) -> tuple[str, int]:
        if not self.modern:
            match = _OLD.fullmatch(word.text)
            if match is None:
                raise _wrong(word.line, f"{word.text[:40]!r} is no number and no variable", "such as X_0 or Y_3")
            return match[1], int(match[2])
        name, _, index = word.text.partition("[")
        if name not in self.names:
            raise _wrong(word.line, f"{name[:40]!r} is not declared", f"one of {', '.join(self.names) or 'none'}")
        kind = self.names[name]
        shape = self.declared[kind].shape
        texts = [part.strip() for part in index.rstrip("]").split(",")] if index else []
        places = [int(text) if text.isdecimal() else -1 for text in texts]
        if len(places) != len(shape) or any(not 0 <= i < n for i, n in zip(places, shape, strict=True)):
            raise _wrong(word.line, f"{word.text[:40]!r} is no element of {name} of shape {list(shape)}")
        flat = 0
        for i, n in zip(places, shape, strict=True):
            flat = flat * n + i
        return kind, flat

    def property(self) -> Property:
        """Return what was read."""
        if not all(self.sizes.values()):
            raise _wrong(self.line, "the file declares no input, or no output")
        limits, rest = _limits(self.asserts)
        clauses = _product(rest, self.line) if rest else [()]
        boxes = _Boxes(self.sizes["X"], limits, self.line)
        made = tuple(_clause(clause, boxes) for clause in clauses)
        declared = (self.declared["X"], self.declared["Y"]) if self.declared else None
        return Property(self.sizes["X"], self.sizes["Y"], made, declared)


def _variable(form: Form) -> Variable:
    texts = [item.text if isinstance(item, Word) else "" for item in form.items]
    plain = len(texts) >= 5 and texts[3] == "[" and texts[-1] == "]" and _NAME.fullmatch(texts[1])
    sizes = [text for text in texts[4:-1] if text != ","]
    if not plain or not all(text.isdecimal() and 0 < int(text) < 2**31 for text in sizes):
        raise _wrong(form.line, "this declaration is not understood", "such as (declare-input X float32 [1, 5])")
    if texts[2].lower() not in _TYPES:
        raise _wrong(form.line, f"elements of type {texts[2][:20]!r} are not supported", f"one of {', '.join(_TYPES)}")
    return Variable(texts[1], texts[2], tuple(map(int, sizes)))


def _count(shape: Iterable[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _joined(items: Sequence[Item]) -> Iterator[Item]:
    """Yield arguments, an element such as X[0, 1] as one word."""
    pending: list[str] = []
    for place, item in enumerate(items):
        after = items[place + 1] if place + 1 < len(items) else None
        opens = isinstance(after, Word) and after.text == "["
        if isinstance(item, Word) and (pending or opens):
            pending.append(item.text)
            if item.text == "]":
                yield Word("".join(pending), item.line)
                pending = []
        else:
            yield item


def _added(parts: Iterable[Linear]) -> Linear:
    total = Linear({})
    for part in parts:
        total = total.plus(part)
    return total


def _multiplied(parts: Sequence[Linear], line: int) -> Linear:
    total = Linear({}, Fraction(1))
    for part in parts:
        if total.terms and part.terms:
            raise _wrong(line, "two variables are multiplied", "linear constraints")
        total = part.times(total.constant) if part.terms or not total.terms else total.times(part.constant)
    return total


def _sum(parts: Iterable[Dnf], line: int) -> Dnf:
    made = [clause for part in parts for clause in part]
    if len(made) > _CLAUSES:
        raise _wrong(line, f"the assertions multiply out to more than {_CLAUSES} clauses")
    return made


def _product(parts: Iterable[Dnf], line: int) -> Dnf:
    """Return the conjunction of disjunctions of conjunctions; single ones are joined before they are multiplied."""
    single, several = list[Atom](), list[Dnf]()
    for part in parts:
        if len(part) == 1:
            single += part[0]
        else:
            several.append(part)
    made: Dnf = [tuple(single)]
    for part in several:
        if len(made) * len(part) > _CLAUSES:
            raise _wrong(line, f"the assertions multiply out to more than {_CLAUSES} clauses")
        made = [(*clause, *other) for clause in made for other in part]
    return made


def _limits(asserts: Sequence[Dnf]) -> tuple[list[Atom], list[Dnf]]:
    """Return the bounds of inputs that hold for every clause, and the other assertions."""
    limits, rest = list[Atom](), list[Dnf]()
    for formula in asserts:
        if len(formula) == 1 and all(_of_input(atom) for atom in formula[0]):
            limits += formula[0]
        else:
            rest.append(formula)
    return limits, rest


def _of_input(atom: Atom) -> bool:
    return all(kind == "X" for kind, _ in atom.linear.terms)


class _Boxes:
    """Makes the box of each clause; clauses without limits of their own share one."""

    def __init__(self, size: int, limits: Sequence[Atom], line: int) -> None:
        self._size, self._line = size, line
        self._lower, self._upper = _narrowed({}, {}, limits)
        self._made: dict[tuple[Atom, ...] | tuple[object, ...], Box] = {}

    def of(self, limits: tuple[Atom, ...]) -> Box:
        """Return the box of these limits and of those that hold for all."""
        lower, upper = _narrowed(dict(self._lower), dict(self._upper), limits) if limits else (self._lower, self._upper)
        key = (tuple(sorted(lower.items())), tuple(sorted(upper.items()))) if limits else ()
        if key not in self._made:
            for side, known in (("lower", lower), ("upper", upper)):
                missing = next((i for i in range(self._size) if i not in known), None)
                if missing is not None:
                    raise _wrong(self._line, f"input {missing} has no {side} bound", "bounds of every input")
            places = range(self._size)
            self._made[key] = Box(tuple(lower[i] for i in places), tuple(upper[i] for i in places))
        return self._made[key]


def _narrowed(
    lower: dict[int, Fraction], upper: dict[int, Fraction], limits: Iterable[Atom]
) -> tuple[dict[int, Fraction], dict[int, Fraction]]:
    for atom in limits:
        if len(atom.linear.terms) != 1:
            raise _wrong(atom.line, "a constraint has several inputs", "bounds of single inputs")
        ((_, place), factor), *_ = atom.linear.terms.items()
        limit = -atom.linear.constant / factor
        # A strict bound is read as ≤: what holds on the closed box holds on it.
        if factor > 0:
            upper[place] = min(limit, upper.get(place, limit))
        else:
            lower[place] = max(limit, lower.get(place, limit))
    return lower, upper


def _clause(atoms: tuple[Atom, ...], boxes: _Boxes) -> Clause:
    limits = tuple(atom for atom in atoms if _of_input(atom))
    return Clause(boxes.of(limits), tuple(_constraint(atom) for atom in atoms if not _of_input(atom)))


def _constraint(atom: Atom) -> Constraint:
    if any(kind == "X" for kind, _ in atom.linear.terms):
        raise _wrong(
            atom.line, "a constraint has both inputs and outputs", "bounds of inputs, and constraints of outputs"
        )
    places: Mapping[int, Fraction] = {place: a for (_, place), a in atom.linear.terms.items()}
    return Constraint(places, -atom.linear.constant, atom.strict)
