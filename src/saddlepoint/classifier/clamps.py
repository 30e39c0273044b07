"""A gradient for clamps at their bounds, for searches.

torch's clamp has gradient 0 *at* its bounds, so that a module which clamps its input to [0, 1] never lets a pixel of
exactly 0 or 1 move. On [0, 1] it is the same function without the clamp, whose gradient passes there; a search takes
that one. Values are those of the clamp, to the last bit.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_Function = Callable[..., Any]
_Bound = float | Tensor | None


class _Clamp(torch.autograd.Function):
    """min(max(x, lower), upper), with gradient 1 on the whole of [lower, upper]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lower: Any, upper: Any) -> Tensor:  # noqa: ANN401 - autograd's own
        inside = torch.ones_like(x, dtype=torch.bool)
        if lower is not None:
            inside &= x >= lower
        if upper is not None:
            inside &= x <= upper
        ctx.save_for_backward(inside)
        return torch.clamp(x, lower, upper)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None


def _both(x: Tensor, min: _Bound = None, max: _Bound = None) -> tuple[Tensor, _Bound, _Bound]:  # noqa: A002
    return x, min, max


def _least(x: Tensor, min: _Bound) -> tuple[Tensor, _Bound, _Bound]:  # noqa: A002
    return x, min, None


def _most(x: Tensor, max: _Bound) -> tuple[Tensor, _Bound, _Bound]:  # noqa: A002
    return x, None, max


def _hardtanh(
    input: Tensor,  # noqa: A002
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> tuple[Tensor, _Bound, _Bound]:
    return input, min_val, max_val


def _relu6(input: Tensor, inplace: bool = False) -> tuple[Tensor, _Bound, _Bound]:  # noqa: A002
    return input, 0.0, 6.0


_BOUNDS: dict[_Function, Callable[..., tuple[Tensor, _Bound, _Bound]]] = {
    **dict.fromkeys((torch.clamp, torch.clip, Tensor.clamp, Tensor.clip, Tensor.clamp_, Tensor.clip_), _both),
    **dict.fromkeys((torch.clamp_min, Tensor.clamp_min, Tensor.clamp_min_), _least),
    **dict.fromkeys((torch.clamp_max, Tensor.clamp_max, Tensor.clamp_max_), _most),
    functional.hardtanh: _hardtanh,
    functional.relu6: _relu6,
}
_IN_PLACE = frozenset({Tensor.clamp_, Tensor.clip_, Tensor.clamp_min_, Tensor.clamp_max_})


class PassingClamps(TorchFunctionMode):
    """While entered, clamps have a gradient at their bounds. Code that torch has compiled or traced asks nobody."""

    def __torch_function__(
        self, function: _Function, types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        """Run the function, or the clamp that stands for it."""
        kwargs = kwargs or {}
        if function not in _BOUNDS:
            return function(*args, **kwargs)
        x, lower, upper = _BOUNDS[function](*args, **kwargs)
        learned = any(isinstance(bound, Tensor) and (bound.requires_grad or bound.ndim) for bound in (lower, upper))
        if not x.requires_grad or learned:
            return function(*args, **kwargs)
        clamped: Tensor = _Clamp.apply(x, lower, upper)
        return x.copy_(clamped) if function in _IN_PLACE or kwargs.get("inplace") or True in args[3:4] else clamped
