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
        constant = _intercepts(functional, self.upper_intercept, careful, upper=True)
        if self.lower_intercept is not None:
            constant = constant + _intercepts(functional, self.lower_intercept, careful, upper=False)
        slope = torch.where(functional > 0, self.lower_slope.unsqueeze(1), self.upper_slope.unsqueeze(1))
        return functional * slope, constant


def _intercepts(functional: Tensor, intercept: Tensor, careful: bool, *, upper: bool) -> Tensor:
    """Return ⟨A⁻, upper intercept⟩ or ⟨A⁺, lower intercept⟩, (B, S), over the coordinates where it is not 0."""
    flat = intercept.flatten(1)
    places = (flat != 0).any(0).nonzero().squeeze(1)
    chosen = functional.flatten(2).index_select(2, places)
    part = chosen.clamp(max=0) if upper else chosen.clamp(min=0)
    return inner(part, flat.index_select(1, places), careful)


def size(functional: Tensor, vector: Tensor) -> Tensor:
    """Return at least ⟨|A|, v⟩, (B, S), for one v ≥ 0 per set: a sum of n terms ≥ 0 loses at most γ_n of itself."""
    flat, other = functional.flatten(2).abs(), vector.flatten(1).unsqueeze(1)
    unit = torch.finfo(flat.dtype).eps * (flat.shape[2] + 8)
    return (flat @ other.mT).squeeze(2) * (1 + 2 * unit)


def inner(functional: Tensor, vector: Tensor, careful: bool = False) -> Tensor:
    """Return ⟨A, v⟩, (B, S), for one v per set, (B, *shape); a careful sum is one in float64."""
    flat, other = functional.flatten(2), vector.flatten(1).unsqueeze(1)
    return (flat * other).sum(2, dtype=torch.float64) if careful else (flat @ other.mT).squeeze(2)
