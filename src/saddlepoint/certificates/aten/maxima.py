"""max(a, b) = a + max(b − a, 0), and pooling made of it."""

import math
from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from saddlepoint.certificates.affine import Affine, Form, Stencil
from saddlepoint.certificates.aten.rules import Lowering, Value, rule, shape_of
from saddlepoint.certificates.aten.sums import combination
from saddlepoint.certificates.relu import ReLU


def larger(low: Lowering, a: Value, b: Value, name: str) -> Value:
    """Append max(a, b) = a + max(b − a, 0).

    Args:
        low: the network under construction.
        a: one value.
        b: another of the same shape.
        name: the name of the node.
    """
    gap = combination(low, f"{name}_gap", (b, a), (1.0, -1.0), a.shape)
    total = Affine(
        lambda a, excess, b: a + excess,
        (a.shape,) * 3,
        adjoint=lambda functional: (functional, functional, None),
        range=lambda a, excess, b: (torch.maximum(a[0], b[0]), torch.maximum(a[1], b[1])),
        stencil=Stencil(lambda windows: (windows, windows, None)),
        form=Form("max"),
    )
    return low.add(total, (a, low.add(ReLU(), (gap,), a.shape, f"{name}_relu"), b), a.shape, name)


def broadcast(low: Lowering, x: Value, shape: tuple[int, ...], name: str) -> Value:
    """Append x repeated along axes to a shape; itself if it has that shape.

    Args:
        low: the network under construction.
        x: the value.
        shape: the shape of one example to repeat it to.
        name: the name of the node.
    """
    if x.shape == shape:
        return x
    wide = (1,) * (len(shape) - len(x.shape)) + x.shape
    operation = Affine(
        lambda v: v.reshape(len(v), *wide).expand(len(v), *shape),
        (x.shape,),
        pulled=math.prod(shape) // math.prod(x.shape),
        exact=True,
        adjoint=lambda functional: (functional.sum_to_size(len(functional), *wide).reshape(-1, *x.shape),),
    )
    return low.add(operation, (x,), shape, name)


@rule("max_pool2d_with_indices", "max_pool2d")
def _max_pool(
    low: Lowering,
    node: torch.fx.Node,
    x: Value,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> tuple[Value]:
    """The maximum over rows, then over columns, each as a chain of max(a, b); `ceil_mode` is in the result's shape."""
    plain = len(x.shape) == 3 and not any(_pair(padding))
    part = 0 if isinstance(node.meta["val"], tuple | list) else None
    sizes, value = shape_of(node, part)[-2:], x
    for axis in (0, 1):
        pick = [_pair(v)[axis] for v in (kernel_size, stride or kernel_size, padding, dilation)]
        places = _windows(value.shape[len(x.shape) - 2 + axis], sizes[axis], *pick)
        parts = [
            _picked(low, value, len(x.shape) - 1 + axis, chosen, f"{node.name}_{axis}_{i}", grid=plain)
            for i, chosen in enumerate(places)
        ]
        names = iter(range(len(parts)))
        value = reduce(lambda a, b: larger(low, a, b, f"{node.name}_{axis}_max{next(names)}"), parts)
    return (value,) if part is not None else value  # type: ignore[return-value]


def _windows(size: int, windows: int, kernel: int, stride: int, padding: int, dilation: int) -> list[list[int]]:
    """Return, for each place in a window, which coordinate each window finds there; for padding another of its own."""
    seen = [
        [place for k in range(kernel) if 0 <= (place := w * stride - padding + k * dilation) < size]
        for w in range(windows)
    ]
    return [[own[min(k, len(own) - 1)] for own in seen] for k in range(max(map(len, seen)))]


def _picked(low: Lowering, x: Value, axis: int, places: list[int], name: str, *, grid: bool) -> Value:
    shape = (*x.shape[: axis - 1], len(places), *x.shape[axis:])
    index = torch.tensor(places)
    operation = Affine(
        lambda v: v.index_select(axis, index.to(v.device)),
        (x.shape,),
        terms=1 + max(map(places.count, places)),
        stencil=_evenly(axis - 2, places) if grid else None,
        form=Form("gather", {"index": torch.arange(math.prod(x.shape)).reshape(x.shape).index_select(axis - 1, index)}),
    )
    return low.add(operation, (x,), shape, name)


def _evenly(axis: int, places: list[int]) -> Stencil | None:
    """Return Lᵀ of taking rows or columns at even distances, for functionals of windows; None at uneven ones."""
    steps = {b - a for a, b in pairwise(places)} or {1}
    if len(steps) > 1 or min(steps) < 1:
        return None
    (step,), first = steps, places[0]
    stride, padding = ((step, 1), (-first, 0)) if axis == 0 else ((1, step), (0, -first))
    return Stencil(lambda windows: (_apart(windows, stride),), stride, padding)


def _apart(windows: Tensor, stride: tuple[int, int]) -> Tensor:
    """Return windows with zeros between their rows and columns."""
    count, channels, high, wide = windows.shape
    size = ((high - 1) * stride[0] + 1, (wide - 1) * stride[1] + 1)
    spread = windows.new_zeros(count, channels, *size)
    spread[:, :, :: stride[0], :: stride[1]] = windows
    return spread


def _pair(value: Any) -> tuple[int, int]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    return (values[0], values[-1])
