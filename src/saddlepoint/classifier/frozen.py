"""The classifier as an attack sees it: eval mode, no parameter gradients, its weights in the fastest form.

Frozen parameters matter: with them autograd neither computes weight gradients nor keeps the activations that only
weight gradients need. Weights are exchanged by pointer, so leaving and looking at the original cost no copy.
"""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
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

    def __init__(self, classifier: "Classifier") -> None:
        self.classifier = classifier
        self._exit = ExitStack()
        self._given: _Weights = {}
        self._held: _Weights = {}
        self._forms: dict[bool, _Weights] = {}

    def __enter__(self) -> "Frozen":
        module = self.classifier.module
        with ExitStack() as stack:
            stack.enter_context(_random_state())
            stack.enter_context(_modes(module))
            module.eval()
            for parameter in module.parameters():
                stack.callback(parameter.requires_grad_, parameter.requires_grad)
                parameter.requires_grad_(False)
            self._given = self._held = {parameter: parameter.data for parameter in module.parameters()}
            stack.callback(self._hold, self._given)
            self._hold(self._form(low=False))
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *reason: object) -> None:
        self._exit.close()
        self._forms.clear()
        self._given = self._held = {}

    def logits(self, x: Images, precision: Precision = "fp32", *, as_given: bool = False) -> Logits:
        """Return float32 logits at pixels x, computed in `precision`; differentiable in x.

        Normalisation stays in float32 whatever the precision; "tf32" differs from "fp32" on CUDA devices only. The
        weights are in their fastest form, or, for those who must reproduce a plain loop to the last bit, as given.
        """
        low = precision == "bf16"
        self._hold(self._given if as_given and not low else self._form(low=low))
        pixels = self.classifier.normalise(x)
        with _arithmetic(precision, x.device):
            return self.classifier.logits(pixels).float()

    @torch.no_grad()
    def decide(self, x: Images) -> Logits:
        """Return the logits of the untouched model, float32 and weights as given: by these success is decided."""
        self._hold(self._given)
        with _arithmetic("fp32", x.device):
            return self.classifier.forward(x)

    def _form(self, *, low: bool) -> _Weights:
        if low not in self._forms:
            self._hold(self._given)
            self._forms[low] = {**self._given, **fastest(self.classifier.module, low=low)}
        return self._forms[low]

    def _hold(self, weights: _Weights) -> None:
        if self._held is not weights:
            for parameter, data in weights.items():
                parameter.data = data
            self._held = weights


def fastest(module: nn.Module, *, low: bool) -> _Weights:
    """Return the weights that a frozen module had better hold in another form: channels_last, and bf16 if `low`."""
    weights = {
        parameter: parameter.data.contiguous(memory_format=torch.channels_last)
        for parameter in module.parameters()
        if parameter.ndim == 4
    }
    if low:
        # Autocast would cast these again at every forward; it keeps its own rules for all the other layers.
        for layer in module.modules():
            if isinstance(layer, _HEAVY) and isinstance(layer.weight, nn.Parameter):
                weights[layer.weight] = weights.get(layer.weight, layer.weight.data).bfloat16()
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


def _arithmetic(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return _tensor_cores(precision == "tf32") if device.type == "cuda" else nullcontext()


@contextmanager
def _tensor_cores(allowed: bool) -> Iterator[None]:
    """Let CUDA round float32 products to TF32's 10 bits, or not."""
    matmul = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=torch.backends.cudnn.benchmark, deterministic=True, allow_tf32=allowed
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
