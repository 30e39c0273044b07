"""Nodes that give sizes, or change the shape of a tensor and none of its numbers; none of them fixes the batch size."""

import math

import torch
from torch import Tensor, nn

from saddlepoint.models.onnx.free_batch import batch_axis, depends, freed, grows, show, size_at
from saddlepoint.models.onnx.node import LIMIT, Build, Call, Node


def _constant(node: Node) -> Tensor:
    kinds = ("value", "value_float", "value_floats", "value_int", "value_ints")
    values = [value for value in (node.attribute(kind, None) for kind in kinds) if value is not None]
    if len(values) != 1:
        raise node.refused("it holds no tensor of numbers")
    value = torch.as_tensor(values[0])
    return value.float() if value.is_floating_point() else value


def _shape(node: Node) -> Tensor:
    start, end = node.attribute("start", 0), node.attribute("end", None)
    return torch.tensor(list(node.x.shape)[start:end], dtype=torch.int64)


def _size(node: Node) -> Tensor:
    return torch.tensor(math.prod(node.x.shape))


def _reshape(node: Node) -> nn.Module:
    target = node.numbers(1, "shape", 5)
    if target is None or min(target, default=0) < -1 or target.count(-1) > 1:
        raise node.refused(f"it has no valid target: {target}")
    if not node.attribute("allowzero", 0):
        if any(size == 0 and axis >= node.x.ndim for axis, size in enumerate(target)):
            raise node.refused(f"its target {target} copies a size that the input does not have")
        target = [node.x.shape[axis] if size == 0 else size for axis, size in enumerate(target)]
    return _reshaped(node, target)


def _reshaped(node: Node, target: list[int]) -> nn.Module:
    if not depends(node.x) or not node.batched:
        return Call(torch.reshape, tuple(target))
    sizes = freed(target, node.x.shape, node.fixed)
    if sizes is None:
        raise node.refused(f"cannot tell where the batch is in its target {show(target)}")
    return Call(torch.reshape, tuple(sizes))


def _flatten(node: Node) -> nn.Module:
    axis = node.attribute("axis", 1)
    axis = node.axis(axis + node.x.ndim if axis < 0 else axis, rank=node.x.ndim + 1)
    if axis == 1 and batch_axis(node.x.shape) == 0:
        return nn.Flatten()
    target = [math.prod(node.x.shape[:axis]), math.prod(node.x.shape[axis:])]
    return _reshaped(node, [size_at(node.fixed, size) for size in target] if node.fixed else target)


def _squeeze(node: Node) -> nn.Module:
    """Axes of size 1; all of them when none is named, but not that of the batch, also if the file's batch size is 1."""
    shape = node.x.shape
    listed = node.numbers(1, "axes", 13)
    axes = node.axes(listed if listed is not None else [axis for axis, size in enumerate(shape) if size == 1])
    if any(shape[axis] != 1 for axis in axes):
        raise node.refused(f"it removes axes {list(axes)} whose size is not 1")
    return Call(torch.squeeze, axes)


def _unsqueeze(node: Node) -> nn.Module:
    axes = node.numbers(1, "axes", 13) or []
    rank = node.x.ndim + len(axes)
    return Call(_unsqueezed, tuple(sorted(node.axis(axis, rank=rank) for axis in axes)))


def _unsqueezed(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    for axis in axes:
        x = x.unsqueeze(axis)
    return x


def _transpose(node: Node) -> nn.Module:
    return Call(torch.permute, tuple(node.attribute("perm", reversed(range(node.x.ndim)))))


class _Expand(nn.Module):
    """Broadcast to `sizes`; −1 keeps a size of x, and one that grows with the batch is taken from the graph's input."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes

    def forward(self, x: Tensor, entry: Tensor | None = None) -> Tensor:
        rows = 1 if entry is None else entry.shape[0]
        return x.expand([size_at(rows, size) for size in self.sizes])


def _expand(node: Node) -> nn.Module:
    return _expanded(node, node.integers(1))


def _expanded(node: Node, target: list[int]) -> nn.Module:
    x = [1] * (len(target) - node.x.ndim) + list(node.x.shape)
    target = [1] * (len(x) - len(target)) + target
    sizes = [_broadcast(node, own, size) for own, size in zip(x, target, strict=True)]
    if any(map(grows, sizes)):
        node.with_rows()
    return _Expand(tuple(sizes))


def _broadcast(node: Node, own: int, size: int) -> int:
    """Return the size for `_Expand` where an axis of size `own` is broadcast to `size`."""
    if grows(own):
        if size not in (1, own, size_at(node.fixed or 1, own)):
            raise node.refused(f"it broadcasts the batch to {size}")
        return -1
    if 1 not in (own, size) and own != size:
        raise node.refused(f"it broadcasts an axis of size {own} to {size}")
    return own if size == 1 else size


def _constant_of_shape(node: Node) -> nn.Module | Tensor:
    value: Tensor = node.attribute("value", torch.zeros(1))
    target = node.integers(0)
    if not any(map(grows, target)):
        if math.prod(target) > LIMIT:
            raise node.refused(f"it makes a tensor {show(target)}; expected at most {LIMIT} numbers")
        return value.reshape(()).expand(target)
    node.with_rows()
    return _Fill(tuple(target), value.item())


class _Fill(nn.Module):
    """A tensor of one number, whose size grows with the batch."""

    def __init__(self, sizes: tuple[int, ...], value: float) -> None:
        super().__init__()
        self.sizes, self.value = sizes, value

    def forward(self, entry: Tensor) -> Tensor:
        sizes = [size_at(entry.shape[0], size) for size in self.sizes]
        return torch.full(sizes, self.value, device=entry.device)


TABLE: dict[str, Build] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
