"""Backward pass differentiable approximation: a gradient for what has none."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from saddlepoint.errors import InputError, ModelError

Transform = Callable[[Tensor], Tensor]


class BPDA(nn.Module):
    """Forward f(x), backward the gradient of another function g ≈ f (Athalye, Carlini & Wagner 2018, §4.1).

    For what stands before a network and cannot be differentiated, such as JPEG or quantisation:
    `sp.Classifier(torch.nn.Sequential(sp.BPDA(jpeg), classifier))`. What is decided is decided with f itself.

    Args:
        function: f, any function of a batch of pixels; nothing is differentiated through it.
        substitute: g, differentiable, with outputs in the shape of f's; None for the identity.
    """

    def __init__(self, function: Transform, substitute: Transform | None = None) -> None:
        super().__init__()
        for name, callee in (("function", function), ("substitute", substitute)):
            if not (callable(callee) or (callee is None and name == "substitute")):
                raise InputError(f"BPDA got {name}={callee!r}; expected a function of a batch of pixels")
        self.function = function
        self.substitute = substitute

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        with torch.no_grad():
            exact = self.function(x.clone())  # f may work in place
        if not isinstance(exact, Tensor) or not exact.is_floating_point():
            kind = f"a {exact.dtype} tensor" if isinstance(exact, Tensor) else f"a {type(exact).__name__}"
            raise ModelError(
                f"BPDA's function returns {kind}; expected a floating tensor, of pixels in the scale of its input: "
                "end it with torch.as_tensor(…).float(), and divide by 255 what is in [0, 255]"
            )
        smooth = x if self.substitute is None else self.substitute(x)
        if smooth.shape != exact.shape:
            raise ModelError(
                f"BPDA's function returns shape {tuple(exact.shape)}, its substitute {tuple(smooth.shape)}; expected "
                "the same: give a substitute that resizes as the function does"
            )
        output: Tensor = _Exact.apply(smooth, exact)
        return output

    def extra_repr(self) -> str:
        """Name the functions that are no modules, by which one defence differs from another."""
        plain = (part for part in (self.function, self.substitute) if not isinstance(part, nn.Module))
        return ", ".join(getattr(part, "__qualname__", repr(part)) for part in plain)


class _Exact(Function):
    """Return the second argument, and the gradient to the first."""

    @staticmethod
    def forward(ctx: Any, smooth: Tensor, exact: Tensor) -> Tensor:  # noqa: ANN401 - torch's signature
        return exact.to(smooth.dtype)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return gradient[0], None
