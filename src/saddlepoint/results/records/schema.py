"""The columns of a row, in one table: the Parquet schema, the check of a row and the docs derive from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from saddlepoint.errors import InputError
from saddlepoint.results.records.record import (
    FIELDS,
    NORMS,
    RECORDS,
    Attacked,
    Certified,
    Failed,
    Record,
    key_of,
    type_of,
)

SCHEMA_VERSION = 4
"""Raised when a column changes its name, type or meaning, or is added."""
ADDED = {"domains": 4}
"""Columns that earlier versions, from 3 on, do not have: null in their rows."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, Python type, unit, what it means, and whether records that have it may leave it null."""

    name: str
    kind: type
    unit: str
    meaning: str
    optional: bool = False

    @property
    def arrow(self) -> Any:  # noqa: ANN401 - pyarrow has no types
        """The Arrow type."""
        return _ARROW[self.kind]

    @property
    def always(self) -> bool:
        """Whether every row has it."""
        own = self.name in OWN or all(self.name in FIELDS[record] for record in RECORDS)
        return own and not self.optional


_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_WORDS = {str: "text in UTF-8", int: "a 64-bit integer", float: "a number, not NaN", bool: "true or false"}
KINDS = (Attacked.kind, Certified.kind)

COLUMNS: tuple[Column, ...] = (
    Column("id", str, "", "stable identity of the example in its data set"),
    Column("kind", str, "", "attack or certificate"),
    Column("index", int, "position", "place of the example in the data set, from 0"),
    Column("digest", str, "SHA-256, hex", "of the pixels and the label; null if it could not be read", optional=True),
    Column("name", str, "", "a certificate's method, such as crown; of attacks suite, or probe for a short search"),
    Column("method", str, "", "the attacks or the certificate with all settings, as one line for people"),
    Column("label", int, "class", "the true class y; null if the example could not be read", optional=True),
    Column("target", int, "class", "the class to be predicted instead; null when any other will do", optional=True),
    Column("norm", str, "", "norm of the ball: linf, l2, l1"),
    Column("eps", float, "pixels in [0, 1]", "radius of the ball, in its norm"),
    Column("clean_label", int, "class", "prediction for the clean image"),
    Column("clean_margin", float, "logits", "z_y − max_{j≠y} z_j of the clean image"),
    Column("clean_correct", bool, "", "whether the clean image is classified as its label"),
    Column("success", bool, "", "misclassified inside the ball (with a target: the target is predicted)"),
    Column("accuracy", float, "", "share of fresh draws of the model that are right at the point; 0 or 1 of one draw"),
    Column(
        "attack", str, "", "which attack broke it; clean when wrong from the start; null when it stands", optional=True
    ),
    Column("restart", int, "", "the restart that found the point, from 0"),
    Column("adversarial_label", int, "class", "prediction for the point"),
    Column("margin", float, "logits", "z_y − max_{j≠y} z_j at the point (with a target t: max_{j≠t} z_j − z_t)"),
    Column("distance", float, "pixels in [0, 1]", "size of x_adv − x in the norm of the ball"),
    Column("linf", float, "pixels in [0, 1]", "ℓ∞ norm of x_adv − x"),
    Column("l2", float, "pixels in [0, 1]", "ℓ2 norm of x_adv − x"),
    Column("l1", float, "pixels in [0, 1]", "ℓ1 norm of x_adv − x"),
    Column("steps", int, "updates", "updates of δ"),
    Column("forwards", int, "passes", "forward passes, clean evaluation and verification included"),
    Column("backwards", int, "passes", "backward passes"),
    Column("lower_bound", float, "logits", "proven least margin over the set; −inf where none was found"),
    Column("tolerance", float, "logits", "what was taken off the bound for rounding"),
    Column("radius", float, "pixels in [0, 1]", "of the ℓ2 ball on which votes prove the class; 0 if they abstain"),
    Column("seconds", float, "s", "measured; no part of what the record says", optional=True),
    Column(
        "domains", int, "", "parts of the set that branch and bound has bounded; null before schema 4", optional=True
    ),
    Column("doubts", str, "", "signs of masked gradients, separated by commas; null without any", optional=True),
    Column("key", str, "", "kind, norm, eps and id, as one text: the key of the record and of its point"),
    Column("kept", bool, "", "whether the point is stored in the folder adversarial"),
    Column("error", str, "", "why the example could not be read or attacked"),
)
NAMES = tuple(column.name for column in COLUMNS)
OWN = ("kind", "key", "kept")
"""Columns that every row has, whatever its record."""

MARK = {b"saddlepoint.schema": str(SCHEMA_VERSION).encode()}
SCHEMA = pa.schema([pa.field(c.name, c.arrow, nullable=not c.always) for c in COLUMNS], metadata=MARK)

_LEAST, _MOST = -(2**63), 2**63 - 1


def checked(row: Mapping[str, object]) -> dict[str, Any]:
    """Return a row with every column in its own type and order; what is missing is null, `kept` false.

    Raises:
        InputError: a column is unknown, of another type, or null where its record has it (or the reverse).
    """
    unknown = [name for name in row if name not in NAMES]
    if unknown:
        raise InputError(f"a row has the column {unknown[0]!r}; expected some of: {', '.join(NAMES)}")
    plain = {"kept": False, **row}
    if plain.get("kind") not in KINDS:
        raise InputError(f"the kind of a row is {plain.get('kind')!r}; expected {' or '.join(KINDS)}")
    made = type_of(plain)
    if plain["kind"] != made.kind:
        raise InputError(f"the kind of a row with an error is {plain['kind']!r}; expected {made.kind}")
    if plain.get("norm") not in NORMS:
        raise InputError(f"the norm of a row is {plain.get('norm')!r:.80}; expected {', '.join(NORMS)}")
    values = {column.name: _value(column, plain.get(column.name), made) for column in COLUMNS if column.name != "key"}
    values["key"] = key_of(values["kind"], values["norm"], values["eps"], values["id"])
    if plain.get("key", values["key"]) != values["key"]:
        raise InputError(f"the key of a row is {plain['key']!r}; expected {values['key']!r}")
    values = {name: values[name] for name in NAMES}
    if bool(values["success"]) != (values["attack"] is not None):
        raise InputError(
            f"the row of {values['id']!r} has success {values['success']} and attack {values['attack']!r}; "
            "expected the attack that broke it on success, null else"
        )
    return values


def _value(column: Column, content: Any, made: type[Record]) -> Any:  # noqa: ANN401
    if type(content) is column.kind is float and content == content and column.name in FIELDS[made]:
        return content  # most columns are such, of many rows
    value = content.item() if isinstance(content, np.generic) else content
    has = column.name in FIELDS[made] or column.name in OWN
    if value is None:
        if has and not (column.optional and (made is Failed or column.name not in ("digest", "label"))):
            raise InputError(f"the column {column.name!r} of a row is null; expected {_WORDS[column.kind]}")
        return None
    if not has:
        which = "with an error" if made is Failed else "of this kind"
        raise InputError(f"the column {column.name!r} of a row {which} is {value!r:.80}; expected null")
    if column.kind is float and type(value) is int and _LEAST <= value <= _MOST:
        value = float(value)
    if not _fits(column.kind, value):
        raise InputError(f"the column {column.name!r} of a row is {value!r:.80}; expected {_WORDS[column.kind]}")
    return value


def _fits(kind: type, value: Any) -> bool:  # noqa: ANN401
    match value:
        case bool():
            return kind is bool
        case int():
            return kind is int and _LEAST <= value <= _MOST
        case float():
            return kind is float and not math.isnan(value)
        case str():  # half a surrogate pair is what Python makes of a file name in another encoding
            return kind is str and (value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value))
    return False


def describe() -> str:
    """Return the columns as a table in Markdown: the one that docs/run-folder.md shows."""
    lines = ["| column | type | unit | of | meaning |", "|---|---|---|---|---|"]
    lines += [f"| `{c.name}` | {c.arrow} | {c.unit} | {_having(c)} | {c.meaning} |" for c in COLUMNS]
    return "\n".join(lines)


def _having(column: Column) -> str:
    """Return which records have a column."""
    having = [record.__name__.lower() for record in RECORDS if column.name in FIELDS[record]]
    return "all" if column.always or len(having) == len(RECORDS) else ", ".join(having)
