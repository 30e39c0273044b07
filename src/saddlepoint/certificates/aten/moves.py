"""Operations that only move numbers, or average them: they stand for themselves."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from saddlepoint.certificates.affine import Affine, Linear, Stencil
from saddlepoint.certificates.aten.rules import (
    Examples,
    Lowering,
    Value,
    affine,
    call,
    name_of,
    refuse,
    rule,
    shape_of,
)

_COPIES = ("_to_copy", "clone", "alias", "detach", "contiguous", "lift_fresh_copy")
_RESHAPES = ("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze")
_MOVES = (
    *_RESHAPES,
    *("permute", "transpose", "t", "slice", "select", "flip", "narrow", "pixel_shuffle", "pixel_unshuffle"),
    "channel_shuffle",
)
"""Each coordinate of the result is one of the parents', and each of those is read once."""
_REPEATS = (
    *("expand", "repeat", "index_select", "reflection_pad1d", "reflection_pad2d", "replication_pad1d"),
    *("replication_pad2d", "upsample_nearest1d", "upsample_nearest2d"),
)
"""Each coordinate of the result is one of the parent's, which may be read many times."""
_MEANS = (
    *("mean", "sum", "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
    *("adaptive_avg_pool1d", "upsample_bilinear2d"),
)
"""Sums with coefficients in [0, 1]."""


@rule(*_MOVES, *_REPEATS, *_MEANS)
def _moved(low: Lowering, node: torch.fx.Node, **named: Any) -> Value:
    """Apply the operation itself, to as many examples as there are."""
    (x,), shape, name = _parents(list(named.values())), shape_of(node), name_of(node.target)
    _require_rows(node, name, named)
    named = {key: None if key == "dtype" else value for key, value in named.items()}  # the graph's own, whichever it is

    def linear(v: Tensor) -> Tensor:
        return call(node, _filled(named, iter((v,)), len(v)))  # type: ignore[no-any-return]

    terms, pulled = 1, 1
    if name in _REPEATS:
        pulled = _readings(linear, x.shape)
    elif name in _MEANS:
        terms, pulled = _summands(name, named, x.shape, shape)
    operation = Affine(
        linear if name not in _RESHAPES else lambda v: v.reshape(len(v), *shape),
        (x.shape,),
        terms=terms,
        pulled=pulled,
        exact=name not in _MEANS,
        adjoint=(lambda functional: (functional.reshape(-1, *x.shape),)) if name in _RESHAPES else None,
        stencil=_averaged(*list(named.values())[1:]) if name == "avg_pool2d" and len(shape) == 3 else None,
    )
    return affine(low, node, [x], operation)


@rule(*_COPIES)
def _copied(low: Lowering, node: torch.fx.Node, x: Value) -> Value:
    stencil = Stencil(lambda windows: (windows,))
    return affine(low, node, [x], Affine(lambda v: v, (x.shape,), exact=True, stencil=stencil))


@rule("cat")
def _joined(low: Lowering, node: torch.fx.Node, tensors: Sequence[Any], dim: int) -> Value:
    """Values and constants side by side: constants are in the offset, and zeros in L."""
    parents = _parents(tensors)

    def joined(*values: Tensor, constants: bool) -> Tensor:
        filled = _filled(tensors, iter(values), len(values[0]))
        filled = [part.expand(len(values[0]), *part.shape[1:]) for part in filled]
        kept = [
            part if constants or isinstance(tensor, Value) else torch.zeros_like(part)
            for tensor, part in zip(tensors, filled, strict=True)
        ]
        return torch.cat([part.to(values[0]) for part in kept], dim)

    offset = None
    if len(parents) < len(tensors):
        offset = joined(*(torch.zeros(1, *parent.shape, dtype=torch.float64) for parent in parents), constants=True)[0]
    linear = partial(joined, constants=False)
    return affine(low, node, parents, Affine(linear, tuple(parent.shape for parent in parents), (), offset, exact=True))


def _require_rows(node: torch.fx.Node, name: str, named: Mapping[str, Any]) -> None:
    """Refuse what moves numbers from one example to another, and negative coefficients."""
    axes = len(shape_of(node)) + 1
    if name == "flip" and any(axis % axes == 0 for axis in named["dims"]):
        raise refuse(node, "turns the order of the examples")
    if (named.get("divisor_override") or 1) < 0:
        raise refuse(node, f"divides by {named['divisor_override']}")


def _readings(linear: Linear, shape: tuple[int, ...]) -> int:
    """Return how often the most read coordinate is read: L of zeros and ones, Lᵀ 1 counts them."""
    with torch.enable_grad():
        x = torch.zeros(1, *shape, dtype=torch.float64, requires_grad=True)
        (counts,) = torch.autograd.grad(linear(x).sum(), x)
    return int(counts.max()) if counts.numel() else 1


def _summands(name: str, named: Mapping[str, Any], before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, int]:
    """Return how many products a coordinate of L and one of Lᵀ sum at most."""
    if name in ("mean", "sum"):
        return max(1, math.prod(before) // max(1, math.prod(after))), 1
    if name.startswith("avg_pool"):
        kernel = named["kernel_size"]
        places = math.prod(kernel) ** (1 if len(kernel) > 1 else int(name[-2]))
        return places, places
    pairs = list(zip(before, after, strict=True))
    if name == "upsample_bilinear2d":  # an output reads four; a place is read by those less than one place away
        return 4, math.prod(min(b, 3 * math.ceil(b / max(1, a - 1)) + 3) for a, b in pairs[-2:])
    gathered, scattered = ([1 if a == b else math.ceil(a / b) + 1 for a, b in of] for of in (pairs, _swapped(pairs)))
    return math.prod(gathered), math.prod(scattered)


def _swapped(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(b, a) for a, b in pairs]


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
def _split(low: Lowering, node: torch.fx.Node, x: Value, **named: Any) -> tuple[Value, ...]:
    def part(index: int) -> Value:
        operation = Affine(lambda v: call(node, {"x": v, **named})[index], (x.shape,), exact=True)
        return low.add(operation, (x,), shape_of(node, index), f"{node.name}_{index}")

    return tuple(part(index) for index in range(len(node.meta["val"])))


@rule("constant_pad_nd")
def _pad(low: Lowering, node: torch.fx.Node, x: Value, pad: list[int], value: float) -> Value:
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
def _full_like(low: Lowering, node: torch.fx.Node, x: Value, fill_value: float) -> Value:
    """0 · x + value."""
    shape = shape_of(node)
    operation = Affine(
        lambda v: v.new_zeros(v.shape[0], *shape),
        (x.shape,),
        offset=torch.full(shape, float(fill_value), dtype=torch.float64),
        adjoint=lambda functional: (None,),
    )
    return affine(low, node, [x], operation)


@rule("sym_size")
def _examples(low: Lowering, node: torch.fx.Node, x: Value, dim: int) -> Examples:
    if dim != 0:
        raise refuse(node, "asks for a size that is not known")
    return Examples()


def repeated(node: torch.fx.Node, named: Mapping[str, Any]) -> Tensor:
    """Return a constant that is the same for every example, with a first axis of one, from what makes one of each.

    Raises:
        ModelError: the constants of two examples differ.
    """
    shape_of(node)
    one: Tensor = call(node, _filled(named, iter(()), 1))
    three = _of_three(node, named)
    if not torch.equal(one.expand_as(three), three):
        raise refuse(node, "gives each example a constant of its own")
    return one


def _of_three(node: torch.fx.Node, named: Mapping[str, Any]) -> Tensor:
    """Return the constant for three examples; what it is made of may be one for each of them."""
    constant: Tensor
    try:
        constant = call(node, _filled(named, iter(()), 3))
    except RuntimeError:
        wide = {
            key: operand.expand(3, *operand.shape[1:])
            if isinstance(operand, Tensor) and operand.ndim and len(operand) == 1
            else operand
            for key, operand in named.items()
        }
        constant = call(node, _filled(wide, iter(()), 3))
    return constant


def _parents(arguments: Any) -> list[Value]:
    if isinstance(arguments, tuple | list):
        return [value for argument in arguments for value in _parents(argument)]
    return [arguments] if isinstance(arguments, Value) else []


def _filled(arguments: Any, tensors: Any, examples: int) -> Any:
    """Put tensors where arguments vary, and the number of examples where it is asked for."""
    if isinstance(arguments, Mapping):
        return {name: _filled(value, tensors, examples) for name, value in arguments.items()}
    if isinstance(arguments, tuple | list):
        return [_filled(argument, tensors, examples) for argument in arguments]
    if isinstance(arguments, Value):
        return next(tensors)
    return examples if isinstance(arguments, Examples) else arguments
