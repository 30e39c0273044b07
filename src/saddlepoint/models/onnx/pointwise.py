"""Functions of single numbers, and of numbers that meet by broadcasting."""

import functools
import math
import operator
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from saddlepoint.models.onnx.free_batch import depends
from saddlepoint.models.onnx.node import META, Build, Call, Node, filled

_FLOATS, _INTEGERS, _BOOL = (1, 10, 11, 16), (6, 7), 9
"""Numbers of the types in ONNX: float32, float16, float64, bfloat16; int32, int64; bool."""


def _layer(kind: Callable[[], nn.Module]) -> Build:
    return lambda node: kind()


def _call(function: Callable[..., Tensor]) -> Build:
    return lambda node: Call(function)


def _with(function: Callable[..., Tensor], **defaults: float) -> Build:
    """Translate to function(x, **attributes)."""
    return lambda node: Call(function, **{name: node.attribute(name, value) for name, value in defaults.items()})


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Build:
    """Translate to function(a, b); before opset 7, `axis` says at which axis of a those of b begin."""

    def build(node: Node) -> nn.Module:
        if node.opset >= 7:
            return Call(function)
        a, b = node.value(0), node.value(1)
        start = node.attribute("axis", a.ndim - b.ndim)
        if not node.attribute("broadcast", 0) and a.shape != b.shape:
            raise node.refused("its inputs have different shapes, and it does not broadcast")
        trailing = a.ndim - b.ndim - node.axis(start, rank=a.ndim + 1)
        return Call(_aligned, apply=function, trailing=trailing) if trailing else Call(function)

    return build


def _aligned(a: Tensor, b: Tensor, *, apply: Callable[[Tensor, Tensor], Tensor], trailing: int) -> Tensor:
    return apply(a, b.reshape(*b.shape, *[1] * trailing))


def _variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Build:
    return lambda node: Call(_folded, apply=function)


def _folded(*tensors: Tensor, apply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return functools.reduce(apply, tensors)


def _mean(*tensors: Tensor) -> Tensor:
    return functools.reduce(torch.add, tensors) / len(tensors)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b; of integers, rounded towards zero."""
    whole = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc" if whole else None)


def _pow(node: Node) -> nn.Module | Tensor:
    """x^p; an exponent that is one number stays one: its derivative is p x^(p−1), also at x ≤ 0."""
    exponent, general = node.value(1), _binary(torch.pow)(node)
    if depends(exponent) or exponent.numel() != 1 or exponent.ndim > node.x.ndim:
        return general
    return Call(torch.pow, node.constant(1).item())


def _clip(node: Node) -> nn.Module:
    return Call(torch.clamp, node.number(1, "min", 11, -math.inf), node.number(2, "max", 11, math.inf))


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


def _selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    return gamma * functional.elu(x, alpha)


def _gelu(node: Node) -> nn.Module:
    return nn.GELU(node.attribute("approximate", "none"))


def _prelu(node: Node) -> nn.Module:
    """max(x, 0) + slope · min(x, 0); a slope for all or for each channel makes a `PReLU`."""
    x, slope = node.x, node.constant(1)
    per_channel = slope.numel() == x.shape[1] and (
        tuple(slope.shape) == (x.shape[1],) + (1,) * (x.ndim - 2) or (node.opset < 7 and slope.ndim == 1)
    )
    if slope.numel() == 1 or per_channel:
        return filled(nn.PReLU(slope.numel(), device=META), weight=slope.reshape(-1))
    return _Slope(slope)


class _Slope(nn.Module):
    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.slope = nn.Parameter(slope.clone())

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=0) + self.slope * x.clamp(max=0)


def _dropout(node: Node) -> nn.Module:
    ratio = node.number(1, "ratio", 12, 0.5)
    if node.has(2) and bool(node.constant(2)):
        raise node.refused("it drops at random (training_mode); export the network for inference")
    return nn.Dropout(ratio)


def _cast(node: Node) -> nn.Module:
    kind = node.attribute("to", None)
    if kind in _FLOATS:
        return Call(Tensor.float)
    if kind not in (*_INTEGERS, _BOOL):
        raise node.refused(f"it casts to ONNX type {kind}; expected a float, int32, int64 or bool")
    return Call(Tensor.bool if kind == _BOOL else Tensor.long)


TABLE: dict[str, Build] = {
    "Abs": _call(torch.abs),
    "Add": _binary(torch.add),
    "Cast": _cast,
    "Celu": _with(functional.celu, alpha=1.0),
    "Clip": _clip,
    "Cos": _call(torch.cos),
    "Div": _binary(_divide),
    "Dropout": _dropout,
    "Elu": _with(functional.elu, alpha=1.0),
    "Equal": _binary(torch.eq),
    "Erf": _call(torch.erf),
    "Exp": _call(torch.exp),
    "Gelu": _gelu,
    "Greater": _binary(torch.gt),
    "HardSigmoid": _with(_hard_sigmoid, alpha=0.2, beta=0.5),
    "HardSwish": _layer(nn.Hardswish),
    "Identity": _layer(nn.Identity),
    "LeakyRelu": lambda node: nn.LeakyReLU(node.attribute("alpha", 0.01)),
    "Less": _binary(torch.lt),
    "Log": _call(torch.log),
    "Max": _variadic(torch.maximum),
    "Mean": _call(_mean),
    "Min": _variadic(torch.minimum),
    "Mish": _layer(nn.Mish),
    "Mod": lambda node: Call(torch.fmod if node.attribute("fmod", 0) else torch.remainder),
    "Mul": _binary(operator.mul),
    "Neg": _call(torch.neg),
    "PRelu": _prelu,
    "Pow": _pow,
    "Reciprocal": _call(torch.reciprocal),
    "Relu": _layer(nn.ReLU),
    "Selu": _with(_selu, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    "Sigmoid": _layer(nn.Sigmoid),
    "Sin": _call(torch.sin),
    "Softplus": _layer(nn.Softplus),
    "Softsign": _layer(nn.Softsign),
    "Sqrt": _call(torch.sqrt),
    "Sub": _binary(torch.sub),
    "Sum": _variadic(torch.add),
    "Tanh": _layer(nn.Tanh),
    "Where": _call(torch.where),
}
