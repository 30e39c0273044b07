"""Layers with weights: each becomes torch's own, so that its parameters are where everyone looks for them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from saddlepoint.models.onnx.free_batch import batch_axis, depends
from saddlepoint.models.onnx.node import META, Build, Call, Node, filled
from saddlepoint.models.onnx.windows import Window, auto_pad, halves, torch_pads, window

_CONVS: tuple[Callable[..., nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED: tuple[Callable[..., nn.Module], ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS: tuple[Callable[..., nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE_NORMS: tuple[Callable[..., nn.Module], ...] = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def _kernel(node: Node) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
    """Return weight, bias and window size of a convolution."""
    weight, bias, spatial = node.constant(1), node.optional(2), node.spatial()
    size = tuple(node.attribute("kernel_shape", weight.shape[2:]))
    if weight.ndim != len(spatial) + 2 or size != tuple(weight.shape[2:]):
        raise node.refused(f"its weight has shape {tuple(weight.shape)}, and kernel_shape is {size}")
    return weight, bias, size


def _conv(node: Node) -> nn.Module:
    weight, bias, size = _kernel(node)
    over, group = window(node, size), node.attribute("group", 1)
    layer = filled(
        _CONVS[len(size) - 1](
            weight.shape[1] * group,
            weight.shape[0],
            size,
            stride=over.stride,
            padding=over.begin if over.symmetric else 0,
            dilation=over.dilation,
            groups=group,
            bias=bias is not None,
            device=META,
        ),
        weight=weight,
        bias=bias,
    )
    return layer if over.symmetric else nn.Sequential(Call(functional.pad, over.pads), layer)


def _conv_transpose(node: Node) -> nn.Module:
    """Without padding; what ONNX calls padding is then cut off the result, unless torch can do so itself."""
    weight, bias, size = _kernel(node)
    over, longer = _transposed(node, size)
    cut = tuple(max(end - more, 0) for end, more in zip(over.end, longer, strict=True))
    group = node.attribute("group", 1)
    layer = filled(
        _TRANSPOSED[len(size) - 1](
            weight.shape[0],
            weight.shape[1] * group,
            size,
            stride=over.stride,
            padding=over.begin if over.symmetric else 0,
            output_padding=longer
            if over.symmetric
            else tuple(max(more - end, 0) for end, more in zip(over.end, longer, strict=True)),
            groups=group,
            bias=bias is not None,
            dilation=over.dilation,
            device=META,
        ),
        weight=weight,
        bias=bias,
    )
    if over.symmetric:
        return layer
    crop = torch_pads([-pad for pad in over.begin], [-pad for pad in cut])
    return nn.Sequential(layer, Call(functional.pad, crop))


def _transposed(node: Node, size: tuple[int, ...]) -> tuple[Window, tuple[int, ...]]:
    """Return the window of a transposed convolution, and by how much its result is longer at the end.

    A result of size `output_shape`, or of input · stride where auto_pad is SAME, needs a padding of
        stride · (input − 1) + output_padding + extent − output.
    """
    plain, auto = window(node, size), auto_pad(node)
    longer = tuple(node.attribute("output_padding", (0,) * len(size)))
    wanted = node.attribute("output_shape", None)
    if wanted is None and auto.startswith("SAME"):
        wanted = [n * s for n, s in zip(node.spatial(), plain.stride, strict=True)]
    if wanted is None:
        return plain, longer
    axes = zip(node.spatial(), plain.stride, plain.extent, longer, wanted[-len(size) :], strict=True)
    total = [s * (n - 1) + more + extent - out for n, s, extent, more, out in axes]
    longer = tuple(more + max(-pad, 0) for more, pad in zip(longer, total, strict=True))
    begin, end = halves([max(pad, 0) for pad in total], upper=auto == "SAME_UPPER")
    return Window(plain.size, plain.stride, plain.dilation, begin, end), longer


def _gemm(node: Node) -> nn.Module:
    """α A B + β C; a `Linear` of weight α Bᵀ and bias β C, if A are the rows and C has one number per column."""
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    left, right = node.attribute("transA", 0), node.attribute("transB", 0)
    node.attribute("broadcast", 0)  # before opset 7 it allowed what is now the rule
    a, b = node.value(0), node.value(1)
    if a.ndim != 2 or b.ndim != 2:
        raise node.refused("it multiplies two matrices")
    c = node.value(2) if node.has(2) else torch.zeros(())
    columns = b.shape[0] if right else b.shape[1]
    several = not node.batched and a.shape[0] != 1
    rows = not (left or several or depends(b) or depends(c))
    if not rows or c.numel() not in (1, columns) or (c.ndim == 2 and c.shape[0] != 1):
        multiply = torch.matmul if node.batched else _stacked
        return Call(_product, multiply=multiply, alpha=alpha, beta=beta, left=left, right=right)
    weight, bias = node.constant(1), node.optional(2)
    return _linear(
        alpha * (weight if right else weight.T), None if bias is None else beta * bias.reshape(-1).expand(columns)
    )


def _product(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    multiply: Callable[[Tensor, Tensor], Tensor],
    alpha: float,
    beta: float,
    left: int,
    right: int,
) -> Tensor:
    product = alpha * multiply(a.T if left else a, b.T if right else b)
    return product if c is None else product + beta * c


def _matmul(node: Node) -> nn.Module:
    x, weight = node.value(0), node.value(1)
    if not node.batched:
        return _product_of_one(node, x, weight)
    if depends(weight) or weight.ndim != 2 or x.ndim < 2 or batch_axis(x.shape) == x.ndim - 1:
        return Call(torch.matmul)
    return _linear(node.constant(1).T, None)


def _product_of_one(node: Node, x: Tensor, weight: Tensor) -> nn.Module:
    """Return the product of one example's factors, such that `torch.vmap` keeps its rows apart."""
    if x.ndim == 1 and weight.ndim == 2 and not depends(weight):
        return _linear(node.constant(1).T, None)
    if x.ndim == 2 and weight.ndim == 1 and not depends(x):
        return _linear(node.constant(0), None)
    return Call(_stacked if x.ndim >= 2 and weight.ndim <= 2 else torch.matmul)


def _stacked(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b, for a matrix or a vector b, as a stack of one product."""
    product = torch.bmm(a.reshape(1, -1, a.shape[-1]), b.reshape(1, len(b), -1))
    return product.reshape(*a.shape[:-1], *b.shape[1:])


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Module:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device=META)
    return filled(layer, weight=weight.contiguous(), bias=bias)


def _batch_norm(node: Node) -> nn.Module:
    """Inference. With spatial = 0, before opset 9, each pixel has statistics of its own."""
    if node.attribute("training_mode", 0):
        raise node.refused("it normalises by the statistics of the batch (training_mode); export it for inference")
    spatial = node.attribute("spatial", 1)
    momentum, eps = 1 - node.attribute("momentum", 0.9), node.attribute("epsilon", 1e-5)
    weight, bias, mean, var = (node.constant(place).reshape(-1) for place in range(1, 5))
    shape = tuple(node.x.shape[1:])
    if not node.rows_first or not 1 <= len(shape) <= 4:
        raise node.refused("it needs an input (B, C, …) with up to three spatial dimensions")
    if not node.batched:  # torch.vmap makes statistics of each row of nn.BatchNorm's
        return _Statistics(weight, bias, mean, var, eps, len(shape) - 1 if spatial else 0)
    kind = _BATCH_NORMS[max(len(shape) - 2, 0)] if spatial else nn.BatchNorm1d
    layer = filled(
        kind(len(weight), eps, momentum, device=META),
        weight=weight,
        bias=bias,
        running_mean=mean,
        running_var=var,
        num_batches_tracked=torch.tensor(0),
    )
    return layer if spatial else nn.Sequential(nn.Flatten(), layer, nn.Unflatten(1, shape))


class _Statistics(nn.Module):
    """(x − mean) / √(var + ε) · weight + bias, for each channel of x (1, C, …), or for each number of a row."""

    mean: Tensor
    var: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float, spatial: int) -> None:
        super().__init__()
        self.eps, self.spatial = eps, spatial
        self.weight, self.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        self.register_buffer("mean", mean.clone())
        self.register_buffer("var", var.clone())

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape[1 : x.ndim - self.spatial]
        weight, bias, mean, var = (
            value.reshape(*shape, *[1] * self.spatial) for value in (self.weight, self.bias, self.mean, self.var)
        )
        return (x - mean) / torch.sqrt(var + self.eps) * weight + bias


def _instance_norm(node: Node) -> nn.Module:
    eps, weight, bias = node.attribute("epsilon", 1e-5), node.constant(1), node.constant(2)
    kind = _INSTANCE_NORMS[len(node.spatial()) - 1]
    return filled(kind(len(weight), eps, affine=True, device=META), weight=weight, bias=bias)


def _layer_norm(node: Node) -> nn.Module:
    axis, eps = node.axis(node.attribute("axis", -1)), node.attribute("epsilon", 1e-5)
    shape = tuple(node.x.shape[axis:])
    if depends(node.x):
        node.axes(range(axis, node.x.ndim))
    weight, bias = node.constant(1).expand(shape), node.optional(2)
    layer = nn.LayerNorm(shape, eps, bias=bias is not None, device=META)
    return filled(layer, weight=weight, bias=None if bias is None else bias.expand(shape))


def _local_response_norm(node: Node) -> nn.Module:
    size = node.attribute("size", 1)
    if size % 2 == 0:
        raise node.refused(f"its size is {size}; expected an odd number of channels")
    node.spatial()
    alpha, beta, bias = (node.attribute(*default) for default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return nn.LocalResponseNorm(size, alpha, beta, bias)


TABLE: dict[str, Build] = {
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "InstanceNormalization": _instance_norm,
    "LRN": _local_response_norm,
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
}
