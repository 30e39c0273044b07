"""JSON and safetensors as they lie in a folder: read whole, or refused in one line."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
TYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
"""Of safetensors, as NumPy names them."""


BROKEN = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError, RecursionError)
"""What content that is not as it should be leads to, whatever it is."""


class Refused(Exception):  # noqa: N818 - what an auditor says
    """What lies in the folder cannot be read, or is no proof; says which and why."""


def json_of(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return what a JSON file holds; NaN and infinities are no JSON."""
    try:
        return json.loads(path.read_bytes(), parse_constant=_no_number, object_pairs_hook=_once)
    except (OSError, *BROKEN) as error:
        raise Refused(f"{path.name} cannot be read: {error}") from None


def arrays_of(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays of a safetensors file by name, and its metadata.

    The format: the length of the header in 8 bytes, the header in JSON, the arrays one behind the other. Nothing may
    overlap, be left over or be missing.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path.name} cannot be read: {error}") from None
    try:
        return _decoded(data)
    except BROKEN as error:
        raise Refused(f"{path.name} is no safetensors file: {type(error).__name__} {error}") from None


def _decoded(data: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise ValueError("its header is longer than the file")
    header = json.loads(data[8 : 8 + length], parse_constant=_no_number, object_pairs_hook=_once)
    body, end = memoryview(data)[8 + length :], 0
    metadata = header.pop("__metadata__", {})
    arrays = dict[str, Array]()
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        (begin, after), shape = entry["data_offsets"], tuple(entry["shape"])
        kind = np.dtype(TYPES[entry["dtype"]])
        whole = all(type(number) is int and number >= 0 for number in (begin, after, *shape))
        if not whole or begin != end or after - begin != kind.itemsize * math.prod(shape):
            raise ValueError(f"{name!r} does not lie where it should")
        arrays[name] = np.frombuffer(body[begin:after], kind).reshape(shape)
        end = after
    if end != len(body):
        raise ValueError("bytes follow the last array")
    return arrays, metadata


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of which no key stands twice: readers differ in which of them counts."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a key stands twice")
    return members
