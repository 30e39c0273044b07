"""The columns of a record, in one table: the Parquet schema, the check of a record and the docs derive from it.

A record is what one method found for one example under one threat; its key is (kind, norm, ε, id).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa

from saddlepoint.errors import InputError

SCHEMA_VERSION = 2
"""Raised when a column changes its name, type or meaning."""


class Presence(Enum):
    """When a column is null."""

    ALWAYS = "never"
    READ = "at most where there is an error"
    FOUND = "where there is an error, only there"
    ATTACKED = "where there is an error, and of certificates"
    PROVEN = "where there is an error, and of attacks"
    OPTIONAL = "may be"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, Python type, unit, when it is null, and what it means."""

    name: str
    kind: type
    unit: str
    presence: Presence
    meaning: str

    @property
    def arrow(self) -> Any:  # noqa: ANN401 - pyarrow has no types
        """The Arrow type."""
        return _ARROW[self.kind]


_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_WORDS = {str: "text in UTF-8", int: "a 64-bit integer", float: "a number, not NaN", bool: "true or false"}
_ALWAYS, _READ, _FOUND, _ATTACKED, _PROVEN, _OPTIONAL = Presence
KINDS = ("attack", "certificate")

COLUMNS: tuple[Column, ...] = (
    Column("id", str, "", _ALWAYS, "stable identity of the example in its data set"),
    Column("kind", str, "", _ALWAYS, "attack or certificate"),
    Column("index", int, "position", _ALWAYS, "place of the example in the data set, from 0"),
    Column("digest", str, "SHA-256, hex", _READ, "of the pixels and the label: what was attacked"),
    Column("method", str, "", _ALWAYS, "the attack or suite with all its settings, or the certificate's, as one line"),
    Column("label", int, "class", _READ, "the true class y"),
    Column("target", int, "class", _OPTIONAL, "the class to be predicted instead; null when any other will do"),
    Column("norm", str, "", _ALWAYS, "norm of the ball: linf, l2, l1"),
    Column("eps", float, "pixels in [0, 1]", _ALWAYS, "radius of the ball, in its norm"),
    Column("clean_label", int, "class", _FOUND, "prediction for the clean image"),
    Column("clean_margin", float, "logits", _FOUND, "z_y − max_{j≠y} z_j of the clean image"),
    Column("clean_correct", bool, "", _FOUND, "whether the clean image is classified as its label"),
    Column("success", bool, "", _ATTACKED, "misclassified inside the ball (with a target: the target is predicted)"),
    Column(
        "accuracy",
        float,
        "",
        _ATTACKED,
        "share of fresh draws of the model that are right at the point; 0 or 1 of one draw",
    ),
    Column("attack", str, "", _OPTIONAL, "which attack broke it; clean when wrong from the start; null when it stands"),
    Column("restart", int, "", _ATTACKED, "the restart that found the point, from 0"),
    Column("adversarial_label", int, "class", _ATTACKED, "prediction for the point"),
    Column(
        "margin", float, "logits", _ATTACKED, "z_y − max_{j≠y} z_j at the point (with a target t: max_{j≠t} z_j − z_t)"
    ),
    Column("distance", float, "pixels in [0, 1]", _ATTACKED, "size of x_adv − x in the norm of the ball"),
    Column("linf", float, "pixels in [0, 1]", _ATTACKED, "ℓ∞ norm of x_adv − x"),
    Column("l2", float, "pixels in [0, 1]", _ATTACKED, "ℓ2 norm of x_adv − x"),
    Column("l1", float, "pixels in [0, 1]", _ATTACKED, "ℓ1 norm of x_adv − x"),
    Column("steps", int, "updates", _ATTACKED, "updates of δ"),
    Column("forwards", int, "passes", _ATTACKED, "forward passes, clean evaluation and verification included"),
    Column("backwards", int, "passes", _ATTACKED, "backward passes"),
    Column("lower_bound", float, "logits", _PROVEN, "proven least margin over the set; −inf where none was found"),
    Column("tolerance", float, "logits", _PROVEN, "what was taken off the bound for rounding"),
    Column("seconds", float, "s", _OPTIONAL, "measured; no part of what the record says"),
    Column("doubts", str, "", _OPTIONAL, "signs that gradients are masked, separated by commas; null without any"),
    Column("key", str, "", _ALWAYS, "kind, norm, eps and id, as one text: the key of the record and of its point"),
    Column("kept", bool, "", _ALWAYS, "whether the point is stored in the folder adversarial"),
    Column("error", str, "", _OPTIONAL, "why the example could not be read or attacked; null when it was"),
)
NAMES = tuple(column.name for column in COLUMNS)

MARK = {b"saddlepoint.schema": str(SCHEMA_VERSION).encode()}
SCHEMA = pa.schema([pa.field(c.name, c.arrow, nullable=c.presence is not _ALWAYS) for c in COLUMNS], metadata=MARK)

_LEAST, _MOST = -(2**63), 2**63 - 1


def checked(row: Mapping[str, object]) -> dict[str, Any]:
    """Return a row with every column in its own type and order; what is missing is null, `kept` false.

    Raises:
        InputError: a column is unknown, of another type, or null where it must not be (or the reverse).
    """
    unknown = [name for name in row if name not in NAMES]
    if unknown:
        raise InputError(f"a row has the column {unknown[0]!r}; expected some of: {', '.join(NAMES)}")
    given = {"kept": False, "kind": "attack", **row}
    if given["kind"] not in KINDS:
        raise InputError(f"the kind of a row is {given['kind']!r}; expected {' or '.join(KINDS)}")
    failed = given.get("error") is not None
    others = [column for column in COLUMNS if column.name != "key"]
    found = {column.name: _value(column, given.get(column.name), _absent(column, given), failed) for column in others}
    found["key"] = key_of(found)
    if given.get("key", found["key"]) != found["key"]:
        raise InputError(f"the key of a row is {given['key']!r}; expected {found['key']!r}")
    found = {name: found[name] for name in NAMES}
    if bool(found["success"]) != (found["attack"] is not None):
        raise InputError(
            f"the row of {found['id']!r} has success {found['success']} and attack {found['attack']!r}; "
            "expected the attack that broke it on success, null else"
        )
    return found


def key_of(row: Mapping[str, Any]) -> str:
    """Return the key of a record: its kind, norm, ε and the id of its example."""
    return f"{row.get('kind')} {row.get('norm')} {row.get('eps')!r} {row.get('id')}"


def _absent(column: Column, row: Mapping[str, object]) -> bool | None:
    """Tell whether a column must be null in a record (True), must not be (False), or may be (None)."""
    failed, attacked = row.get("error") is not None, row.get("kind") == "attack"
    return {
        _ALWAYS: False,
        _READ: None if failed else False,
        _FOUND: failed,
        _ATTACKED: failed or not attacked,
        _PROVEN: failed or attacked,
        _OPTIONAL: None,
    }[column.presence]


def _value(column: Column, given: Any, absent: bool | None, failed: bool) -> Any:  # noqa: ANN401
    value = given.item() if isinstance(given, np.generic) else given
    if value is None:
        if absent is False:
            raise InputError(f"the column {column.name!r} of a row is null; expected {_WORDS[column.kind]}")
        return None
    if absent:
        which = "with an error" if failed else "of this kind"
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
    lines = ["| column | type | unit | null | meaning |", "|---|---|---|---|---|"]
    lines += [f"| `{c.name}` | {c.arrow} | {c.unit} | {c.presence.value} | {c.meaning} |" for c in COLUMNS]
    return "\n".join(lines)
