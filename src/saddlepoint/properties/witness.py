"""Counterexamples: points of a property's set, as the network itself computes them, without any tolerance."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from saddlepoint.files import write_bytes
from saddlepoint.properties.property import Array, Clause, Property

Network = Callable[[NDArray[np.float32]], Array]
"""From one flattened float32 input to the flattened output, in float64."""


@final
@dataclass(frozen=True, eq=False)
class Witness:
    """An input that a property forbids, and what the network says of it.

    Attributes:
        x: float32, flattened; in the box of a clause as real numbers.
        y: the network's output for it, flattened.
    """

    x: NDArray[np.float32]
    y: Array

    def text(self, declared: Property) -> str:
        """Return it as the competitions write it: version 1 as ((X_0 v) … (Y_0 v)), version 2 name by name."""
        pairs = (("X", self.x), ("Y", self.y.astype(np.float32)))
        if declared.declared is None:
            lines = [
                f"({name}_{place} {_plain(value)})" for name, values in pairs for place, value in enumerate(values)
            ]
            return "(" + "\n".join(lines) + ")\n"
        parts = []
        for variable, (_, values) in zip(declared.declared, pairs, strict=True):
            shape = ", ".join(map(str, variable.shape))
            parts += [f"{variable.name} {variable.kind} [{shape}]", *map(_plain, values)]
        return "\n".join(parts) + "\n"

    def write(self, path: str | Path, declared: Property) -> None:
        """Write its text to a file, whole or not at all."""
        write_bytes(Path(path).absolute(), self.text(declared).encode())


def _plain(value: np.float32) -> str:
    """Return a float32 number in decimals that mean just it."""
    return np.format_float_positional(value, unique=True, trim="0") if 1e-4 <= abs(value) < 1e9 else repr(float(value))


def inwards(clause: Clause, points: Array) -> Iterator[NDArray[np.float32]]:
    """Yield points as float32 numbers in the box of a clause; none where no float32 point is in it."""
    low, high = clause.box.inner
    if bool((low > high).any()):
        return
    for point in points:
        yield np.clip(point.astype(np.float32), low, high)


def confirmed(network: Network, clause: Clause, points: Array) -> Witness | None:
    """Return the first of some points that the network itself shows to be a counterexample.

    Args:
        network: the untouched file.
        clause: that is to be met, exactly.
        points: to try, (N, n), float64.
    """
    for x in inwards(clause, points):
        y = network(x)
        if len(y) and clause.met(x.tolist(), y.tolist()):
            return Witness(x, y)
    return None
