"""Activations: smooth ones, and piecewise-linear ones, made of ReLUs and affine operations: what branches is a ReLU."""

from typing import Any

import torch
from torch import Tensor

from saddlepoint.certificates import smooth
from saddlepoint.certificates.aten.maxima import larger
from saddlepoint.certificates.aten.sums import combination, scaled
from saddlepoint.certificates.aten.table import Lowering, Value, constant, rule
from saddlepoint.certificates.relu import ReLU
from saddlepoint.errors import ModelError


def relu(low: Lowering, x: Value, name: str) -> Value:
    """Append max(x, 0)."""
    return low.add(ReLU(), (x,), x.shape, name)


@rule("relu")
def _relu(low: Lowering, node: torch.fx.Node, x: Value) -> Value:
    return relu(low, x, node.name)


@rule("leaky_relu")
def _leaky(low: Lowering, node: torch.fx.Node, x: Value, slope: float = 0.01) -> Value:
    """max(x, 0) + slope · min(x, 0) = slope · x + (1 − slope) · max(x, 0)."""
    return combination(low, node.name, (x, relu(low, x, f"{node.name}_relu")), (slope, 1 - slope), x.shape)


@rule("hardtanh", "clamp", "clamp_min", "clamp_max", "relu6")
def _clamp(low: Lowering, node: torch.fx.Node, x: Value, *limits: Any) -> Value:
    """max(x, a) = a + max(x − a, 0); min(x, b) = b − max(b − x, 0)."""
    kind = str(node.target)
    default = (-1.0, 1.0) if "hardtanh" in kind else (0.0, 6.0) if "relu6" in kind else (None, None)
    least, most = (*limits, *default[len(limits) :])[:2]
    if "clamp_max" in kind:
        least, most = None, least
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
def _maximum(low: Lowering, node: torch.fx.Node, a: Any, b: Any) -> Value:
    if isinstance(a, Value) and isinstance(b, Value) and a.shape == b.shape:
        return larger(low, a, b, node.name)
    x, c = (a, b) if isinstance(a, Value) else (b, a)
    return _above(low, node, x, constant(c, x, node))


@rule("minimum")
def _minimum(low: Lowering, node: torch.fx.Node, a: Any, b: Any) -> Value:
    """min(a, b) = −max(−a, −b)."""
    if isinstance(a, Value) and isinstance(b, Value) and a.shape == b.shape:
        mirrored = [scaled(low, f"{node.name}_{i}", v, v.shape, -1.0, None) for i, v in enumerate((a, b))]
        return scaled(low, node.name, larger(low, mirrored[0], mirrored[1], f"{node.name}_max"), a.shape, -1.0, None)
    x, c = (a, b) if isinstance(a, Value) else (b, a)
    return _above(low, node, x, constant(c, x, node), mirror=-1.0)


SMOOTH = {
    "sigmoid": smooth.SIGMOID,
    "tanh": smooth.TANH,
    "gelu": smooth.GELU,
    "silu": smooth.SILU,
    "softplus": smooth.SOFTPLUS,
    "elu": smooth.ELU,
}


@rule(*SMOOTH)
def _smooth(low: Lowering, node: torch.fx.Node, x: Value, *settings: Any, **options: Any) -> Value:
    """A smooth function at its default settings; a softplus is linear beyond its threshold, to less than rounding."""
    name = str(getattr(node.target, "overloadpacket", node.target)).rpartition(".")[2]
    given = [value for value in (*settings, *options.values()) if value not in (1, 1.0, 20, 20.0, "none")]
    if given:
        raise ModelError(f"the operation {name} ({node.name}) has the setting {given[0]!r}; expected its default")
    return low.add(SMOOTH[name], (x,), x.shape, node.name)
