"""Faster forms of a frozen module: the same function, with other operands passed to its layers.

A search differentiates with respect to pixels only, so weights are constants. A batch norm in eval mode is then one
affine map per channel, which the preceding convolution can absorb; kernels can be stored in channels_last; and low
precision can cast them once instead of at every forward. The module itself is not changed: a form is a
`TorchFunctionMode` that replaces the operands of the functions it knows.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_AFFINE = frozenset({functional.conv1d, functional.conv2d, functional.conv3d, functional.linear})

_Function = Callable[..., object]


class _Norm(NamedTuple):
    """The operands of a batch norm in eval mode: (x − mean) / √(variance + eps) · weight + bias, per channel."""

    mean: Tensor
    variance: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float


class _Affine(NamedTuple):
    """The operands of a convolution or a linear layer, and what it returned."""

    weight: Tensor
    bias: Tensor | None
    output: Tensor

    def then(self, norm: _Norm) -> tuple[Tensor, Tensor]:
        """Return the weight and bias of norm ∘ self: W·s and (b − mean)·s + bias, s = weight / √(variance + eps)."""
        scale = (norm.variance + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
        bias = ((0 if self.bias is None else self.bias) - norm.mean) * scale
        weight = self.weight * scale.reshape(-1, *[1] * (self.weight.ndim - 1))
        return weight, bias if norm.bias is None else bias + norm.bias


class Recording(TorchFunctionMode):
    """Records a forward: which layers it uses, and which convolutions feed a batch norm and nothing else."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._parameters = set(module.parameters())
        self._layers: dict[Tensor, _Affine] = {}
        self._norms: dict[Tensor, _Norm] = {}
        self._uses: Counter[Tensor] = Counter()

    def __torch_function__(
        self, function: _Function, types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        """Run the function and record it."""
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if not _measures(function):
            self._uses.update(tensors_in([*args, *kwargs.values()]))
        if function in _AFFINE:
            self._affine(result, *args, **kwargs)  # type: ignore[arg-type]
        elif function is functional.batch_norm:
            self._norm(*args, **kwargs)  # type: ignore[arg-type]
        return result

    def _affine(self, output: Tensor, _: Tensor, weight: Tensor, bias: Tensor | None = None, *__: object) -> None:
        if weight in self._parameters:
            self._layers[weight] = _Affine(weight, bias, output)

    def _norm(
        self,
        x: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> None:
        if mean is not None and variance is not None and not training:
            self._norms[x] = _Norm(mean, variance, weight, bias, eps)

    def layers(self) -> Iterator[tuple[_Affine, _Norm | None]]:
        """Yield each layer with the batch norm that it can absorb, if any.

        It can if both are used once and no other function reads the tensor between them.
        """
        for layer in self._layers.values():
            norm = self._norms.get(layer.output)
            pair = layer.weight, layer.output, norm.mean if norm else layer.weight
            single = layer.weight.ndim > 2 and all(self._uses[tensor] == 1 for tensor in pair)
            yield layer, norm if single else None


class _Operands(NamedTuple):
    """Replacements of a layer's weight and bias; `absorbed` is the mean of the batch norm that they contain."""

    weight: Tensor
    bias: Tensor | None
    absorbed: Tensor | None


def _nothing() -> None:
    return None


class _Due(NamedTuple):
    """The output of a layer with its absorbed norm, and the view of it that only the norm may read."""

    output: Tensor
    shown: ReferenceType[Tensor]


class Form(TorchFunctionMode):
    """While entered, layers use these operands, and an absorbed batch norm returns its input."""

    def __init__(self, operands: dict[Tensor, _Operands]) -> None:
        super().__init__()
        self._operands = operands
        self._due: dict[Tensor, _Due] = {}
        self._shown: dict[int, ReferenceType[Tensor]] = {}
        self._misread = False

    def __torch_function__(
        self, function: _Function, types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        """Run the function or its replacement."""
        kwargs = kwargs or {}
        if function in _AFFINE:
            return self._affine(function, *args, **kwargs)  # type: ignore[arg-type]
        if function is functional.batch_norm:
            return self._norm(function, *args, **kwargs)  # type: ignore[arg-type]
        if self._shown and not _measures(function):
            self._note(*args, *kwargs.values())
        return function(*args, **kwargs)

    def settled(self) -> bool:
        """Return whether every absorbed norm was reached since the last call and no other function read its input.

        False means that the forward was wrong and must be repeated without this form: a module whose path depends on
        its input may skip a norm, or use the convolution's output elsewhere.
        """
        settled = not self._due and not self._misread
        self._due.clear()
        self._shown.clear()
        self._misread = False
        return settled

    def _note(self, *values: object) -> None:
        """Record whether a function reads a tensor that only a batch norm may read."""
        if not self._shown:
            return
        readers = (self._shown.get(id(tensor), _nothing)() is tensor for tensor in tensors_in(values))
        self._misread = self._misread or any(readers)

    def _norm(
        self, function: _Function, x: Tensor, mean: Tensor | None = None, *rest: object, **options: object
    ) -> object:
        # The convolution has already applied this norm if x is the very view that it returned.
        due = None if mean is None else self._due.get(mean)
        if due is None or mean is None or due.shown() is not x:
            self._note(x)
            return function(x, mean, *rest, **options)
        del self._due[mean]
        return due.output

    def _affine(
        self,
        function: _Function,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *rest: object,
        **options: object,
    ) -> object:
        other = self._operands.get(weight, _Operands(weight, bias, None))
        self._note(x)
        output: Tensor = function(x, other.weight, other.bias, *rest, **options)  # type: ignore[assignment]
        if other.absorbed is None:
            return output
        shown = output.view_as(output)
        self._due[other.absorbed] = _Due(output, ref(shown))
        self._shown[id(shown)] = ref(shown)
        return shown


def forms(recording: Recording, *, low: bool) -> Iterator[Form]:
    """Yield forms of the recorded module, the fastest first; `low` casts weights to bf16, as autocast would."""
    layers = list(recording.layers())
    if any(norm for _, norm in layers):
        yield _form(layers, low=low)
    yield _form([(layer, None) for layer, _ in layers], low=low)


def _form(layers: list[tuple[_Affine, _Norm | None]], *, low: bool) -> Form:
    operands: dict[Tensor, _Operands] = {}
    for layer, norm in layers:
        weight, bias = layer.then(norm) if norm else (layer.weight.data, layer.bias)
        if low:
            weight, bias = weight.bfloat16(), None if bias is None else bias.bfloat16()
        layout = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
        operands[layer.weight] = _Operands(weight.contiguous(memory_format=layout), bias, norm.mean if norm else None)
    return Form(operands)


_MEASURES = frozenset(
    getattr(Tensor, name)
    for name in (
        "size",
        "dim",
        "ndimension",
        "stride",
        "numel",
        "nelement",
        "is_contiguous",
        "is_floating_point",
        "__len__",
    )
) | {
    getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "layout", "ndim", "is_cuda", "requires_grad")
}


def _measures(function: _Function) -> bool:
    """Whether a function reads a tensor's metadata, not its values."""
    return function in _MEASURES


def tensors_in(values: object) -> Iterator[Tensor]:
    """Yield the tensors in arguments or results, however nested."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors_in(value)
    elif isinstance(values, dict):
        yield from tensors_in(list(values.values()))
