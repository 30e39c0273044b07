"""Matrices, convolutions, and batch norms with fixed statistics."""

import math
from typing import Any

import torch
from torch import Tensor

from saddlepoint.certificates.affine import Affine, Form, Reweigh, Stencil
from saddlepoint.certificates.aten.rules import Lowering, Value, affine, refuse, rule, shape_of
from saddlepoint.certificates.aten.strides import transposed as by_channels
from saddlepoint.certificates.aten.sums import scaled


def _matrix(low: Lowering, node: torch.fx.Node, x: Any, w: Any, bias: Tensor | None) -> Value:
    if not isinstance(x, Value) or not isinstance(w, Tensor) or len(x.shape) != 1:
        raise refuse(node, "multiplies by a matrix that depends on the input, or mixes examples")
    offset = None if bias is None else bias.expand(shape_of(node))
    operation = Affine(
        torch.matmul,
        (x.shape,),
        (w,),
        offset,
        terms=w.shape[0],
        pulled=w.shape[1],
        adjoint=lambda functional, w: (functional @ w.T,),
        rescaled=torch.mul,
        rereading=lambda w, factor: w * factor.reshape(-1, 1),
        form=Form("dense", {"weight": w.T}),
    )
    return affine(low, node, [x], operation)


@rule("addmm")
def _addmm(low: Lowering, node: torch.fx.Node, x: Any, mat1: Any, mat2: Any, beta: float, alpha: float) -> Value:
    """Beta · x + alpha · mat1 · mat2."""
    if not isinstance(x, Tensor):
        raise refuse(node, "adds a bias that depends on the input")
    return _matrix(low, node, mat1, mat2 * alpha if isinstance(mat2, Tensor) else mat2, x * beta)


@rule("mm")
def _mm(low: Lowering, node: torch.fx.Node, x: Any, mat2: Any) -> Value:
    return _matrix(low, node, x, mat2, None)


@rule("bmm")
def _bmm(low: Lowering, node: torch.fx.Node, x: Any, mat2: Any) -> Value:
    return _product(low, node, *(side[0] if _single(side) else side for side in (x, mat2)))


@rule("matmul")
def _matmul(low: Lowering, node: torch.fx.Node, x: Any, other: Any) -> Value:
    return _product(low, node, x, other[0] if _single(other) and other.ndim == 3 else other)


def _single(value: Any) -> bool:
    """Tell whether a constant is the same for each example."""
    return isinstance(value, Tensor) and len(value) == 1


def _product(low: Lowering, node: torch.fx.Node, x: Any, other: Any) -> Value:
    """A constant matrix times a vector or matrices of each example, or the other way round."""
    varying, w = (x, other) if isinstance(x, Value) else (other, x)
    left = varying is other
    if not isinstance(varying, Value) or not isinstance(w, Tensor) or w.ndim != 2 or len(varying.shape) < 1 + left:
        raise refuse(node, "multiplies matrices that both depend on the input, or mixes examples")
    if not left and len(varying.shape) == 1:
        return _matrix(low, node, varying, w, None)
    operation = Affine(
        (lambda v, w: torch.matmul(w, v)) if left else torch.matmul,
        (varying.shape,),
        (w,),
        terms=w.shape[1] if left else w.shape[0],
        pulled=w.shape[0] if left else w.shape[1],
        adjoint=(lambda f, w: (torch.matmul(w.T, f),)) if left else (lambda f, w: (torch.matmul(f, w.T),)),
        form=None if left else Form("dense", {"weight": w.T}),
    )
    return affine(low, node, [varying], operation)


@rule("linear")
def _linear(low: Lowering, node: torch.fx.Node, x: Any, weight: Any, bias: Any) -> Value:
    if isinstance(bias, Value):
        raise refuse(node, "adds a bias that depends on the input")
    return _matrix(low, node, x, weight.T if isinstance(weight, Tensor) else weight, bias)


@rule("convolution")
def _convolution(
    low: Lowering,
    node: torch.fx.Node,
    x: Any,
    weight: Any,
    bias: Any,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Value:
    if not isinstance(x, Value) or not isinstance(weight, Tensor) or isinstance(bias, Value):
        raise refuse(node, "convolves with a kernel that depends on the input")
    shape, kernel, w = shape_of(node), weight.shape[2:], weight
    lost = [
        n - ((m - 1) * s - 2 * p + d * (k - 1) + 1)
        for n, m, s, p, d, k in zip(x.shape[1:], shape[1:], stride, padding, dilation, kernel, strict=True)
    ]
    back = [0] * len(lost) if transposed else lost

    def linear(v: Tensor, w: Tensor) -> Tensor:
        return torch.convolution(v, w, None, stride, padding, dilation, transposed, output_padding, groups)

    local = len(kernel) == 2 and not transposed
    alike = len(set(stride)) == len(set(padding)) == 1
    strided = local and alike and stride[0] > 1 and groups == 1 and set(dilation) == {1}

    def adjoint(functional: Tensor, w: Tensor) -> tuple[Tensor]:
        if strided:
            return (by_channels(functional, w, stride[0], padding[0], x.shape[1:]),)
        pulled = torch.convolution(functional, w, None, stride, padding, dilation, not transposed, back, groups)
        inside: tuple[Any, ...] = (..., *(slice(size) for size in x.shape[1:]))
        return (pulled[inside],)  # an output padding beyond the stride reads nothing

    def pull(windows: Tensor, w: Tensor) -> tuple[Tensor]:
        if strided:
            size = tuple((n - 1) * stride[0] + k for n, k in zip(windows.shape[2:], kernel, strict=True))
            return (by_channels(windows, w, stride[0], 0, size),)
        return (torch.convolution(windows, w, None, stride, [0, 0], dilation, True, [0, 0], groups),)

    stencil = Stencil(pull, (stride[0], stride[1]), (padding[0], padding[1])) if local else None
    offset = None if bias is None else bias.reshape(-1, *(1 for _ in kernel)).expand(shape)
    # A window reads every place of the kernel; a coordinate is read by the windows whose stride fits only.
    read = math.prod(math.ceil(k * math.gcd(s, d) / s) for k, s, d in zip(kernel, stride, dilation, strict=True))
    gathered, scattered = math.prod(kernel) * w.shape[1], read * (w.shape[0] // groups)
    terms, pulled = (scattered, gathered) if transposed else (gathered, scattered)
    first, second = (_along(axis, w) for axis in (0, 1))
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "transposed": transposed, "groups": groups}
    settings |= {"input": x.shape, "output": shape}
    into, out = (second, first) if not transposed else (first, second)
    operation = Affine(
        linear,
        (x.shape,),
        (w,),
        offset,
        terms,
        pulled,
        adjoint=adjoint,
        stencil=stencil,
        rescaled=out if groups == 1 or not transposed else None,
        rereading=into if groups == 1 or transposed else None,
        form=Form("conv", {"weight": w}, settings),
    )
    return affine(low, node, [x], operation)


def _along(axis: int, like: Tensor) -> Reweigh:
    """Return how a kernel takes factors along one of its axes."""
    shape = [-1 if place == axis else 1 for place in range(like.ndim)]
    return lambda w, factor: w * factor.reshape(shape)


@rule("_native_batch_norm_legit_no_training")
def _batch_norm(
    low: Lowering,
    node: torch.fx.Node,
    x: Value,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Value]:
    """Scale · x + (bias − mean · scale), whose constant may cancel: its terms are kept for its rounding."""
    scale = (running_var + eps).rsqrt() if weight is None else weight * (running_var + eps).rsqrt()
    moved, shape = running_mean * scale, shape_of(node, 0)
    shift, parts = (-moved, moved.abs()) if bias is None else (bias - moved, bias.abs() + moved.abs())
    wide = (-1, *(1 for _ in shape[1:]))
    factor, offset, size = (factor.reshape(wide) for factor in (scale, shift, parts))
    own = {
        "mean": running_mean,
        "variance": running_var,
        "weight": torch.ones_like(scale) if weight is None else weight,
        "bias": torch.zeros_like(scale) if bias is None else bias,
    }
    form = Form("norm", own, {"eps": eps}, whole=True)
    return (scaled(low, node.name, x, shape, factor, offset, parts=size, form=form),)
