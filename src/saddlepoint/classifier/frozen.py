"""The classifier as an attack sees it: eval mode, no parameter gradients, its weights in the fastest form.

Frozen parameters matter: with them autograd neither computes weight gradients nor keeps the activations that only
weight gradients need. Weights are exchanged by pointer, so leaving and looking at the original cost no copy.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from saddlepoint.typing import Images, Logits

if TYPE_CHECKING:
    from saddlepoint.classifier.model import Classifier

Precision = Literal["fp32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_Weights = dict[nn.Parameter, Tensor]

_HEAVY = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


class Frozen:
    """A context in which a classifier can be attacked; everything is restored on the way out, whatever happens inside.

    Restored: training mode of every submodule, `requires_grad`, the weights' memory format and dtype, and the global
    random states of Python, NumPy and torch.
    """

    def __init__(self, classifier: "Classifier", *, fast: bool = True) -> None:
        self.classifier = classifier
        self._fast = fast
        self._open = False
        self._exit = ExitStack()
        self._given: _Weights = {}
        self._held: _Weights = {}
        self._forms: dict[bool, _Weights] = {}
        self._proven: set[bool] = set()

    def __enter__(self) -> "Frozen":
        module = self.classifier.module
        with ExitStack() as stack:
            for outer in self.classifier.open:
                outer._hold(outer._given)
            self.classifier.open.append(self)
            stack.callback(self.classifier.open.remove, self)
            stack.enter_context(_random_state())
            stack.enter_context(_modes(module))
            module.eval()
            for parameter in module.parameters():
                stack.callback(parameter.requires_grad_, parameter.requires_grad)
                parameter.requires_grad_(False)
            self._given = self._held = {parameter: parameter.data for parameter in module.parameters()}
            stack.callback(self._hold, self._given)
            if self._fast:
                self._hold(self._form(low=False))
            self._open = True
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *reason: object) -> None:
        self._exit.close()
        self._open = False
        self._forms.clear()
        self._proven.clear()
        self._given = self._held = {}

    def logits(self, x: Images, precision: Precision = "fp32", *, as_given: bool = False) -> Logits:
        """Return float32 logits at pixels x, computed in `precision`; differentiable in x.

        Normalisation stays in float32 whatever the precision; "tf32" differs from "fp32" on CUDA devices only. The
        weights are in their fastest form, or, for those who must reproduce a plain loop to the last bit, as given.
        """
        low = precision == "bf16"
        if as_given and not low:
            return self._forward(x, self._given, low=low)
        try:
            logits = self._forward(x, self._form(low=low), low=low)
        except RuntimeError:
            if low in self._proven:
                raise
            # A module may rely on the layout or the type of its weights, with `view` for instance: it keeps them.
            self._forms[low] = self._given
            logits = self._forward(x, self._given, low=low)
        self._proven.add(low)
        return logits

    @torch.no_grad()
    def decide(self, x: Images) -> Logits:
        """Return the logits of the untouched model, float32 and weights as given: by these success is decided."""
        with arithmetic("fp32", x.device):
            return self._forward(x, self._given, low=False)

    def _form(self, *, low: bool) -> _Weights:
        if low not in self._forms:
            self._hold(self._given)
            self._forms[low] = {**self._given, **fastest(self.classifier.module, low=low)}
        return self._forms[low]

    def _forward(self, x: Images, weights: _Weights, *, low: bool) -> Logits:
        if not self._open:
            raise RuntimeError("this frozen classifier was closed; enter a new one with classifier.frozen()")
        self._hold(weights)
        pixels = self.classifier.normalise(x)
        # Also when it is not wanted: a caller's autocast must not reach what is decided in float32.
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=low):
            return self.classifier.logits(pixels).float()

    def _hold(self, weights: _Weights) -> None:
        if self._held is not weights:
            for parameter, data in weights.items():
                parameter.data = data
            self._held = weights


def fastest(module: nn.Module, *, low: bool) -> _Weights:
    """Return the weights that a frozen module had better hold in another form: channels_last, and bf16 if `low`.

    Autocast would cast them again at every forward; it keeps its own rules for all the other layers.
    """
    weights: _Weights = {}
    for layer in module.modules():
        if isinstance(layer, _HEAVY) and isinstance(layer.weight, nn.Parameter):
            weight = layer.weight.data.bfloat16() if low else layer.weight.data
            layout = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
            weights[layer.weight] = weight.contiguous(memory_format=layout)
    return weights


@contextmanager
def _modes(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _random_state() -> Iterator[None]:
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - a global
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Let a CUDA device round float32 products to TF32's 10 bits, or not, forward and backward; and repeat itself.

    On every device a caller's autocast is switched off, for it would reach the products of the backward, too.
    """
    with torch.autocast(device.type, enabled=False), ExitStack() as stack:
        if device.type == "cuda":
            for owner, name, value in _switches(tensor_cores=precision != "fp32"):
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, value)
        yield


def _switches(*, tensor_cores: bool) -> list[tuple[object, str, object]]:
    """Return what to set where; torch 2.9 renamed the switches of TF32, and refuses to mix old names with new."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    switches: list[tuple[object, str, object]] = [(cudnn, "deterministic", True)]
    if hasattr(cudnn, "conv"):
        mode = "tf32" if tensor_cores else "ieee"
        return [*switches, (matmul, "fp32_precision", mode), (cudnn.conv, "fp32_precision", mode)]
    return [*switches, (matmul, "allow_tf32", tensor_cores), (cudnn, "allow_tf32", tensor_cores)]
