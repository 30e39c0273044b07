"""The network: a list of operations, each affine in what it reads or a ReLU, values flat, one row for each input.

    kind      f(x)                                                       settings and arrays
    dense     x W^T along the last axis                                  weight (m, n)
    conv      Σ over a kernel's places (or its transpose)                weight, input, output, stride, padding, …
    sum       Σ_k s_k x_k                                                scales (k)
    scale     w · x, or x / w where `inverse`                            factor
    norm      (x − mean) w / √(variance + eps) + bias                    mean, variance, weight, bias, eps
    max       a + relu(b − a), whose value is max(a, b)                  of a, relu(b − a) and b
    gather    x[index], 0 where the index is −1                          index, into the values that it reads, in a row
    sparse    Σ over the entries (row, column, value) of a matrix        row, column, value
    relu      max(x, 0)

Each but the last adds an offset if it has one. An affine operation has three forms here: f itself, |L| of non-negative
values, and Lᵀ of functionals.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlepoint_audit.files import BROKEN, Array, Refused, arrays_of, json_of

Values = NDArray[np.float64]
"""(rows, size)."""
Linear = Callable[[Sequence[Values], bool], Values]
"""L of values, or |L| where told so."""
Transpose = Callable[[Values], list[Values | None]]
MOST = 2.0**100
"""Numbers beyond are refused: the allowances below hold far from overflow only."""


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation of the list.

    Attributes:
        kind: as above.
        parents: positions of what it reads.
        size: how many numbers its value has.
        linear: L and |L|; None of the input and of a ReLU.
        transpose: Lᵀ.
        offset: b, (size,).
        parts: at least |b|; more where b is a sum itself.
        products: how many a coordinate of L or Lᵀ sums at most.
        largest: the largest of L's coefficients.
        scales: of a sum.
        exact: whether it rounds nothing in any execution: it only moves numbers.
        fused: whether it may be taken into its neighbours, as factors of channels are.
        plane: how many numbers each channel of a grid has; all of another value.
    """

    kind: str
    parents: tuple[int, ...]
    size: int
    linear: Linear | None = None
    transpose: Transpose | None = None
    offset: Values | None = None
    parts: Values | None = None
    products: int = 1
    largest: float = 1.0
    scales: tuple[float, ...] = ()
    exact: bool = False
    fused: bool = False
    plane: int = 1


@dataclass(frozen=True, eq=False)
class Network:
    """The operations in the order of computation: the input first, the logits last."""

    operations: tuple[Operation, ...]

    @property
    def relus(self) -> list[int]:
        """Positions of the ReLUs."""
        return [i for i, operation in enumerate(self.operations) if operation.kind == "relu"]

    @property
    def terms(self) -> int:
        """A number n whose γ_n covers every sum that is computed here, and what little is done to it besides."""
        sizes = max(operation.size for operation in self.operations)
        return max(operation.products for operation in self.operations) + sizes + 4 * len(self.operations) + 64

    def output(self, x: Values) -> Values:
        """Return h(x) of each row, in float64."""
        values = [x]
        for operation in self.operations[1:]:
            read = [values[parent] for parent in operation.parents]
            if operation.linear is None:
                values.append(np.maximum(read[0], 0))
            else:
                offset = 0.0 if operation.offset is None else operation.offset
                values.append(operation.linear(read, False) + offset)
        return values[-1]

    @classmethod
    def read(cls, folder: Path) -> "Network":
        """Return the network of `network.json` and `network.safetensors`.

        Raises:
            Refused: an operation is not one of the above, or does not fit what it reads.
        """
        listed, (arrays, _) = json_of(folder / "network.json"), arrays_of(folder / "network.safetensors")
        return cls.of(listed, arrays)

    @classmethod
    def of(cls, listed: Any, arrays: Mapping[str, Array]) -> "Network":  # noqa: ANN401 - as a file holds it
        """Return the network of a list of operations and of arrays by `{position}/{name}`."""
        try:
            operations = list[Operation]()
            for i, entry in enumerate(listed):
                own = {name.partition("/")[2]: array for name, array in arrays.items() if name.startswith(f"{i}/")}
                operations.append(_operation(i, dict(entry), own, operations))
        except BROKEN as error:
            raise Refused(f"the network's list is malformed: {type(error).__name__} {error}") from None
        if not operations or operations[0].kind != "input":
            raise Refused("the network's first operation is not its input")
        return cls(tuple(_with_maxima(operations)))


def _with_maxima(operations: list[Operation]) -> list[Operation]:
    """Return the operations, those that make up a maximum of two values as the one that they are: it rounds nothing."""
    readers: dict[int, list[int]] = {}
    for i, operation in enumerate(operations):
        for parent in operation.parents:
            readers.setdefault(parent, []).append(i)
    made = list(operations)
    for i, operation in enumerate(operations):
        if operation.kind == "max":
            a, excess, b = operation.parents
            gap = operations[excess].parents[0] if operations[excess].kind == "relu" else 0
            difference = (operations[gap].kind, operations[gap].parents, operations[gap].scales)
            if difference != ("sum", (b, a), (1.0, -1.0)) or operations[gap].offset is not None:
                raise Refused(f"operation {i} is no maximum: it does not add a and relu(b − a)")
            if (readers[gap], readers[excess]) != ([excess], [i]):
                raise Refused(f"parts of the maximum at operation {i} are read elsewhere, too")
            made[gap] = replace(operations[gap], exact=True)
    return made


def _operation(place: int, entry: dict[str, Any], arrays: dict[str, Array], before: list[Operation]) -> Operation:
    kind, size, parents = entry["kind"], math.prod(entry["shape"]), tuple(entry["parents"])
    if not all(type(parent) is int and 0 <= parent < place for parent in parents):
        raise Refused(f"operation {place} reads what does not stand before it")
    if not all(np.isfinite(array).all() and (np.abs(array) < MOST).all() for array in arrays.values()):
        raise Refused(f"an array of operation {place} holds what is no number, or too large a one")
    sizes = [before[parent].size for parent in parents]
    plane = math.prod(entry["shape"][1:]) if len(entry["shape"]) == 3 else max(1, size)
    if kind in ("input", "relu"):
        if (kind == "input") != (place == 0) or sizes != [size] * (kind == "relu"):
            raise Refused(f"operation {place}, {kind}, does not fit what it reads")
        return Operation(kind, parents, size, plane=plane)
    if kind not in KINDS:
        raise Refused(f"operation {place} is {kind!r}, which this audit does not know")
    offset = arrays.get("offset")
    wide = None if offset is None else np.broadcast_to(offset.astype(float), entry["shape"]).ravel()
    made = KINDS[kind](entry, {name: array for name, array in arrays.items() if name != "offset"}, sizes)
    operation = Operation(kind, parents, size, plane=plane, **{"offset": wide, **made})
    _fits(operation, sizes)
    return operation


def _fits(operation: Operation, sizes: list[int]) -> None:
    """Raise unless L takes values of these sizes to one of its own, and Lᵀ back."""
    assert operation.linear is not None  # noqa: S101 - of affine operations
    assert operation.transpose is not None  # noqa: S101
    image = operation.linear([np.zeros((1, size)) for size in sizes], False)
    back = operation.transpose(np.zeros((1, operation.size)))
    if image.shape != (1, operation.size) or [a.shape[1] for a in back if a is not None] != [
        size for size, a in zip(sizes, back, strict=True) if a is not None
    ]:
        raise ValueError(f"{operation.kind} gives {image.shape[1]} numbers, not {operation.size}")


def _dense(entry: dict[str, Any], arrays: dict[str, Array], sizes: list[int]) -> dict[str, Any]:
    weight = arrays["weight"].astype(float)
    (size,), (m, n) = sizes, weight.shape
    rows = size // n

    def linear(x: Sequence[Values], absolute: bool) -> Values:
        image: Values = x[0].reshape(-1, rows, n) @ (np.abs(weight) if absolute else weight).T
        return image.reshape(-1, rows * m)

    def transpose(a: Values) -> list[Values | None]:
        return [(a.reshape(-1, rows, m) @ weight).reshape(-1, rows * n)]

    return {"linear": linear, "transpose": transpose, "products": max(m, n), "largest": _largest(weight)}


def _conv(entry: dict[str, Any], arrays: dict[str, Array], sizes: list[int]) -> dict[str, Any]:
    """y[o] = Σ_{c, k} w[o, c, k] x[c, stride · p − padding + dilation · k], for each place p of the result."""
    weight = arrays["weight"].astype(float)
    steps = [tuple(entry[name]) for name in ("stride", "padding", "dilation")]
    small, large = tuple(entry["output"]), tuple(entry["input"])
    if turned := bool(entry["transposed"]):
        small, large = large, small
    grids, groups = (large, small), int(entry["groups"])

    def gather(x: Values, w: Array) -> Values:
        return _correlate(x, w, steps, grids, groups)

    def scatter(a: Values, w: Array) -> Values:
        return _spread(a, w, steps, grids, groups)

    def linear(x: Sequence[Values], absolute: bool) -> Values:
        return (scatter if turned else gather)(x[0], np.abs(weight) if absolute else weight)

    def transpose(a: Values) -> list[Values | None]:
        return [(gather if turned else scatter)(a, weight)]

    places = math.prod(weight.shape[2:])
    products = places * max(weight.shape[1], weight.shape[0] // groups)
    return {"linear": linear, "transpose": transpose, "products": products, "largest": _largest(weight)}


Steps = list[tuple[int, ...]]
Grids = tuple[tuple[int, ...], tuple[int, ...]]


def _correlate(x: Values, weight: Array, steps: Steps, grids: Grids, groups: int) -> Values:
    large, small = grids
    padded = np.pad(x.reshape(-1, *large), _ends(large[1:], steps, weight, small))
    total = np.zeros((len(x), groups, small[0] // groups, math.prod(small[1:])))
    for place, window in _windows(padded, steps, weight, small):
        total += _by_groups(weight[:, :, *place], groups) @ window.reshape(len(x), groups, large[0] // groups, -1)
    return total.reshape(len(x), -1)


def _spread(a: Values, weight: Array, steps: Steps, grids: Grids, groups: int) -> Values:
    large, small = grids
    values = a.reshape(len(a), *small)
    # Functionals of a few neurons are 0 but in a window: what is outside of it need not be multiplied.
    there = np.asarray(values.any((0, 1)))
    window = [_extent(np.asarray(there.any(axis=1 - k))) for k in (0, 1)] if there.ndim == 2 else [slice(None)]
    values = values[:, :, *window]
    ends = _ends(large[1:], steps, weight, small)[2:]
    padded = np.zeros((len(a), large[0], *(n + sum(end) for n, end in zip(large[1:], ends, strict=True))))
    by_group = weight.reshape(groups, small[0] // groups, -1).swapaxes(1, 2)
    products = by_group @ values.reshape(len(a), groups, small[0] // groups, -1)
    placed = products.reshape(len(a), large[0], *weight.shape[2:], *values.shape[2:])
    for place, read in _windows(padded, steps, weight, small):
        read[:, :, *window] += placed[:, :, *place]
    inside = tuple(slice(p, p + n) for p, n in zip(steps[1], large[1:], strict=True))
    return np.ascontiguousarray(padded[:, :, *inside]).reshape(len(a), -1)


def _extent(there: Array) -> slice:
    """Return from the first to the last place that is there."""
    places = np.flatnonzero(there)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 1)


def _by_groups(matrix: Array, groups: int) -> Array:
    return matrix.reshape(groups, -1, matrix.shape[1])


def _ends(shape: tuple[int, ...], steps: Steps, weight: Array, small: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return how many zeros stand before and behind each axis of a grid, as far as any window reaches."""
    along = zip(shape, small[1:], weight.shape[2:], *steps, strict=True)
    return [(0, 0), (0, 0), *((p, max(0, (m - 1) * s + d * (k - 1) + 1 - n - p)) for n, m, k, s, p, d in along)]


def _windows(padded: Array, steps: Steps, weight: Array, small: tuple[int, ...]) -> Any:  # noqa: ANN401 - pairs
    """Yield each place of the kernel, and what all windows find there, as a view."""
    for place in np.ndindex(*weight.shape[2:]):
        along = zip(place, small[1:], steps[0], steps[2], strict=True)
        yield place, padded[:, :, *(slice(k * d, k * d + (m - 1) * s + 1, s) for k, m, s, d in along)]


def _sum(entry: dict[str, Any], arrays: dict[str, Array], sizes: list[int]) -> dict[str, Any]:
    scales = tuple(float(scale) for scale in arrays["scales"])
    if len(scales) != len(sizes):
        raise ValueError("a sum has other scales than parents")

    def linear(x: Sequence[Values], absolute: bool) -> Values:
        return sum((abs(s) if absolute else s) * v for s, v in zip(scales, x, strict=True))  # type: ignore[return-value]

    return {
        "linear": linear,
        "transpose": lambda a: [s * a for s in scales],
        "products": len(scales),
        "largest": max(map(abs, scales)),
        "scales": scales,
    }


def _scale(entry: dict[str, Any], arrays: dict[str, Array], sizes: list[int]) -> dict[str, Any]:
    factor = np.broadcast_to(arrays["factor"].astype(float), entry["shape"]).ravel()
    return _factors(1 / factor if entry["inverse"] else factor)


def _norm(entry: dict[str, Any], arrays: dict[str, Array], sizes: list[int]) -> dict[str, Any]:
    wide = (-1, *(1 for _ in entry["shape"][1:]))
    mean, variance, weight, bias = (
        np.broadcast_to(arrays[name].astype(float).reshape(wide), entry["shape"]).ravel()
        for name in ("mean", "variance", "weight", "bias")
    )
    factor = weight / np.sqrt(variance + float(entry["eps"]))
    return _factors(factor) | {
        "offset": bias - mean * factor,
        "parts": np.abs(bias) + np.abs(mean * factor),
        "products": 8,
    }


def _factors(factor: Values) -> dict[str, Any]:
    if not (np.abs(factor) < MOST).all():
        raise Refused("a factor is no number, or too large a one")
    return {
        "linear": lambda x, absolute: x[0] * (np.abs(factor) if absolute else factor),
        "transpose": lambda a: [a * factor],
        "products": 3,
        "largest": _largest(factor),
        "fused": True,
    }


MOVED = {"products": 2, "exact": True}


def _max(entry: dict[str, Any], arrays: dict[str, Array], sizes: list[int]) -> dict[str, Any]:
    a, excess, b = sizes
    if not a == excess == b:
        raise ValueError("a maximum of values of other sizes")
    return {
        "linear": lambda x, absolute: x[0] + x[1],
        "transpose": lambda a: [a, a, None],
        "products": 2,
        "exact": True,
    }


def _gather(entry: dict[str, Any], arrays: dict[str, Array], sizes: list[int]) -> dict[str, Any]:
    index = arrays["index"].astype(np.int64).ravel()
    whole, ends = sum(sizes), np.cumsum(sizes)[:-1]
    if len(index) and (int(index.min()) < -1 or int(index.max()) >= whole):
        raise ValueError("an index is out of range")
    order = np.argsort(index, kind="stable")

    def linear(x: Sequence[Values], absolute: bool) -> Values:
        joined = np.concatenate([*x, np.zeros((len(x[0]), 1))], 1)
        return joined[:, index]

    def transpose(a: Values) -> list[Values | None]:
        return list(np.split(_added(a[:, order], index[order], whole), ends, axis=1))

    read = int(np.bincount(index[index >= 0], minlength=1).max())
    return {"linear": linear, "transpose": transpose, "products": max(1, read), "exact": True}


def _sparse(entry: dict[str, Any], arrays: dict[str, Array], sizes: list[int]) -> dict[str, Any]:
    row, column, value = (arrays[name].ravel() for name in ("row", "column", "value"))
    size, width = math.prod(entry["shape"]), sum(sizes)
    by_row, by_column = np.argsort(row, kind="stable"), np.argsort(column, kind="stable")
    for places, most in ((row, size), (column, width)):
        if len(places) and (int(places.min()) < 0 or int(places.max()) >= most):
            raise ValueError("an entry is out of range")

    def linear(x: Sequence[Values], absolute: bool) -> Values:
        factors = np.abs(value) if absolute else value
        return _added((np.concatenate(x, 1)[:, column] * factors)[:, by_row], row[by_row], size)

    def transpose(a: Values) -> list[Values | None]:
        back = _added((a[:, row] * value)[:, by_column], column[by_column], width)
        return list(np.split(back, np.cumsum(sizes)[:-1], axis=1))

    products = max(int(np.bincount(places, minlength=1).max()) for places in (row, column))
    return {"linear": linear, "transpose": transpose, "products": products, "largest": _largest(value)}


def _added(values: Values, places: Array, size: int) -> Values:
    """Return the sums of the columns that go to each place; places are sorted, and −1 goes nowhere."""
    total = np.zeros((len(values), size))
    there = places >= 0
    if there.any():
        first, begin = np.unique(places[there], return_index=True)
        total[:, first] = np.add.reduceat(values[:, there], begin, axis=1)
    return total


def _largest(array: Array) -> float:
    return float(np.abs(array).max(initial=0.0))


KINDS: dict[str, Callable[[dict[str, Any], dict[str, Array], list[int]], dict[str, Any]]] = {
    "dense": _dense,
    "conv": _conv,
    "sum": _sum,
    "scale": _scale,
    "norm": _norm,
    "max": _max,
    "gather": _gather,
    "sparse": _sparse,
}
"""From an entry of the list, its arrays and the sizes of what it reads to L, |L| and Lᵀ."""
