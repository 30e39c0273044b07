"""What was asked, as JSON: one canonical form, so that equal requests have equal bytes and one digest."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from saddlepoint.errors import InputError

_MISSING = object()


def canonical(value: object, indent: int | None = None) -> bytes:
    """Return a JSON value as bytes: keys sorted, floats exact (the shortest decimal that reads back), UTF-8.

    Args:
        value: objects with text as keys, lists, texts, finite numbers, true, false and null; tuples become lists.
        indent: for people; the digest is of the form without.

    Raises:
        InputError: naming the place of the first value that JSON cannot say, such as NaN.
    """
    try:
        plain = _plain(value, "")
        separators = (",", ":") if indent is None else (",", ": ")
        text = json.dumps(plain, sort_keys=True, separators=separators, indent=indent, ensure_ascii=False)
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError("a text in the JSON holds half a surrogate pair; expected text that UTF-8 can say") from None
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"the JSON holds a number that cannot be written ({error})") from None
    except RecursionError:
        raise InputError("the JSON is nested too deeply, or holds itself; expected a tree of moderate depth") from None


def digest(value: object) -> str:
    """Return "sha256:…" of the canonical form.

    Raises:
        InputError: as `canonical`.
    """
    return f"sha256:{hashlib.sha256(canonical(value)).hexdigest()}"


def difference(old: object, new: object, place: str = "") -> list[str]:
    """Return one line per place at which two JSON values differ: "batch_size: 64 → 32"."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        pairs = [(_within(place, key), old.get(key, _MISSING), new.get(key, _MISSING)) for key in sorted({*old, *new})]
        return [line for name, one, other in pairs for line in difference(one, other, name)]
    return [] if _text(old) == _text(new) else [f"{place}: {_text(old)} → {_text(new)}"]


def _text(value: object) -> str:
    if value is _MISSING:
        return "nothing"
    text = canonical(value).decode()
    return text if len(text) <= 80 else f"{text[:60]}… ({digest(value)[:15]}…)"


def _within(place: str, key: str) -> str:
    name = key if key.isprintable() else repr(key)
    return f"{place}.{name}" if place else name


def _plain(value: object, place: str) -> Any:  # noqa: ANN401 - JSON
    """Return the value in JSON's own types."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(part, _within(place, key)) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, f"{place}[{number}]") for number, part in enumerate(value)]
    raise InputError(
        f"{place or 'the whole'} is {value!r:.80}; expected what JSON can say: text, a finite number, true, false, "
        "null, a list, or an object with text as keys"
    )
