"""Δ: a ball, with one radius or one per example, and the ball bound to examples and intersected with the pixel box.

Everything is in δ-space and row by row. What comes out of a region lies in it to the last bit: the point that x + δ
stores obeys the radius and the box with no tolerance, when checked in float64.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from saddlepoint.geometry import binding
from saddlepoint.geometry.binding import Bound, PixelBound, Radius
from saddlepoint.geometry.floats import beyond, inward
from saddlepoint.geometry.hyperplanes import onto_hyperplane, toward
from saddlepoint.geometry.levels import settled
from saddlepoint.geometry.maximisers import inner
from saddlepoint.geometry.norms import beside, dual_exponent, lp_norm, slices, spread, wide, working
from saddlepoint.random import Counter
from saddlepoint.typing import Images, Keys, Mask, PerExample


@dataclass(frozen=True)
class Ball(ABC):
    """{δ : ‖δ‖_p ≤ ε}, with ε in pixel units of [0, 1]: one number, or a tensor (B,) of one radius per example."""

    name: ClassVar[str]
    p: ClassVar[float]
    separable: ClassVar[bool] = False
    """Whether coordinates do not compete for the radius: ball ∩ box is then itself a box."""

    eps: Radius

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", binding.radius(self.eps))

    def norm(self, v: Images) -> PerExample:
        """Return ‖v‖_p of each row."""
        return lp_norm(v, self.p)

    def dual_norm(self, g: Images) -> PerExample:
        """Return ‖g‖_* = max_{‖v‖ ≤ 1} ⟨g, v⟩ of each row."""
        return lp_norm(g, dual_exponent(self.p))

    def sample(self, keys: Keys, like: Images, counter: Counter = 0) -> Images:
        """Return points uniform in the ball, inside to the last bit, one per key, in the shape and type of `like`."""
        radius, points = binding.per_row(self.eps, like), self.uniform(keys, counter, tuple(like.shape[1:]))
        return binding.shrink(points * spread(radius, points), self.p, radius, like.dtype)

    def at(self, x: Images, lower: Bound = 0.0, upper: Bound = 1.0) -> "Region":
        """Bind the ball to examples: {δ : ‖δ‖ ≤ ε, lower ≤ x + δ ≤ upper}. None means no bound.

        Raises:
            InputError: x lies outside the box, or the radii or bounds do not fit its shape.
        """
        radius, bounds = binding.per_row(self.eps, x), binding.bounds(x, lower, upper)
        low, high = binding.box(x, *bounds)
        if not self.separable:
            return Region(replace(self, eps=radius), x, low, high, bounds)
        return Region(replace(self, eps=radius), x, *binding.fold(x, radius, low, high), bounds)

    @abstractmethod
    def steepest(self, g: Images, sparsity: float | PerExample = 0.0) -> Images:
        """Return argmax ⟨g, v⟩ over ‖v‖ ≤ 1, zero where g = 0; `sparsity` spreads the step of the ℓ1 ball only."""

    def ascent(
        self, g: Images, length: PerExample, low: Images, high: Images, sparsity: float | PerExample = 0.0
    ) -> Images:
        """Return a step of steepest ascent, ‖v‖ ≤ length, without coordinates that the box low ≤ v ≤ high blocks.

        Args:
            g: the gradient, (B, C, H, W).
            length: of the step in the norm of the ball, (B,).
            low: how far each coordinate may fall, ≤ 0, like g.
            high: how far it may rise, ≥ 0, like g.
            sparsity: the share of coordinates that a step in ℓ1 moves; 0 moves one.
        """
        blocked = ((g > 0) & (high <= 0)) | ((g < 0) & (low >= 0))
        return spread(length, g) * self.steepest(g.masked_fill(blocked, 0), sparsity)

    def onto_hyperplane(self, d: Images, w: Images, b: PerExample, low: Images, high: Images) -> Images:
        """Return argmin ‖z − d‖ over {z : ⟨w, z⟩ = b, low ≤ z ≤ high}; as far as the box allows, if that is empty.

        Args:
            d: the points, (B, C, H, W).
            w: normals of the hyperplanes, like d.
            b: their offsets, (B,).
            low: least coordinates, like d.
            high: largest coordinates, like d.
        """
        return onto_hyperplane(self.moves, d, w, b, low, high)

    def toward(self, w: Images, gap: PerExample, low: Images, high: Images) -> Images:
        """Return argmin ‖v‖ over {v : ⟨w, v⟩ = gap, low ≤ v ≤ high}, the step of `onto_hyperplane`.

        Args:
            w: normals of the hyperplanes, (B, C, H, W).
            gap: what the step must gain in ⟨w, v⟩, (B,).
            low: how far each coordinate may fall, ≤ 0, like w.
            high: how far it may rise, ≥ 0, like w.
        """
        return toward(self.moves, w, gap, low, high)

    @abstractmethod
    def uniform(self, keys: Keys, counter: Counter, shape: tuple[int, ...]) -> Images:
        """Return points uniform in the unit ball, up to rounding."""

    @abstractmethod
    def nearest(self, d: Images, radius: PerExample, low: Images, high: Images) -> Images:
        """Return argmin ‖z − d‖₂ over ball ∩ box, up to rounding.

        Args:
            d: the points, (B, C, H, W).
            radius: ε, (B,).
            low: least coordinates, like d.
            high: largest coordinates, like d.
        """

    @abstractmethod
    def farthest(self, g: Images, radius: PerExample, low: Images, high: Images) -> Images:
        """Return argmax ⟨g, z⟩ over ball ∩ box, up to rounding.

        Args:
            g: the directions, (B, C, H, W).
            radius: ε, (B,).
            low: least coordinates, like g.
            high: largest coordinates, like g.
        """

    @abstractmethod
    def moves(self, slope: Images, room: Images, gap: PerExample) -> Images:
        """Return argmin ‖m‖ over ⟨slope, m⟩ = gap, 0 ≤ m ≤ room, for slope ≥ 0; see `geometry.hyperplanes`."""


@dataclass(frozen=True, eq=False)
class Region:
    """ball ∩ box around x, in δ-space: `ball.eps` holds one radius per row, and low ≤ 0 ≤ high the box.

    A separable ball is folded into the box when it is bound: its projection is one clamp. `Ball.at` makes regions.
    `bounds` are those of the pixels, broadcasting to x; None where low and high are the box already.
    """

    ball: Ball
    x: Images
    low: Images
    high: Images
    bounds: tuple[PixelBound, PixelBound] | None = None

    @property
    def radius(self) -> PerExample:
        """One ε per row, in the widest type."""
        return binding.per_row(self.ball.eps, self.x)

    @property
    def box(self) -> tuple[Images, Images]:
        """The bounds of δ that keep x + δ in the pixel box, be δ in the ball or not."""
        folded = self.ball.separable and self.bounds is not None
        return binding.box(self.x, *self.bounds) if folded and self.bounds is not None else (self.low, self.high)

    def contains(self, delta: Images) -> Mask:
        """Tell, with no tolerance, whether low ≤ δ ≤ high, ‖δ‖ ≤ ε and ‖fl(x + δ) − x‖ ≤ ε. NaN is outside."""
        inside = self.ball.norm(delta) <= self.radius
        if settled(~inside):
            return inside
        stored = wide(self.x + delta) - wide(self.x)
        boxed = lp_norm(torch.clamp(delta, self.low, self.high) - delta, torch.inf) == 0
        return inside & boxed & (self.ball.norm(stored) <= self.radius)

    def nearest(self, delta: Images) -> Images:
        """Return P_Δ(δ) up to rounding, as a plain clamp gives it: the result may miss Δ by a last bit."""
        low, high = working(self.low), working(self.high)
        if self.ball.separable:
            low, high = binding.unfold(self.x, self.radius, low, high)
        return self.ball.nearest(working(delta), self.radius, low, high).to(self.x.dtype)

    def project(self, delta: Images) -> Images:
        """Return P_Δ(δ) = argmin_{z∈Δ} ‖z − δ‖₂, rounded inward; rows in Δ come back bit for bit, NaN stays NaN."""
        if self.ball.separable:
            return torch.clamp(delta, self.low, self.high)
        return torch.cat([part._nearest(delta[cut]) for cut, part in self._parts()])

    def enclosure(self) -> tuple[Images, Images]:
        """Return float64 bounds of x + δ over all real δ ∈ Δ, rounded outward: what a proof may start from."""
        x, reach = wide(self.x), spread(self.radius, wide(self.x))
        lower, upper = beyond(x - reach, -torch.inf), beyond(x + reach, torch.inf)
        if self.bounds is None:
            return lower, upper
        least, most = (wide(bound) for bound in self.bounds)
        return torch.minimum(torch.maximum(lower, least), x), torch.maximum(torch.minimum(upper, most), x)

    def support(self, g: Images) -> Float[Tensor, "batch *several"]:
        """Return max_{δ∈Δ} ⟨g, δ⟩ of each row; ε‖g‖_* when there is no box. For g (B, K, *shape), (B, K)."""
        if g.ndim > self.x.ndim:
            return self._several(g).support(g.flatten(0, 1)).reshape(g.shape[:2])
        return inner(g, self._farthest(g))

    def maximiser(self, g: Images) -> Images:
        """Return argmax_{δ∈Δ} ⟨g, δ⟩, rounded inward; a coordinate that does not matter stays 0 where it can.

        For several g per row, (B, K, *shape), as many maximisers.
        """
        if g.ndim > self.x.ndim:
            return self._several(g).maximiser(g.flatten(0, 1)).reshape(g.shape)
        return torch.cat([part._settle(part._farthest(g[cut])) for cut, part in self._parts()])

    def ascent(self, g: Images, delta: Images, length: PerExample, sparsity: float | PerExample = 0.0) -> Images:
        """Return the step v of steepest ascent at δ, ‖v‖ ≤ length, that the box leaves room for.

        For a separable ball the room is not asked for: the projection undoes a step into the wall, coordinate by
        coordinate.

        Args:
            g: the gradient, (B, C, H, W).
            delta: the points δ, (B, C, H, W).
            length: of the step, (B,).
            sparsity: the share of coordinates that the step is spread over, where the ball spreads it.
        """
        if self.ball.separable:
            return spread(length, g) * self.ball.steepest(g)
        return self.ball.ascent(g, length, self.low - delta, self.high - delta, sparsity)

    def start(self, keys: Keys, counter: Counter = 0) -> Images:
        """Return a point uniform in the ball, projected onto Δ; one key per row."""
        return self.project(self.ball.sample(keys, self.x, counter))

    def _several(self, g: Images) -> "Region":
        """Return the region with each row as often as g, (B, K, *shape), has it."""
        ball = replace(self.ball, eps=self.radius.repeat_interleave(g.shape[1]))
        x, low, high = (rows.repeat_interleave(g.shape[1], 0) for rows in (self.x, self.low, self.high))
        return Region(ball, x, low, high)

    def _parts(self) -> Iterator[tuple[slice, "Region"]]:
        """Cut the rows; a batch in one piece is not copied, nor are its radii checked again."""
        cuts = slices(self.x)
        if len(cuts) == 1:
            yield cuts[0], self
            return
        for cut in cuts:
            ball = replace(self.ball, eps=self.radius[cut])
            yield cut, Region(ball, self.x[cut], self.low[cut], self.high[cut])

    def _nearest(self, delta: Images) -> Images:
        nearest = self.ball.nearest(working(delta), self.radius, working(self.low), working(self.high))
        return torch.where(beside(self.contains(delta), delta), delta, self._settle(nearest))

    def _farthest(self, g: Images) -> Images:
        return self.ball.farthest(wide(g), self.radius, wide(self.low), wide(self.high))

    def _settle(self, z: Images) -> Images:
        """Round inward; a separable ball was, when it was bound."""
        if self.ball.separable:
            return z.to(self.x.dtype)
        return inward(self.x, binding.shrink(z, self.ball.p, self.radius, self.x.dtype))
