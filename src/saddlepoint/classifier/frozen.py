"""The classifier as an attack sees it: eval mode, no parameter gradients, computed in its fastest form.

Frozen parameters matter: with them autograd neither computes weight gradients nor keeps the activations that only
weight gradients need.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from saddlepoint.classifier.arithmetic import DECISION, Arithmetic
from saddlepoint.classifier.forms import Form, Recording, forms
from saddlepoint.classifier.randomness import random_state, seed_torch
from saddlepoint.classifier.validation import check_module, evaluating
from saddlepoint.random import key, uniform
from saddlepoint.typing import Images, Logits

if TYPE_CHECKING:
    from saddlepoint.classifier.model import Classifier

_TOLERANCES = {False: (1e-2, 0.1), True: (0.25, 1.0)}
"""How far logits and gradients of a form may lie from those of the module in float32, as shares of their norms.

Wide for the rounding of either precision (TF32 rounds as "fp32" here), narrow for another function.
"""

SEARCH = Arithmetic()
"""Float32, in the module's fastest form."""

_Response = tuple[Tensor, Tensor]

_AS_GIVEN: AbstractContextManager[object] = nullcontext()


class Frozen:
    """A context in which a classifier can be attacked; everything is restored on the way out, whatever happens inside.

    Restored: training mode of every submodule, `requires_grad`, the global random states of Python, NumPy and torch.
    Weights are never written to.
    """

    def __init__(self, classifier: "Classifier") -> None:
        self.classifier = classifier
        self._open = False
        self._exit = ExitStack()
        self._forms: dict[bool, AbstractContextManager[object]] = {}
        self.deviation = 0.0
        """How far, in float32, the search's logits were seen to lie from the module's, as a share of the largest."""

    def __enter__(self) -> "Frozen":
        module = self.classifier.module
        check_module(module)
        with ExitStack() as stack:
            stack.enter_context(random_state())
            stack.enter_context(_modes(module))
            evaluating(module)
            for parameter in module.parameters():
                stack.callback(parameter.requires_grad_, parameter.requires_grad)
                parameter.requires_grad_(False)
            self._open = True
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *reason: object) -> None:
        self._exit.close()
        self._open = False
        self._forms.clear()

    def logits(self, x: Images, arithmetic: Arithmetic = SEARCH) -> Logits:
        """Return float32 logits at pixels x; differentiable in x. Normalisation is in float32 in any arithmetic."""
        low = arithmetic.low
        if arithmetic.as_given and not low:
            return self._forward(x, _AS_GIVEN)
        if low not in self._forms:
            self._forms[low] = self._fastest(x, low=low)
        form = self._forms[low]
        logits = self._forward(x, form, low=low)
        if isinstance(form, Form) and not form.settled():
            self._forms[low] = _AS_GIVEN
            return self._forward(x, _AS_GIVEN, low=low)
        return logits

    @torch.no_grad()
    def decide(self, x: Images) -> Logits:
        """Return the logits of the unmodified model in float32: they decide success."""
        with DECISION.switched(x.device):
            return self.logits(x, DECISION)

    def _fastest(self, x: Images, *, low: bool) -> AbstractContextManager[object]:
        """Return the fastest form that answers as the module itself does; a module may rely on its weights' layout.

        They are compared at pixels that depend on an image's shape alone, so that equal rows come from equal forms.
        """
        module = self.classifier.module
        if any(map(compiled, module.modules())):
            return _AS_GIVEN
        keys = torch.tensor([key(0, "probe", row) for row in range(min(2, len(x)))], device=x.device)
        probe, recording = uniform(keys, 0, tuple(x.shape[1:])), Recording(module)
        expected = self._respond(probe, recording)
        if expected is not None:
            for form in forms(recording, low=low):
                response = self._respond(probe, form, low=low)
                if response is not None and _agree(response, expected, _TOLERANCES[low]):
                    if not low:
                        self.deviation = float((response[0] - expected[0]).abs().max() / expected[0].abs().max())
                    return form
        return _AS_GIVEN

    def _respond(self, probe: Images, form: AbstractContextManager[object], *, low: bool = False) -> _Response | None:
        """Return logits and the gradient of their log-sum-exp at the probe; None if the module cannot compute them."""
        try:
            with random_state(), torch.enable_grad():
                seed_torch(0)
                x = probe.clone().requires_grad_()
                logits = self._forward(x, form, low=low)
                gradient = torch.autograd.grad(logits.logsumexp(1).sum(), x)[0] if logits.requires_grad else x.detach()
        except Exception:  # whatever a foreign module raises: it could not bear this form
            return None
        return logits.detach(), gradient

    def _forward(self, x: Images, form: AbstractContextManager[object], *, low: bool = False) -> Logits:
        if not self._open:
            raise RuntimeError("this frozen classifier was closed; enter a new one with classifier.frozen()")
        pixels = self.classifier.normalise(x)
        # Also when it is not wanted: a caller's autocast must not reach what is decided in float32.
        with form, torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=low):
            return self.classifier.logits(pixels).float()


def _agree(response: _Response, expected: _Response, tolerances: tuple[float, float]) -> bool:
    pairs = zip(response, expected, tolerances, strict=True)
    return all(bool((got - due).norm() <= share * due.norm()) for got, due, share in pairs)


def compiled(part: nn.Module) -> bool:
    """Whether the module is compiled, so that a TorchFunctionMode cannot intercept its calls."""
    return hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None


@contextmanager
def _modes(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
