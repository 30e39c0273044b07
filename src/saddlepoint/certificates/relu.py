"""The one activation that branches: max(x, 0), and its triangle.

    α x  ≤  max(x, 0)  ≤  u (x − l) / (u − l)      for l < 0 < u and any 0 ≤ α ≤ 1

(Wong & Kolter 2018, section 3.1; Singh et al. 2019; Zhang et al. 2018). Outside of l < 0 < u both lines are the
function itself.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from saddlepoint.certificates.lines import Lines


@final
@dataclass(frozen=True)
class ReLU:
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return max(x, 0)."""
        return torch.relu(x)

    def interval(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Return the range over [lower, upper]."""
        return torch.relu(lower), torch.relu(upper)

    def slopes(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Return 0 to 1, or one of them where the sign is known."""
        return (lower > 0).to(lower.dtype), (upper >= 0).to(lower.dtype)

    def loose(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Tell where tighter bounds make better lines: where the sign is open."""
        return (lower < 0) & (upper > 0)

    def start(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return the α of the smaller area: 1 if u > −l, else 0 (Zhang et al. 2018)."""
        return (upper > -lower).to(lower.dtype)

    def clip(self, alpha: Tensor) -> Tensor:
        """Return the nearest α in [0, 1]."""
        return alpha.clamp(0, 1)

    def lines(self, lower: Tensor, upper: Tensor, alpha: Tensor) -> Lines:
        """Return the lines of α and of the chord."""
        crossing = self.loose(lower, upper)
        active = (lower >= 0).to(lower.dtype)
        chord = torch.where(crossing, upper / torch.where(crossing, upper - lower, 1), active)
        above = torch.where(crossing, -lower * chord, torch.zeros_like(lower))
        return Lines(torch.where(crossing, alpha, active), None, chord, above)
