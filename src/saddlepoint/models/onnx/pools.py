"""Pools, softmax and reductions: several numbers in, one out."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from saddlepoint.models.onnx.free_batch import batch_axis, depends
from saddlepoint.models.onnx.node import Build, Call, Node
from saddlepoint.models.onnx.windows import Window, rounded_up, window

_MAX_POOLS: tuple[Callable[..., nn.Module], ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVG_POOLS: tuple[Callable[..., nn.Module], ...] = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_CONVS: tuple[Callable[..., Tensor], ...] = (functional.conv1d, functional.conv2d, functional.conv3d)


def _padded_by_torch(over: Window) -> bool:
    """Whether torch's pools can pad so: alike on both sides, and by no more than half of the window."""
    return over.symmetric and all(2 * pad <= size for pad, size in zip(over.begin, over.size, strict=True))


def _windows(node: Node) -> tuple[Window, Window]:
    """Return the window of a pool, and that with the padding of ceil_mode."""
    bare = window(node, node.attribute("kernel_shape", ()))
    reach = zip(node.spatial(), bare.begin, bare.end, bare.extent, strict=True)
    if any(size + before + after < extent for size, before, after, extent in reach):
        raise node.refused(f"its window {bare.size} is larger than the padded image")
    return bare, rounded_up(node, bare)


def _max_pool(node: Node) -> nn.Module:
    _, over = _windows(node)
    by_torch = _padded_by_torch(over)
    layer = _MAX_POOLS[len(over.size) - 1](over.size, over.stride, over.begin if by_torch else 0, over.dilation)
    return layer if by_torch else nn.Sequential(Call(functional.pad, over.pads, value=-math.inf), layer)


def _average_pool(node: Node) -> nn.Module:
    (bare, over), counted = _windows(node), bool(node.attribute("count_include_pad", 0))
    if over == bare and _padded_by_torch(over) and set(over.dilation) == {1}:
        return _AVG_POOLS[len(over.size) - 1](over.size, over.stride, over.begin, count_include_pad=counted)
    return _Average(over, bare if counted else bare.without_padding(), node.spatial(), node.x.shape[1])


class _Average(nn.Module):
    """Sums over windows, divided by how many pixels each holds: for windows that torch's pools do not know.

    Args:
        over: the window, with all its padding.
        counted: a window with the padding that counts as pixels.
        sizes: the spatial sizes of the input.
        channels: of the input.
    """

    ones: Tensor
    counts: Tensor

    def __init__(self, over: Window, counted: Window, sizes: Sequence[int], channels: int) -> None:
        super().__init__()
        self.pads, self.conv = over.pads, _CONVS[len(sizes) - 1]
        self.options = {"stride": over.stride, "dilation": over.dilation}
        pixels = functional.pad(torch.ones(1, 1, *sizes), counted.pads, value=1.0)
        rest = tuple(whole - part for whole, part in zip(over.pads, counted.pads, strict=True))
        ones = torch.ones(channels, 1, *over.size)
        counts = self.conv(functional.pad(pixels, rest), ones[:1], **self.options)
        self.register_buffer("ones", ones, persistent=False)
        self.register_buffer("counts", counts, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.pad(x, self.pads), self.ones, groups=len(self.ones), **self.options) / self.counts


def _global(function: Callable[..., Tensor]) -> Build:
    return lambda node: Call(function, dim=tuple(range(2, 2 + len(node.spatial()))), keepdim=True)


def _softmax(function: Callable[..., Tensor], kind: Callable[[int], nn.Module]) -> Build:
    """Along one axis; before opset 13 along all axes from one on, as if they were one."""

    def build(node: Node) -> nn.Module:
        axis, last = node.axis(node.attribute("axis", 1 if node.opset < 13 else -1)), node.x.ndim - 1
        if node.opset >= 13 or axis == last:
            return kind(axis)
        if depends(node.x) and node.batched and axis <= (batch_axis(node.x.shape) or 0):
            raise node.refused("it works along the batch; expected a network that maps each row by itself")
        return Call(_flattened, apply=function, axis=axis)

    return build


def _flattened(x: Tensor, *, apply: Callable[..., Tensor], axis: int) -> Tensor:
    return apply(x.flatten(axis), dim=axis).reshape(x.shape)


def _reduce(function: Callable[..., Tensor], inputs_since: int = 18) -> Build:
    """Along `axes`, all when not given; an attribute before opset `inputs_since`."""

    def build(node: Node) -> nn.Module:
        axes, keep = node.numbers(1, "axes", inputs_since), bool(node.attribute("keepdims", 1))
        if node.attribute("noop_with_empty_axes", 0) and not axes:
            return nn.Identity()
        return Call(function, dim=node.axes(axes or range(node.x.ndim)), keepdim=keep)

    return build


def _product(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    for axis in reversed(dim):
        x = x.prod(axis, keepdim=keepdim)
    return x


TABLE: dict[str, Build] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global(torch.mean),
    "GlobalMaxPool": _global(torch.amax),
    "LogSoftmax": _softmax(functional.log_softmax, nn.LogSoftmax),
    "MaxPool": _max_pool,
    "ReduceL2": _reduce(torch.linalg.vector_norm),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMin": _reduce(torch.amin),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduce(torch.sum, inputs_since=13),
    "Softmax": _softmax(functional.softmax, nn.Softmax),
}
