"""Operations that only move numbers, or average them: they stand for themselves."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from saddlepoint.certificates.affine import Affine, Stencil
from saddlepoint.certificates.aten.table import Examples, Lowering, Value, affine, refuse, rule, shape_of

_MOVES = (
    *("view", "_unsafe_view", "reshape", "permute", "transpose", "t", "squeeze", "unsqueeze", "flatten", "unflatten"),
    *("slice", "select", "clone", "alias", "detach", "contiguous", "lift_fresh_copy", "_to_copy", "cat", "flip"),
    *("narrow", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
)
_COPIES = ("_to_copy", "clone", "alias", "detach", "contiguous", "lift_fresh_copy")
_SPREADS = (
    *("expand", "repeat", "mean", "sum", "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d"),
    *("_adaptive_avg_pool3d", "adaptive_avg_pool1d", "reflection_pad1d", "reflection_pad2d", "replication_pad1d"),
    *("replication_pad2d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_nearest1d", "index_select"),
)


@rule(*_MOVES, *_SPREADS)
def _moved(low: Lowering, node: torch.fx.Node, *arguments: Any, **options: Any) -> Value:
    """Apply the operation itself, to as many examples as there are."""
    parents = _parents(arguments)
    shape, target = shape_of(node), node.target
    kept = {name: value for name, value in options.items() if name not in ("dtype", "device", "layout", "pin_memory")}
    name = str(getattr(target, "overloadpacket", target)).removeprefix("aten.")

    def linear(*tensors: Tensor) -> Tensor:
        given = iter(tensors)
        filled = _filled(arguments, given, tensors[0].shape[0])
        if name in _COPIES:
            return tensors[0]
        if name in ("view", "_unsafe_view"):
            return tensors[0].reshape(filled[1])
        moved: Tensor = target(*filled, **kept)  # type: ignore[operator]
        return moved

    sizes = [math.prod(parent.shape) for parent in parents]
    spread = 16 * math.ceil(max(math.prod(shape), *sizes) / max(1, min(math.prod(shape), *sizes)))
    if name.startswith("avg_pool"):
        spread = max(spread, math.prod(arguments[1]))
    adjoint = None
    if len(parents) == 1 and sizes[0] == math.prod(shape) and name in ("view", "_unsafe_view", "reshape", "clone"):
        adjoint = lambda functional: (functional.reshape(-1, *parents[0].shape),)  # noqa: E731
    stencil = Stencil(lambda windows: (windows,)) if name in _COPIES else None
    if name == "avg_pool2d" and len(shape) == 3:
        stencil = _averaged(*arguments[1:])
    shapes, exact = tuple(parent.shape for parent in parents), name in _MOVES
    operation = Affine(linear, shapes, terms=spread, exact=exact, adjoint=adjoint, stencil=stencil)
    return affine(low, node, parents, operation)


def _averaged(
    kernel: list[int],
    stride: list[int] | None = None,
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Stencil | None:
    """Return Lᵀ of average pooling for functionals of windows, where every window has the same divisor."""
    (high, wide), step, pads = _two(kernel), _two(stride or kernel), _two(padding)
    if ceil_mode or (any(pads) and not count_include_pad):
        return None
    share = 1 / (divisor or high * wide)

    def pull(windows: Tensor) -> tuple[Tensor]:
        channels = windows.shape[1]
        kernels = windows.new_full((channels, 1, high, wide), share)
        return (torch.nn.functional.conv_transpose2d(windows, kernels, stride=step, groups=channels),)

    return Stencil(pull, step, pads)


def _two(value: Sequence[int]) -> tuple[int, int]:
    return value[0], value[-1]


@rule("split", "split_with_sizes", "chunk", "unbind")
def _split(low: Lowering, node: torch.fx.Node, x: Value, *arguments: Any) -> tuple[Value, ...]:
    def part(index: int) -> Value:
        operation = Affine(
            lambda v: node.target(v, *arguments)[index],  # type: ignore[operator]
            (x.shape,),
            exact=True,
        )
        return low.add(operation, (x,), shape_of(node, index), f"{node.name}_{index}")

    return tuple(part(index) for index in range(len(node.meta["val"])))


@rule("constant_pad_nd")
def _pad(low: Lowering, node: torch.fx.Node, x: Value, pad: list[int], value: float = 0.0) -> Value:
    shape = shape_of(node)
    if len(pad) // 2 > len(x.shape):
        raise refuse(node, "pads the examples' axis")
    offset = None
    if value:
        inside = torch.nn.functional.pad(torch.ones(1, *x.shape, dtype=torch.float64), pad)[0]
        offset = (1 - inside) * value
    operation = Affine(lambda v: torch.nn.functional.pad(v, pad), (x.shape,), (), offset, exact=True)
    return low.add(operation, (x,), shape, node.name)


@rule("full_like")
def _full_like(low: Lowering, node: torch.fx.Node, x: Value, value: float, **_: Any) -> Value:
    """0 · x + value."""
    shape = shape_of(node)
    operation = Affine(
        lambda v: v.new_zeros(v.shape[0], *shape),
        (x.shape,),
        offset=torch.full(shape, float(value), dtype=torch.float64),
        adjoint=lambda functional: (None,),
    )
    return affine(low, node, [x], operation)


@rule("sym_size")
def _examples(low: Lowering, node: torch.fx.Node, x: Value, axis: int) -> Examples:
    if axis != 0:
        raise refuse(node, "asks for a size that is not known")
    return Examples()


def _parents(arguments: Any) -> list[Value]:
    if isinstance(arguments, tuple | list):
        return [value for argument in arguments for value in _parents(argument)]
    return [arguments] if isinstance(arguments, Value) else []


def _filled(arguments: Any, tensors: Any, examples: int) -> Any:
    """Put tensors where arguments vary, and the number of examples where it is asked for."""
    if isinstance(arguments, tuple | list):
        return type(arguments)(_filled(argument, tensors, examples) for argument in arguments)
    if isinstance(arguments, Value):
        return next(tensors)
    return examples if isinstance(arguments, Examples) else arguments
