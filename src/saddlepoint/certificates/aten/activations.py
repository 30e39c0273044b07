"""Activations: smooth ones, and piecewise-linear ones, made of ReLUs and affine operations: what branches is a ReLU."""

from typing import Any

import torch
from torch import Tensor

from saddlepoint.certificates import smooth
from saddlepoint.certificates.aten.maxima import broadcast, larger
from saddlepoint.certificates.aten.rules import Lowering, Value, constant, name_of, refuse, rule, shape_of
from saddlepoint.certificates.aten.sums import combination, scaled
from saddlepoint.certificates.relu import ReLU


def relu(low: Lowering, x: Value, name: str) -> Value:
    """Append max(x, 0)."""
    return low.add(ReLU(), (x,), x.shape, name)


@rule("relu")
def _relu(low: Lowering, node: torch.fx.Node, x: Value) -> Value:
    return relu(low, x, node.name)


@rule("leaky_relu")
def _leaky(low: Lowering, node: torch.fx.Node, x: Value, negative_slope: float) -> Value:
    """max(x, 0) + s · min(x, 0) = s · x + (1 − s) · max(x, 0)."""
    scales = (negative_slope, 1 - negative_slope)
    return combination(low, node.name, (x, relu(low, x, f"{node.name}_relu")), scales, x.shape)


@rule("clamp", "clamp_min", "clamp_max")
def _clamp(low: Lowering, node: torch.fx.Node, x: Value, min: Any = None, max: Any = None) -> Value:  # noqa: A002
    return _between(low, node, x, min, max)


@rule("hardtanh")
def _hardtanh(low: Lowering, node: torch.fx.Node, x: Value, min_val: float, max_val: float) -> Value:
    return _between(low, node, x, min_val, max_val)


@rule("relu6")
def _relu6(low: Lowering, node: torch.fx.Node, x: Value) -> Value:
    return _between(low, node, x, 0.0, 6.0)


def _between(low: Lowering, node: torch.fx.Node, x: Value, least: Any, most: Any) -> Value:
    """max(x, a) = a + max(x − a, 0); min(x, b) = b − max(b − x, 0)."""
    if not isinstance(x, Value) or isinstance(least, Value) or isinstance(most, Value):
        raise refuse(node, "has limits that depend on the input")
    value = x
    if least is not None:
        value = _above(low, node, value, constant(least, x, node))
    if most is not None:
        value = _above(low, node, value, constant(most, x, node), mirror=-1.0)
    return value


def _above(low: Lowering, node: torch.fx.Node, x: Value, limit: Tensor, mirror: float = 1.0) -> Value:
    """Return max(x, limit), or min for mirror = −1."""
    shape, name = x.shape, node.name
    side = "max" if mirror > 0 else "min"
    gap = scaled(low, f"{name}_{side}", x, shape, mirror, -mirror * limit)
    return scaled(low, f"{name}_{side}_end", relu(low, gap, f"{name}_{side}_relu"), shape, mirror, limit)


@rule("abs")
def _abs(low: Lowering, node: torch.fx.Node, x: Value) -> Value:
    """|x| = 2 max(x, 0) − x."""
    return combination(low, node.name, (x, relu(low, x, f"{node.name}_relu")), (-1.0, 2.0), x.shape)


@rule("maximum")
def _maximum(low: Lowering, node: torch.fx.Node, x: Any, other: Any) -> Value:
    if isinstance(x, Value) and isinstance(other, Value):
        return larger(low, *_of_one_shape(low, node, x, other), node.name)
    varying, limit = (x, other) if isinstance(x, Value) else (other, x)
    return _above(low, node, varying, constant(limit, varying, node))


@rule("minimum")
def _minimum(low: Lowering, node: torch.fx.Node, x: Any, other: Any) -> Value:
    """min(a, b) = −max(−a, −b)."""
    if isinstance(x, Value) and isinstance(other, Value):
        pair = _of_one_shape(low, node, x, other)
        mirrored = [scaled(low, f"{node.name}_{i}", v, v.shape, -1.0, None) for i, v in enumerate(pair)]
        return scaled(
            low, node.name, larger(low, mirrored[0], mirrored[1], f"{node.name}_max"), pair[0].shape, -1.0, None
        )
    varying, limit = (x, other) if isinstance(x, Value) else (other, x)
    return _above(low, node, varying, constant(limit, varying, node), mirror=-1.0)


def _of_one_shape(low: Lowering, node: torch.fx.Node, a: Value, b: Value) -> tuple[Value, Value]:
    shape = shape_of(node)
    return broadcast(low, a, shape, f"{node.name}_a"), broadcast(low, b, shape, f"{node.name}_b")


SMOOTH = {
    "sigmoid": smooth.SIGMOID,
    "tanh": smooth.TANH,
    "gelu": smooth.GELU,
    "silu": smooth.SILU,
    "softplus": smooth.SOFTPLUS,
    "elu": smooth.ELU,
}


@rule(*SMOOTH)
def _smooth(low: Lowering, node: torch.fx.Node, x: Value) -> Value:
    """A smooth function at its default settings; a softplus is linear beyond its threshold, to less than rounding."""
    return low.add(SMOOTH[name_of(node.target)], (x,), x.shape, node.name)
