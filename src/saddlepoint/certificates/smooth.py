"""Smooth activations: sigmoid, tanh, GELU, SiLU, softplus, ELU. One argument serves them all.

Let |f'(x) − f'(y)| ≤ M |x − y|. On [l, u], cut into cells of width h, and for any slope k,

    f(x) − k x  ≤  max over the cells' ends of (f − k·) + M h² / 8,

and likewise from below, for within a cell a function leaves its chord by at most M h² / 8. So every slope gives a sound
line, and α-CROWN may choose. The chord's slope is the default.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from saddlepoint.certificates.lines import Lines

CELLS = 32
"""Per interval; the error falls with their square."""
NARROW = 1e-4
"""Intervals that are narrower gain nothing from tighter bounds, and their lines are level."""


@final
@dataclass(frozen=True)
class Smooth:
    """A function of one coordinate with a Lipschitz derivative.

    Attributes:
        function: f.
        curvature: M.
        dip: where f has its one minimum, if it is not increasing.
        jump: by how much the computed f may leave the smooth one, whatever the type.
    """

    function: Callable[[Tensor], Tensor]
    curvature: float
    dip: float | None = None
    jump: float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        return self.function(x)

    def interval(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Return the range over [lower, upper], a little wider than rounding asks for."""
        low, high = self.function(lower), self.function(upper)
        least, most = torch.minimum(low, high), torch.maximum(low, high)
        if self.dip is not None:
            bottom = self.function(torch.full_like(lower, self.dip)) - 1e-6  # the place of the dip is rounded
            least = torch.where((lower < self.dip) & (upper > self.dip), torch.minimum(least, bottom), least)
        # torch's functions are right to a few units in the last place of a value that |z| + 1 bounds: 8 covers these.
        slack = 8 * torch.finfo(lower.dtype).eps * (lower.abs() + upper.abs() + 1) + self.jump
        return least - slack, most + slack

    def slopes(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Return f' in the middle, more and less what it can change by on the way to the ends."""
        with torch.enable_grad():
            middle = ((lower + upper) / 2).detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.function(middle).sum(), middle)
        # f' changes by at most max |f''| per unit; its own formula loses a few units in the last place.
        reach = self.curvature * (upper - lower) / 2 + 8 * torch.finfo(lower.dtype).eps * (1 + slope.abs())
        return slope - reach, slope + reach

    def loose(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Tell where tighter bounds make better lines."""
        return upper - lower > NARROW

    def start(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return the slope of the chord."""
        width = upper - lower
        wide = width > NARROW
        return torch.where(wide, (self.function(upper) - self.function(lower)) / torch.where(wide, width, 1), 0)

    def clip(self, slope: Tensor) -> Tensor:
        """Return the slope: every one is allowed."""
        return slope

    def lines(self, lower: Tensor, upper: Tensor, slope: Tensor) -> Lines:
        """Return the line of this slope below, and that of the chord's slope above."""
        chord = self.start(lower, upper)
        steps = torch.linspace(0, 1, CELLS + 1, dtype=lower.dtype, device=lower.device)
        width = (upper - lower).unsqueeze(-1)
        places = lower.unsqueeze(-1) + width * steps
        values = self.function(places)
        # Cells are cut again where rounding has moved their ends: a hundredth more of their width covers that.
        error = self.curvature * (1.01 * width.squeeze(-1) / CELLS).square() / 8
        # torch's functions are right to a few units in the last place, ends and products to one: 8 covers their sum.
        slack = (
            error + self.jump + 8 * torch.finfo(lower.dtype).eps * (lower.abs() + upper.abs() + values.abs().amax(-1))
        )
        below = (values - slope.unsqueeze(-1) * places).amin(-1) - slack
        above = (values - chord.unsqueeze(-1) * places).amax(-1) + slack
        return Lines(slope.expand_as(below), below, chord, above)


# 1e-6 is far above what float64 loses in the closed form of M; a larger M only loosens the lines.
SIGMOID = Smooth(torch.sigmoid, 1 / (6 * math.sqrt(3)) + 1e-6)
TANH = Smooth(torch.tanh, 4 / (3 * math.sqrt(3)) + 1e-6)
GELU = Smooth(functional.gelu, math.sqrt(2 / math.pi) + 1e-6, dip=-0.7517916)
SILU = Smooth(functional.silu, 0.5 + 1e-6, dip=-1.2784645)
SOFTPLUS = Smooth(functional.softplus, 0.25 + 1e-6, jump=2.1e-9)  # log(1 + e⁻²⁰): torch returns x beyond 20
ELU = Smooth(functional.elu, 1.0)
"""M is max |f''|: attained at the inflections of f' of the first two, and at 0 of the others (ELU: from the left)."""
