"""Sums, differences and products with constants."""

import math
from typing import Any

import torch
from torch import Tensor

from saddlepoint.certificates.affine import Affine, Form, Stencil
from saddlepoint.certificates.aten.rules import Lowering, Value, constant, name_of, refuse, rule, shape_of


@rule("add", "sub")
def _add(low: Lowering, node: torch.fx.Node, x: Any, other: Any, alpha: float) -> Value:
    sign = _number(node, alpha) * (-1 if name_of(node.target) == "sub" else 1)
    if isinstance(x, Value) and isinstance(other, Value):
        return _combination(low, node, (x, other), (1.0, sign))
    if isinstance(x, Value):
        return _scaled(low, node, x, 1.0, constant(other, x, node) * sign)
    return _scaled(low, node, other, sign, constant(x, other, node))


@rule("rsub")
def _rsub(low: Lowering, node: torch.fx.Node, x: Any, other: Any, alpha: float) -> Value:
    """Other − alpha · x."""
    sign = -_number(node, alpha)
    if isinstance(x, Value) and isinstance(other, Value):
        return _combination(low, node, (other, x), (1.0, sign))
    if isinstance(x, Value):
        return _scaled(low, node, x, sign, constant(other, x, node))
    return _scaled(low, node, other, 1.0, constant(x, other, node) * sign)


def _number(node: torch.fx.Node, alpha: Any) -> float:
    if not isinstance(alpha, int | float):
        raise refuse(node, "scales by what is no number")
    return float(alpha)


@rule("neg")
def _neg(low: Lowering, node: torch.fx.Node, x: Value) -> Value:
    return _scaled(low, node, x, -1.0, None)


@rule("mul")
def _mul(low: Lowering, node: torch.fx.Node, x: Any, other: Any) -> Value:
    if isinstance(x, Value) and isinstance(other, Value):
        raise refuse(node, "multiplies two values that depend on the input")
    varying, factor = (x, other) if isinstance(x, Value) else (other, x)
    return _scaled(low, node, varying, constant(factor, varying, node), None)


@rule("div")
def _div(low: Lowering, node: torch.fx.Node, x: Any, other: Any) -> Value:
    if not isinstance(x, Value) or isinstance(other, Value):
        raise refuse(node, "divides by a value that depends on the input")
    divisor = constant(other, x, node)
    form = Form("scale", {"factor": divisor}, {"inverse": True}) if x.shape == shape_of(node) else None
    return scaled(low, node.name, x, shape_of(node), 1 / divisor, None, form=form)


def _scaled(low: Lowering, node: torch.fx.Node, x: Value, scale: Tensor | float, offset: Tensor | None) -> Value:
    """Return scale · x + offset, each broadcast to the result."""
    return scaled(low, node.name, x, shape_of(node), scale, offset)


def scaled(
    low: Lowering,
    name: str,
    x: Value,
    shape: tuple[int, ...],
    scale: Tensor | float,
    offset: Tensor | None,
    *,
    parts: Tensor | None = None,
    form: Form | None = None,
) -> Value:
    """Append scale · x + offset, each broadcast to `shape`; `parts` are the magnitudes of an offset's terms.

    Args:
        low: the network under construction.
        name: the name of the node.
        x: the value.
        shape: the shape of the result for one example.
        scale: a number, or a tensor that broadcasts to the shape.
        offset: a tensor that broadcasts to the shape; None for 0.
        parts: Σ |terms| of an offset that is a sum itself, for the allowance for rounding; None where it is stored.
        form: how an audit reads it; None for a factor.
    """
    factor = torch.as_tensor(scale, dtype=torch.float64, device=None if offset is None else offset.device)
    plain = x.shape == shape
    alike = factor.ndim == 0 or (factor.ndim == len(shape) and factor.shape[1:].numel() == 1)
    adjoint = (lambda functional, w: (functional * w,)) if plain else None
    shift = None if offset is None else offset.expand(shape)
    operation = Affine(
        lambda v, w: _spread(v, shape) * w,
        (x.shape,),
        (factor,),
        shift,
        terms=_copies(x, shape),
        adjoint=adjoint,
        stencil=Stencil(adjoint) if adjoint is not None and alike and len(shape) == 3 else None,
        channelwise=plain and alike,
        rescaled=torch.mul if plain else None,
        parts=None if parts is None else parts.expand(shape),
        form=form or (Form("scale", {"factor": factor}, {"inverse": False}) if plain else None),
    )
    return low.add(operation, (x,), shape, name)


def _combination(
    low: Lowering, node: torch.fx.Node, parents: tuple[Value, Value], scales: tuple[float, float]
) -> Value:
    if len(parents[0].shape) != len(parents[1].shape):
        raise refuse(node, f"adds values of shapes {parents[0].shape} and {parents[1].shape} of each example")
    return combination(low, node.name, parents, scales, shape_of(node))


def combination(
    low: Lowering, name: str, parents: tuple[Value, Value], scales: tuple[float, float], shape: tuple[int, ...]
) -> Value:
    """Append Σ scale_i · x_i.

    Args:
        low: the network under construction.
        name: the name of the node.
        parents: the two values.
        scales: the factor of each.
        shape: the shape of the result for one example.
    """
    first, second = scales
    plain = all(parent.shape == shape for parent in parents)
    operation = Affine(
        lambda a, b, s, t: _spread(a, shape) * s + _spread(b, shape) * t,
        tuple(parent.shape for parent in parents),
        (torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)),
        terms=2 * max(_copies(parent, shape) for parent in parents),
        adjoint=_shares if plain else None,
        stencil=Stencil(_shares) if plain else None,
        form=Form("sum", {"scales": torch.tensor(scales, dtype=torch.float64)}) if plain else None,
    )
    return low.add(operation, parents, shape, name)


def _shares(functional: Tensor, *scales: Tensor) -> tuple[Tensor, ...]:
    return tuple(functional if scale == 1 else functional * scale for scale in scales)


def _spread(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if x.shape[1:] == shape else x.expand(x.shape[0], *shape)


def _copies(x: Value, shape: tuple[int, ...]) -> int:
    return max(1, math.prod(shape) // max(1, math.prod(x.shape)))
