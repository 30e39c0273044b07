"""The balls: each names the functions that are its geometry."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

from saddlepoint.geometry import hyperplanes, maximisers, projections, sampling
from saddlepoint.geometry.regions import Ball
from saddlepoint.random import Counter
from saddlepoint.typing import Images, Keys, PerExample


@final
@dataclass(frozen=True)
class Linf(Ball):
    """{δ : max |δ_i| ≤ ε}: no pixel changes by more than ε. `Linf(2 / 255)`."""

    name: ClassVar[str] = "linf"
    p: ClassVar[float] = math.inf
    separable: ClassVar[bool] = True

    def steepest(self, g: Images, sparsity: float | PerExample = 0.0) -> Images:
        """Return sign(g); the step is dense, whatever `sparsity`."""
        return maximisers.steepest_linf(g)

    def uniform(self, keys: Keys, counter: Counter, shape: tuple[int, ...]) -> Images:
        """Return points uniform in the cube."""
        return sampling.uniform_linf(keys, counter, shape)

    def nearest(self, d: Images, radius: PerExample, low: Images, high: Images) -> Images:
        """Clip each coordinate."""
        return projections.onto_linf(d, radius, low, high)

    def farthest(self, g: Images, radius: PerExample, low: Images, high: Images) -> Images:
        """Return the corner that g points to."""
        return maximisers.maximise_linf(g, radius, low, high)

    def moves(self, slope: Images, room: Images, gap: PerExample) -> Images:
        """Move every coordinate by the same, as far as its room goes."""
        return hyperplanes.moves_linf(slope, room, gap)


@final
@dataclass(frozen=True)
class L2(Ball):
    """{δ : √Σδ_i² ≤ ε}: the Euclidean ball. `L2(0.5)`."""

    name: ClassVar[str] = "l2"
    p: ClassVar[float] = 2.0

    def steepest(self, g: Images, sparsity: float | PerExample = 0.0) -> Images:
        """Return g/‖g‖₂; the step is dense, whatever `sparsity`."""
        return maximisers.steepest_l2(g)

    def uniform(self, keys: Keys, counter: Counter, shape: tuple[int, ...]) -> Images:
        """Return points uniform in the Euclidean unit ball."""
        return sampling.uniform_l2(keys, counter, shape)

    def nearest(self, d: Images, radius: PerExample, low: Images, high: Images) -> Images:
        """Scale, then clip, with the scale that makes the clipped point end on the sphere."""
        return projections.onto_l2(d, radius, low, high)

    def farthest(self, g: Images, radius: PerExample, low: Images, high: Images) -> Images:
        """Stretch g until the clipped point meets the sphere."""
        return maximisers.maximise_l2(g, radius, low, high)

    def moves(self, slope: Images, room: Images, gap: PerExample) -> Images:
        """Move along the normal, each coordinate as far as its room goes."""
        return hyperplanes.moves_l2(slope, room, gap)


@final
@dataclass(frozen=True)
class L1(Ball):
    """{δ : Σ|δ_i| ≤ ε}: few pixels change, or all very little. `L1(12)`."""

    name: ClassVar[str] = "l1"
    p: ClassVar[float] = 1.0

    def steepest(self, g: Images, sparsity: float | PerExample = 0.0) -> Images:
        """Return the vertex at the largest |g_i|, or, with `sparsity`, an even step over that share of coordinates."""
        return maximisers.steepest_l1(g, sparsity)

    def ascent(
        self, g: Images, length: PerExample, low: Images, high: Images, sparsity: float | PerExample = 0.0
    ) -> Images:
        """Return the step that fills the most valuable coordinates first, each to its share and its room."""
        return maximisers.ascend_l1(g, length, low, high, sparsity)

    def uniform(self, keys: Keys, counter: Counter, shape: tuple[int, ...]) -> Images:
        """Return points uniform in the cross-polytope."""
        return sampling.uniform_l1(keys, counter, shape)

    def nearest(self, d: Images, radius: PerExample, low: Images, high: Images) -> Images:
        """Soft-threshold, then clip."""
        return projections.onto_l1(d, radius, low, high)

    def farthest(self, g: Images, radius: PerExample, low: Images, high: Images) -> Images:
        """Fill the most valuable coordinates first."""
        return maximisers.maximise_l1(g, radius, low, high)

    def moves(self, slope: Images, room: Images, gap: PerExample) -> Images:
        """Move the coordinates of the largest normal first."""
        return hyperplanes.moves_l1(slope, room, gap)


BALLS: dict[str, type[Ball]] = {ball.name: ball for ball in (Linf, L2, L1)}
"""By the name that files and the command line use."""
