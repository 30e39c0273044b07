"""The batch size as a number that no file contains, so that ordinary arithmetic carries it through a graph.

While a graph is read, its nodes run once on tensors without storage (torch's device "meta") whose batch has `BATCH`
rows. `BATCH` is a large prime: a size that is a multiple of it, k · BATCH, stands for k · B at run time, whichever way
the graph came by it, through Shape, Gather, Mul and Concat as well as through a convolution. Sums with other sizes,
products and quotients of batch sizes are no such multiples: they are seen, and refused.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

from torch import SymInt, Tensor

BATCH = 1_000_000_007
"""The batch size while a graph is read; neither 2³¹ − 1 nor 2⁶³ − 1, which mean "to the end" in a Slice."""

_Rows = TypeVar("_Rows", int, SymInt)
"""A number of rows; while torch exports a network it is a symbol."""


def grows(size: int) -> bool:
    """Whether a size is a multiple of the batch size."""
    return size != 0 and size % BATCH == 0


def batch_axis(shape: Sequence[int]) -> int | None:
    """Return the one axis that grows with the batch; None if there is none, or more than one."""
    axes = [axis for axis, size in enumerate(shape) if grows(size)]
    return axes[0] if len(axes) == 1 else None


def depends(value: Tensor) -> bool:
    """Whether a value depends on the image; all others are known while the graph is read."""
    return value.is_meta


def size_at(rows: _Rows, size: int) -> int | _Rows:
    """Return a size at a batch of so many rows: k · rows for k · BATCH, any other as it is."""
    return size // BATCH * rows if grows(size) else size


def show(shape: Sequence[int]) -> str:
    """Return a shape as a reader would write it: (B, 3, 8, 8)."""
    return f"({', '.join(_size(size) for size in shape)}{',' * (len(shape) == 1)})"


def freed(target: Sequence[int], shape: Sequence[int], fixed: int | None) -> list[int] | None:
    """Return the target of a Reshape with −1 for the axis of the batch; None if that axis cannot be told.

    Files carry the batch size of their export, often 1, in such targets. With n rows (n = `fixed`, or 1 where the file
    leaves the batch free) every size is known. The axis that keeps the rows is, in this order,
        1. one whose size was computed from the batch size;
        2. one of size n that has as many elements before it as the rows had;
        3. one of size n behind what was merged in front of the rows;
        4. the one that the target leaves open with −1;
        5. one as in 2. whose size is a multiple of n: rows merged with what follows them, such as heads of attention;
           or the one before it where that would be the last axis, which holds features.
    Shapes alone do not always decide it. A wrong choice does not survive the comparison with onnxruntime.

    Args:
        target: the sizes; 0 is already replaced by the size that it copies, −1 still stands for the rest.
        shape: of the input, with one multiple of `BATCH`.
        fixed: the batch size of the file.
    """
    rows, axis = fixed or 1, batch_axis(shape)
    sizes = _resolved([size_at(rows, size) for size in target], math.prod(size_at(rows, size) for size in shape))
    if axis is None or sizes is None:
        return None
    outer = math.prod(shape[:axis])
    inner, last = outer * shape[axis] // BATCH, len(sizes) - 1
    behind = {place: [i for i in range(len(sizes)) if math.prod(sizes[:i]) == place] for place in (outer, inner)}
    free = [
        *(i for i, size in enumerate(target) if grows(size)),
        *(i for i in (*behind[outer], *behind[inner]) if sizes[i] == rows),
        *(i for i, size in enumerate(target) if size == -1 and sizes[i] % rows == 0),
        *(max(i - 1, 0) if i == last else i for i in behind[outer] if sizes[i] % rows == 0),
    ]
    return [-1 if i == free[0] else size for i, size in enumerate(sizes)] if free else None


def _resolved(sizes: list[int], total: int) -> list[int] | None:
    """Return sizes with the number for which −1 stands; None if they do not make `total` elements."""
    known = math.prod(size for size in sizes if size != -1)
    if -1 in sizes and known:
        sizes[sizes.index(-1)] = total // known
    return sizes if math.prod(sizes) == total else None


def _size(size: int) -> str:
    factor = size // BATCH
    return str(size) if not grows(size) else "B" if factor == 1 else f"{factor}B"
