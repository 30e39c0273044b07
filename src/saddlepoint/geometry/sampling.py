"""Uniform points in the unit ℓ∞, ℓ2 and ℓ1 balls, as pure functions of (keys, counter).

ℓ1 and ℓ2 by Barthe, Guédon, Mendelson & Naor (2005, "A probabilistic approach to the geometry of the ℓ_p^n-ball",
theorem 1): if the x_i have density ∝ exp(−|x|^p) and E is exponential, x/(Σ|x_i|^p + E)^{1/p} is uniform in the ball.
Dividing by ‖x‖ and multiplying by a uniform number, as is often done, is not: almost all of a ball lies close to its
surface.

Each function draws from the streams `counter` to `counter + 2` and returns (B, *shape) in the widest type.
"""

import math

import torch

from saddlepoint import random
from saddlepoint.geometry.norms import row_sum, spread, wide
from saddlepoint.random import Counter
from saddlepoint.typing import Images, Keys, PerExample


def uniform_linf(keys: Keys, counter: Counter, shape: tuple[int, ...]) -> Images:
    """Return points uniform in [−1, 1]^d, coordinate by coordinate, on a grid that is symmetric about 0."""
    return 2 * wide(random.uniform(keys, counter, shape)) - (1 - 2.0**-24)


def uniform_l2(keys: Keys, counter: Counter, shape: tuple[int, ...]) -> Images:
    """Return points uniform in the Euclidean unit ball: the density exp(−x²) is that of N(0, ½)."""
    x = wide(random.normal(keys, counter, shape)) / math.sqrt(2)
    return x / spread((row_sum(x.square()) + _exponential(keys, counter + 1)).sqrt(), x)


def uniform_l1(keys: Keys, counter: Counter, shape: tuple[int, ...]) -> Images:
    """Return points uniform in the cross-polytope: the density exp(−|x|)/2 is an exponential with a random sign."""
    size = wide(random.exponential(keys, counter, shape))
    x = torch.copysign(size, random.uniform(keys, counter + 2, shape) - 0.5)
    return x / spread(row_sum(size) + _exponential(keys, counter + 1), x)


def _exponential(keys: Keys, counter: Counter) -> PerExample:
    return wide(random.exponential(keys, counter, ()))
