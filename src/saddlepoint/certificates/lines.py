"""Two lines that enclose an activation on an interval."""

from dataclasses import dataclass, replace
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor

from saddlepoint.certificates.functionals import Functionals


@runtime_checkable
class Linear(Protocol):
    """What takes a functional of an activation's result to one of its input."""

    def backward(self, a: Functionals, careful: bool = False) -> tuple[Functionals | None, Tensor]:
        """Return A' and c with ⟨A, f(x)⟩ ≥ ⟨A', x⟩ + c: A', None where it is zero, and c, (B, S)."""


@final
@dataclass(frozen=True, eq=False)
class Lines:
    """lower_slope · x + lower_intercept ≤ f(x) ≤ upper_slope · x + upper_intercept, coordinate by coordinate.

    All of one shape, (B, *shape), or broadcasting to it; a missing intercept is zero. Constant lines have no slopes.
    """

    lower_slope: Tensor | None
    lower_intercept: Tensor | None
    upper_slope: Tensor | None
    upper_intercept: Tensor

    def backward(self, a: Functionals, careful: bool = False) -> tuple[Functionals | None, Tensor]:
        """Return A' and c with ⟨A, f(x)⟩ ≥ ⟨A', x⟩ + c: the lower line where A > 0, the upper where A < 0.

        Args:
            a: A, B sets of S.
            careful: whether c is summed in float64.

        Returns:
            A', None where it is zero, and c, (B, S).
        """
        positive = replace(a, values=torch.relu(a.values))
        negative = replace(a, values=a.values - positive.values)  # exact, and cheaper than a choice
        constant = negative.over(self.upper_intercept, careful=careful)
        if self.lower_intercept is not None:
            constant = constant + positive.over(self.lower_intercept, careful=careful)
        if self.lower_slope is None or self.upper_slope is None:
            return None, constant
        below, above = a.read(self.lower_slope), a.read(self.upper_slope)
        return replace(a, values=torch.addcmul(positive.values * below, negative.values, above)), constant
