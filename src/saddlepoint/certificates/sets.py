"""Where the input may lie, and the least value of a linear functional there: all in float64."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor

from saddlepoint.certificates.functionals import Functionals
from saddlepoint.certificates.rounding import gamma, small
from saddlepoint.geometry import Ball


@runtime_checkable
class InputSet(Protocol):
    """B sets of inputs, or one for all: bounds of each coordinate, and the minimum of linear functionals."""

    @property
    def lower(self) -> Tensor:
        """Return the least value of each coordinate, (B or 1, *shape), float64."""

    @property
    def upper(self) -> Tensor:
        """Return the greatest value of each coordinate."""

    @property
    def boxed(self) -> bool:
        """Whether the set is all of [lower, upper]."""

    @property
    def around(self) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return a point of one set, and at least max Σ g_i |x_i − point_i| over it for g ≥ 0, (S, *shape) to (S,)."""

    def least(self, a: Functionals) -> Tensor:
        """Return at most min ⟨A, x⟩ over the set, (B, S), for B sets of S functionals."""


@final
@dataclass(frozen=True, eq=False)
class Box:
    """{x : lower ≤ x ≤ upper}."""

    lower: Tensor
    upper: Tensor

    @property
    def boxed(self) -> bool:
        """Always."""
        return True

    @property
    def around(self) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return the centre, and Σ g_i r_i."""
        centre = (self.lower + self.upper) / 2
        radius = torch.maximum(self.upper - centre, centre - self.lower)
        return centre, lambda g: (g.double() * radius).flatten(1).sum(1)

    def least(self, a: Functionals) -> Tensor:
        """Return ⟨A, c⟩ − ⟨|A|, r⟩, for a centre c and radii r that hold the box."""
        centre = (self.lower + self.upper) / 2
        radius = torch.maximum(self.upper - centre, centre - self.lower)
        beyond = torch.where(radius > 0, torch.nextafter(radius, torch.full_like(radius, torch.inf)), 0)
        return torch.cat([_least(part, centre, beyond) for part in a.parts()], 1)


@final
@dataclass(frozen=True, eq=False)
class BallInBox:
    """{x : ‖x − x₀‖ ≤ ε, lower ≤ x ≤ upper} around x₀ in the box.

    Attributes:
        centre: x₀, (B, *shape), float64.
        radius: ε, (B,), float64.
        ball: whose norm it is.
        box: that of the pixels, cut to [x₀ − ε, x₀ + ε].
    """

    centre: Tensor
    radius: Tensor
    ball: Ball
    box: Box

    @property
    def lower(self) -> Tensor:
        """The least value of each coordinate."""
        return self.box.lower

    @property
    def upper(self) -> Tensor:
        """The greatest value of each coordinate."""
        return self.box.upper

    @property
    def boxed(self) -> bool:
        """Never: cubes are boxes."""
        return False

    @property
    def around(self) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return x₀, and ε ‖g‖_*."""
        return self.centre, lambda g: self.radius * self.ball.dual_norm(g.double())

    def least(self, a: Functionals) -> Tensor:
        """Return max(⟨A, x₀⟩ − ε‖A‖_*, min over the box): the minimum over ball ∩ box is not below either."""
        wide = a.values.double()
        middle = wide * a.read(self.centre)
        fall = self.radius.unsqueeze(1) * self.ball.dual_norm(wide.flatten(0, 1)).reshape(wide.shape[:2])
        lost = _rounding(middle) + gamma(wide[0, 0].numel(), wide) * fall.detach()
        return torch.maximum(self.box.least(a), middle.flatten(2).sum(2) - fall - lost)


def _least(a: Functionals, centre: Tensor, radius: Tensor) -> Tensor:
    """Return ⟨A, c⟩ − ⟨|A|, r⟩, less its rounding; by sums, for a matrix product depends on where rows lie."""
    wide = a.values.double()
    size, point = wide.abs(), a.read(centre)
    middle, fall = ((factor * value).flatten(2).sum(2) for factor, value in ((wide, point), (size, a.read(radius))))
    count = 2 * wide[0, 0].numel()
    reached = (size.detach() * point.abs()).flatten(2).sum(2) + fall.detach()
    return middle - fall - gamma(count, wide) * (reached + small(wide))


def _rounding(terms: Tensor) -> Tensor:
    """Return what float64 may lose of sums of these terms, (B, S): γ_n times the sum of their magnitudes."""
    size = terms.detach().abs().flatten(2).sum(2)
    return gamma(terms[0, 0].numel(), size) * (size + small(size))


def around(x: Tensor, ball: Ball, box: tuple[float, float] | None) -> InputSet:
    """Return the ball around each of x, (B, *shape), intersected with the box, of real numbers: in float64."""
    hull = Box(*ball.at(x, *(box or (None, None))).enclosure())
    radius = torch.as_tensor(ball.eps, dtype=torch.float64, device=x.device).expand(len(x))
    return hull if ball.separable else BallInBox(x.double(), radius, ball, hull)
