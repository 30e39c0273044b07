"""CIFAR-10's pickles, read without NumPy's help: what a pickle may name are stand-ins, built of plain bytes.

NumPy's own constructors trust their arguments: with some, a pickle reaches any memory (`numpy.ndarray` over a buffer of
"objects"). So none of them is ever called from a pickle, and no array has a type but integers.
"""

import io
import math
import pickle
import re
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from saddlepoint.errors import InputError

_INTEGERS = re.compile(r"[<>|=]?([iu][1248])")


def read_pickle_of_arrays(content: bytes) -> Any:  # noqa: ANN401 - as in pickle
    """Return what a pickle holds: text, numbers, lists, mappings; arrays as `Array`.

    Raises:
        InputError: it names anything but arrays of integers.
        Exception: whatever the unpickler trips over in broken bytes.
    """
    return _Unpickler(io.BytesIO(content), encoding="bytes").load()


class _Type:
    """Stands for `numpy.dtype`: an integer type and its order of bytes."""

    __slots__ = ("name",)

    def __init__(self, name: str | bytes, *_: object) -> None:
        match = _INTEGERS.fullmatch(_plain(name))
        if match is None:
            raise InputError(f"a pickle holds an array of {_plain(name)!r:.40}; expected integers")
        self.name = match[0]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = _plain(state[1])
        self.name = _Type(f"{order}{self.name[-2:]}").name


class Array:
    """Stands for `numpy.ndarray`: empty, until the state of its pickle fills it."""

    __slots__ = ("values",)

    def __init__(self, *_: object) -> None:
        self.values = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, columns_first, content = state
        if not isinstance(kind, _Type) or type(content) is not bytes or not all(type(n) is int for n in shape):
            raise InputError("a pickle holds an array that is no block of integers; expected one of CIFAR-10's own")
        values = np.frombuffer(content, np.dtype(kind.name))
        if min(shape, default=0) < 0 or math.prod(shape) != values.size:
            raise InputError(f"a pickle holds {values.size} numbers for an array of shape {shape}; expected as many")
        self.values = values.reshape(shape, order="F" if columns_first else "C")


class _Named:
    """What a pickle gets when it names something known: perhaps to be called, never to be changed."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., object]) -> None:
        self._build = build

    def __call__(self, *arguments: object) -> object:
        return self._build(*arguments)

    def __setstate__(self, _: object) -> NoReturn:
        raise InputError("a pickle wants to change what it names; expected arrays alone, as CIFAR-10's own have")


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows arrays alone."""

    def find_class(self, module: str, name: str) -> _Named:
        """Return the stand-in of what builds arrays; refuse to name anything else."""
        module = module.replace("numpy.core.", "numpy._core.")  # as NumPy 1 called it
        if (module, name) not in _KNOWN:
            wanted = f"{module}.{name}"[:80]
            raise InputError(f"a pickle wants to run {wanted!r}; expected arrays alone, as CIFAR-10's own have")
        return _KNOWN[module, name]


def _uncallable(*_: object) -> NoReturn:
    raise InputError("a pickle wants to run numpy.ndarray; expected arrays alone, as CIFAR-10's own have")


def _latin(text: str, encoding: str | bytes) -> bytes:
    """How protocol 2 of Python 3 says bytes."""
    if _plain(encoding) != "latin1":
        raise InputError(f"a pickle holds bytes as {_plain(encoding)!r:.40}; expected latin1")
    return text.encode("latin1")


def _plain(text: str | bytes) -> str:
    return text.decode("latin1") if isinstance(text, bytes) else str(text)


_KNOWN = {
    ("numpy._core.multiarray", "_reconstruct"): _Named(Array),
    ("numpy", "ndarray"): _Named(_uncallable),
    ("numpy", "dtype"): _Named(_Type),
    ("_codecs", "encode"): _Named(_latin),
}
