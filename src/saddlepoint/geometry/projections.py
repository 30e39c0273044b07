"""The exact Euclidean projection on {z : ‖z‖_p ≤ ε, low ≤ z ≤ high}, with low ≤ 0 ≤ high per coordinate.

The usual algorithms sort the coordinates; these do not, since at 16 ImageNet images one sort costs as much as a hundred
elementwise passes. Results are exact up to rounding; `Region.project` makes them feasible to the last bit.
"""

import math

import torch

from saddlepoint.geometry.levels import level
from saddlepoint.geometry.norms import beside, lp_norm, row_sum, rows, spread, unit, wide
from saddlepoint.typing import Images, PerExample


def within(radius: PerExample, low: Images, high: Images) -> tuple[Images, Images]:
    """Clip the box to [−ε, ε], which contains the ball, so that no bound is infinite."""
    reach = spread(radius, high)
    return torch.maximum(low, -reach), torch.minimum(high, reach)


def onto_linf(d: Images, radius: PerExample, low: Images, high: Images) -> Images:
    """Project on the ℓ∞ ball ∩ box: clip(d, low, high), coordinate by coordinate.

    Args:
        d: the points to project, (B, C, H, W).
        radius: ε of each row, (B,).
        low: the least δ, at most 0, (B, C, H, W).
        high: the largest, at least 0.
    """
    return torch.clamp(d, *within(radius, low, high))


def onto_l2(d: Images, radius: PerExample, low: Images, high: Images) -> Images:
    """Project on the ℓ2 ball ∩ box: z = clip(s·d, low, high) with the largest s ∈ [0, 1] for which ‖z‖₂ ≤ ε.

    By the optimality conditions with a multiplier μ ≥ 0 for ‖z‖² ≤ ε², each coordinate minimises (z − d)² + μz² over
    its interval. The solution is clip(d/(1 + μ), low, high), and s = 1/(1 + μ).
    """
    direction = unit(d)
    s = scale(direction, radius, low, high, limit=lp_norm(d, math.inf) * (radius > 0))
    return torch.clamp(spread(s, direction) * direction, low, high)


def scale(d: Images, radius: PerExample, low: Images, high: Images, limit: PerExample) -> PerExample:
    """Return the largest s ≤ limit with ‖clip(s·d, low, high)‖₂ ≤ ε.

    As a function of u = s², the squared norm Σ min(u d², c²) is concave and piecewise linear, with one breakpoint per
    coordinate that reaches its bound c. Newton's step u ← (ε² − Σ_saturated c²) / Σ_free d², started at (ε/‖d‖)²,
    increases towards the solution and never passes it, so that no breakpoint needs sorting (compare Michelot 1986).

    Args:
        d: directions, (B, C, H, W).
        radius: ε of each row, (B,).
        low: the least δ, at most 0, (B, C, H, W).
        high: the largest, at least 0.
        limit: the largest s of each row, (B,).
    """
    # In units of ε no square overflows or underflows.
    unit = spread(torch.where(radius > 0, radius, 1), d)
    d, low, high = d / unit, low / unit, high / unit

    def squared_norm(u: PerExample) -> tuple[PerExample, PerExample]:
        scaled = spread(u.sqrt(), d) * d
        z = torch.clamp(scaled, low, high)
        free, mass = scaled.eq_(z), z.square()
        return wide(row_sum(mass)), wide(row_sum(mass * free)) / u

    one, start = torch.ones_like(radius), torch.minimum(lp_norm(d, 2).reciprocal(), limit)
    return level(squared_norm, one, start.square(), 0 * one, limit.square(), torch.finfo(d.dtype).eps).sqrt()


def onto_l1(d: Images, radius: PerExample, low: Images, high: Images) -> Images:
    """Project on the ℓ1 ball ∩ box: z_i = sign(d_i)·clip(|d_i| − λ, 0, c_i) with the least λ ≥ 0 for which ‖z‖₁ ≤ ε.

    Here c_i is the distance from 0 to the bound on d_i's side. Without a box this is soft thresholding (Duchi,
    Shalev-Shwartz, Singer & Chandra 2008, fig. 1).
    """
    room = torch.clamp(torch.copysign(spread(radius, d), d), low, high).abs()
    size = d.abs()
    threshold = soften(size, radius, room)
    far = threshold > FAR * radius
    if bool(far.any()):
        size = torch.where(beside(far, size), near(size, radius, threshold), size)
        threshold = soften(size, radius, room)
    return torch.copysign(torch.clamp(minus(size, threshold), size.new_zeros(()), room), d)


FAR = 2.0**16
"""If λ exceeds this many radii, |d_i| − λ has lost the digits that matter at the scale of ε."""


def soften(size: Images, radius: PerExample, room: Images) -> PerExample:
    """Return the least λ ≥ 0 for which Σ clip(|d_i| − λ, 0, c_i) ≤ ε, up to rounding."""

    def norm(negative: PerExample) -> tuple[PerExample, PerExample]:
        above = minus(size, -negative)
        z = torch.clamp(above, size.new_zeros(()), room)
        return wide(row_sum(z)), wide(row_sum(above.eq_(z) * z.sign()))

    none, most = torch.zeros_like(radius), lp_norm(size, math.inf)
    return -level(norm, radius, start=none, low=-most, high=none, precision=torch.finfo(size.dtype).eps)


def near(size: Images, radius: PerExample, threshold: PerExample) -> Images:
    """Return sizes of at most 4ε with the same projection: 2ε + |d_i| − p, clipped, for the p = |d_j| closest to λ.

    Any entry strictly between its bounds has λ < |d_j| < λ + ε. Distances from it beyond 2ε do not affect the result.
    """
    offset = rows(wide(size)) - threshold[:, None]
    pivot = rows(size).gather(1, offset.abs().argmin(1, keepdim=True)).flatten()
    reach = spread(2 * radius, size)
    return torch.clamp(minus(size, wide(pivot)), -reach, reach) + reach


def minus(v: Images, level: PerExample) -> Images:
    """Return v − level in two subtractions, so that a level in a wider type keeps its digits when v ≈ level."""
    head = spread(level, v)
    return v - head - spread(level - wide(head).flatten(), v)
