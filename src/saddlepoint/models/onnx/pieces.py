"""Nodes that cut tensors into pieces and put them together."""

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from saddlepoint.models.onnx.free_batch import batch_axis, depends, size_at
from saddlepoint.models.onnx.node import Build, Call, Node
from saddlepoint.models.onnx.windows import torch_pads

_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _slice(node: Node) -> nn.Module:
    starts, ends = node.numbers(1, "starts", 10), node.numbers(2, "ends", 10)
    axes, steps = node.numbers(3, "axes", 10), node.numbers(4, "steps", 10) if node.opset >= 10 else None
    if starts is None or ends is None:
        raise node.refused("it has no starts or ends")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise node.refused("its starts, ends, axes and steps do not fit each other")
    cuts, flips = [slice(None)] * node.x.ndim, []
    for start, end, where, step in zip(starts, ends, axes, steps, strict=True):
        if _whole(node, where, slice(start, end, step)):
            continue
        axis = node.axis(where)
        size = node.x.shape[axis]
        picked = range(size)[start:end:step]
        if step < 0:  # torch steps forwards only
            flips.append(axis)
            picked = range(size - 1 - picked.start, size - 1 - picked.stop, -step)
        cuts[axis] = slice(picked.start, picked.stop, picked.step)
    return Call(_cut, tuple(cuts), tuple(flips))


def _whole(node: Node, axis: int, cut: slice) -> bool:
    """Whether a slice takes all rows of the batch, as some exporters say explicitly."""
    shape = node.x.shape
    if not depends(node.x) or axis % node.x.ndim != batch_axis(shape):
        return False
    size = shape[axis]
    size = size_at(node.fixed, size) if node.fixed else size
    return len(range(size)[cut]) == size and cut.step == 1


def _cut(x: Tensor, cuts: tuple[slice, ...], flips: tuple[int, ...]) -> Tensor:
    return operator.getitem(x.flip(flips) if flips else x, cuts)


def _gather(node: Node) -> nn.Module:
    axis, index = node.axis(node.attribute("axis", 0)), node.constant(1)
    size = node.x.shape[axis]
    if index.is_floating_point() or bool(((index < -size) | (index >= size)).any()):
        raise node.refused(f"its indices leave an axis of size {size}")
    index = index % size
    if index.ndim and not node.batched:  # torch.vmap makes a gather of index_select, whose places are numbers as well
        return Call(_selected, axis, tuple(index.flatten().tolist()), tuple(index.shape))
    return _Gather(axis, index) if index.ndim else Call(torch.select, axis, int(index))


def _selected(x: Tensor, axis: int, places: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    taken = torch.cat([x.narrow(axis, place, 1) for place in places], axis)
    return taken.reshape(*x.shape[:axis], *shape, *x.shape[axis + 1 :])


class _Gather(nn.Module):
    """x at these indices of one axis, which the axes of the indices replace."""

    index: Tensor

    def __init__(self, axis: int, index: Tensor) -> None:
        super().__init__()
        self.axis = axis
        # The graph's structure, not something learnt.
        self.register_buffer("index", index.clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        taken = x.index_select(self.axis, self.index.reshape(-1))
        return taken if self.index.ndim == 1 else torch.unflatten(taken, self.axis, self.index.shape)


def _concat(node: Node) -> nn.Module:
    """Along one axis; a constant, which has one row if the file has, is repeated for every row of the batch."""
    values = [operand.value for operand in node.operands]
    axis = node.axis(node.attribute("axis", 1), max(values, key=depends))
    rows = next((place for place, value in enumerate(values) if depends(value)), 0)
    constants = tuple(place for place, value in enumerate(values) if not depends(value))
    return _Concat(axis, rows, batch_axis(values[rows].shape) if depends(values[rows]) else None, constants)


class _Concat(nn.Module):
    """Operands one after the other; `constants` are expanded along axis `batch` to the size of operand `rows`."""

    def __init__(self, axis: int, rows: int, batch: int | None, constants: tuple[int, ...]) -> None:
        super().__init__()
        self.axis, self.rows, self.batch, self.constants = axis, rows, batch, constants

    def forward(self, *tensors: Tensor) -> Tensor:
        parts = list(tensors)
        if self.batch is not None:
            sizes = [-1] * parts[self.rows].ndim
            sizes[self.batch] = parts[self.rows].shape[self.batch]
            for place in self.constants:
                parts[place] = parts[place].expand(sizes)
        return torch.cat(parts, self.axis)


def _split(node: Node) -> nn.Module:
    axis, sizes = node.axis(node.attribute("axis", 0)), node.numbers(1, "split", 13)
    parts, size = node.attribute("num_outputs", node.outputs), node.x.shape[axis]
    if sizes is None:
        part = -(-size // parts)
        sizes = [part] * (parts - 1) + [size - part * (parts - 1)]
    if sum(sizes) != size or min(sizes) < 0:
        raise node.refused(f"it splits an axis of size {size} into {sizes}")
    return Call(torch.split, sizes, axis)


def _pad(node: Node) -> nn.Module:
    mode, name = node.attribute("mode", "constant"), "paddings" if node.opset < 2 else "pads"
    pads, value = node.numbers(1, name, 11), node.number(2, "value", 11, 0.0)
    axes = node.numbers(3, "", 18) if node.opset >= 18 else None
    axes = list(range(node.x.ndim)) if axes is None else axes
    if pads is None or len(pads) != 2 * len(axes) or mode not in _MODES:
        raise node.refused(f"its pads {pads} or mode {mode!r} do not fit")
    begin, end = [0] * node.x.ndim, [0] * node.x.ndim
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        if before or after:
            begin[node.axis(axis)], end[node.axis(axis)] = before, after
    return _padded(node, begin, end, mode, value)


def _padded(node: Node, begin: Sequence[int], end: Sequence[int], mode: str, value: float | int) -> nn.Module:
    if mode == "constant":
        return Call(functional.pad, torch_pads(begin, end), value=value)
    if any((*begin[:2], *end[:2])):
        raise node.refused(f"it pads batch or channels with mode {mode!r}; expected spatial dimensions")
    return Call(functional.pad, torch_pads(begin[2:], end[2:]), mode=_MODES[mode])


TABLE: dict[str, Build] = {
    "Concat": _concat,
    "Gather": _gather,
    "Pad": _pad,
    "Slice": _slice,
    "Split": _split,
}
