"""Two lines that enclose an activation on an interval."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


@final
@dataclass(frozen=True, eq=False)
class Lines:
    """lower_slope · x + lower_intercept ≤ f(x) ≤ upper_slope · x + upper_intercept, coordinate by coordinate.

    All of one shape, (B, *shape), or broadcasting to it; a missing intercept is zero.
    """

    lower_slope: Tensor
    lower_intercept: Tensor | None
    upper_slope: Tensor
    upper_intercept: Tensor

    def backward(self, functional: Tensor, careful: bool = False) -> tuple[Tensor, Tensor]:
        """Return A' and c with ⟨A, f(x)⟩ ≥ ⟨A', x⟩ + c: the lower line where A > 0, the upper where A < 0.

        Args:
            functional: A, (B, S, *shape).
            careful: whether c is summed in float64.

        Returns:
            A', (B, S, *shape), and c, (B, S).
        """
        up, down = functional.clamp(min=0), functional.clamp(max=0)
        constant = inner(down, self.upper_intercept, careful)
        if self.lower_intercept is not None:
            constant = constant + inner(up, self.lower_intercept, careful)
        return up * self.lower_slope.unsqueeze(1) + down * self.upper_slope.unsqueeze(1), constant


def inner(functional: Tensor, vector: Tensor, careful: bool = False) -> Tensor:
    """Return ⟨A, v⟩, (B, S), for one v per set, (B, *shape); a careful sum is one in float64."""
    flat, other = functional.flatten(2), vector.flatten(1).unsqueeze(1)
    return (flat * other).sum(2, dtype=torch.float64) if careful else (flat @ other.mT).squeeze(2)
