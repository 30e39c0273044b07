"""What a specification and a session must look like, as tables of keys: what somebody edited is named in one line."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from saddlepoint.errors import RunError
from saddlepoint.results.records.record import NORMS


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its types, whether it may lack, and what else must hold of its value."""

    kinds: tuple[type, ...]
    needed: bool = True
    holds: Callable[[Any], bool] = lambda _: True
    expected: str = ""
    inside: Mapping[str, "Key"] | None = None
    entries: "Key | None" = None


_NONE, _TEXT, _NUMBER = type(None), (str,), (int, float)
_COUNT = Key((int,), holds=lambda n: 0 < n < 2**31, expected="a positive number")
_MAYBE = Key((int, _NONE), holds=lambda n: n is None or 0 < n < 2**63, expected="a positive number, or null")
_BOX = Key((list, _NONE), holds=lambda b: b is None or (len(b) == 2 and all(_real(v) for v in b) and b[0] < b[1]))
_THREAT = {
    "norm": Key(_TEXT, holds=lambda n: n in NORMS, expected=f"one of {', '.join(NORMS)}"),
    "eps": Key(_NUMBER, holds=lambda e: _real(e) and e >= 0, expected="a finite radius"),
    "box": _BOX,
}
_SHARE = Key(_NUMBER, holds=lambda a: _real(a) and 0 < a < 1, expected="a probability")
_SMOOTHING = {
    "sigma": Key(_NUMBER, holds=lambda s: _real(s) and s > 0, expected="a positive number"),
    "samples": _COUNT,
    "selection": _COUNT,
    "alpha": _SHARE,
    "batch_size": _COUNT,
    "seed": Key((int,), holds=lambda n: abs(n) < 2**63),
}
SPEC: Mapping[str, Key] = {
    "kind": Key(_TEXT, holds=lambda kind: kind == "evaluation", expected="'evaluation'"),
    "model": Key(
        (dict,),
        inside={
            "reference": Key(_TEXT),
            "digest": Key(_TEXT),
            "names": Key((list, _NONE), entries=Key(_TEXT)),
            "preprocessing": Key((dict,)),
            "weights": Key((str, _NONE), needed=False),
        },
    ),
    "data": Key(
        (dict,),
        inside={
            "reference": Key(_TEXT),
            "limit": _MAYBE,
            "first": _MAYBE,
            "examples": _COUNT,
            "classes": Key((dict, _NONE), holds=lambda c: c is None or all(type(v) is int for v in c.values())),
            "shape": Key((list, _NONE), entries=_COUNT),
            "content": Key((str, _NONE)),
            "ids": Key(_TEXT),
        },
    ),
    "threats": Key((list,), holds=bool, expected="at least one", entries=Key((dict,), inside=_THREAT)),
    "suite": Key((list,), entries=Key((dict,), inside={"name": Key(_TEXT)})),
    "certify": Key((list,), entries=Key(_TEXT)),
    "seed": Key((int,), holds=lambda n: abs(n) < 2**63),
    "batch_size": Key((int,), holds=lambda n: 0 < n < 2**31, expected="a positive number"),
    "precision": Key(_TEXT),
    "budget": _MAYBE,
    "stop": Key(_TEXT),
    "points": Key((dict, _NONE)),
    "timeout": Key((*_NUMBER, _NONE), needed=False),
    "domains": Key((int, _NONE), needed=False, holds=lambda n: n is None or 0 <= n < 2**63, expected="a count"),
    "smoothing": Key(
        (dict, _NONE), needed=False, holds=lambda s: s is None or set(s) == set(_SMOOTHING), inside=_SMOOTHING
    ),
    "keep": Key(_TEXT),
}
SESSION: Mapping[str, Key] = {
    "started": Key(_TEXT, needed=False),
    "command": Key((list,), needed=False, entries=Key(_TEXT)),
    "packages": Key((dict,), needed=False, holds=lambda p: all(isinstance(v, str | None) for v in p.values())),
    "python": Key(_TEXT, needed=False),
    "system": Key(_TEXT, needed=False),
    "device": Key(_TEXT, needed=False),
}


def check_spec(spec: Mapping[str, Any], place: str) -> None:
    """Raise RunError at the first key of an evaluation's specification that is missing or of another form."""
    if spec.get("kind") == "evaluation":
        require_evaluation(spec, place)


def require_evaluation(spec: Mapping[str, Any], place: str) -> None:
    """Raise RunError, likewise, also where a specification is of another kind."""
    _first(_wrong(spec, SPEC, ""), place)


def check_sessions(sessions: list[Any], place: str) -> None:
    """Raise RunError at the first session that is none."""
    _first(_wrong({"sessions": sessions}, {"sessions": Key((list,), entries=Key((dict,), inside=SESSION))}, ""), place)


def _first(lines: Iterator[str], place: str) -> None:
    for line in lines:
        raise RunError(f"{place!r} was edited, or is of another version: {line}; restore it")


def _wrong(values: Mapping[str, Any], keys: Mapping[str, Key], path: str) -> Iterator[str]:
    for name, key in keys.items():
        if name in values:
            yield from _value(values[name], key, f"{path}{name}")
        elif key.needed:
            yield f"{path}{name} is missing"


def _value(value: object, key: Key, path: str) -> Iterator[str]:
    if type(value) not in key.kinds:
        kinds = " or ".join("null" if kind is _NONE else kind.__name__ for kind in key.kinds)
        yield f"{path} is {value!r:.60}; expected {key.expected or kinds}"
        return
    if not key.holds(value):
        yield f"{path} is {value!r:.60}; expected {key.expected or 'another value'}"
    if isinstance(value, dict) and key.inside is not None:
        yield from _wrong(value, key.inside, f"{path}.")
    if isinstance(value, list) and key.entries is not None:
        for place, item in enumerate(value):
            yield from _value(item, key.entries, f"{path}[{place}]")


def _real(value: object) -> bool:
    return type(value) in _NUMBER and math.isfinite(value)  # type: ignore[arg-type]
