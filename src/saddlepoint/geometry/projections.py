"""The exact Euclidean projection on {z : ‖z‖_p ≤ ε, low ≤ z ≤ high}, for low ≤ 0 ≤ high given per coordinate.

No sorting: at 16 ImageNet images one sort costs as much as a hundred elementwise passes. The results are exact up to
the rounding of the type they are computed in; `Region.project` makes them feasible to the last bit.
"""

import math

import torch

from saddlepoint.geometry.levels import level
from saddlepoint.geometry.norms import lp_norm, row_sum, spread, wide
from saddlepoint.typing import Images, PerExample


def within(radius: PerExample, low: Images, high: Images) -> tuple[Images, Images]:
    """Clip the box to [−ε, ε], which contains the ball: nothing changes, and no bound is infinite any more."""
    reach = spread(radius, high)
    return torch.maximum(low, -reach), torch.minimum(high, reach)


def onto_linf(d: Images, radius: PerExample, low: Images, high: Images) -> Images:
    """Project on the ℓ∞ ball ∩ box: clip(d, low, high), coordinate by coordinate."""
    return torch.clamp(d, *within(radius, low, high))


def onto_l2(d: Images, radius: PerExample, low: Images, high: Images) -> Images:
    """Project on the ℓ2 ball ∩ box: z = clip(s·d, low, high) with the largest s ∈ [0, 1] for which ‖z‖₂ ≤ ε.

    From the optimality conditions: with multiplier μ ≥ 0 of ‖z‖² ≤ ε² each coordinate solves
    min (z − d)² + μz² over its interval, whose solution is clip(d/(1 + μ), low, high); s = 1/(1 + μ).
    """
    s = scale(d, radius, low, high, limit=(radius > 0).to(radius.dtype))
    return torch.clamp(spread(s, d) * d, low, high)


def scale(d: Images, radius: PerExample, low: Images, high: Images, limit: PerExample) -> PerExample:
    """Return the largest s ≤ limit with ‖clip(s·d, low, high)‖₂ ≤ ε.

    In u = s² the squared norm is Σ min(u d², c²): concave and piecewise linear. Newton's step from u reads
    u ← (ε² − Σ_saturated c²) / Σ_free d²; from u = (ε/‖d‖)² it climbs, never past the solution (compare
    Michelot 1986). In units of ε, so that no square leaves the range of the type.
    """
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

    Here c_i is the room that the box leaves on d_i's side; without a box this is soft thresholding (Duchi,
    Shalev-Shwartz, Singer & Chandra 2008, fig. 1).
    """
    room = torch.clamp(torch.copysign(spread(radius, d), d), low, high).abs()
    size, zero = d.abs(), d.new_zeros(())

    def clipped(threshold: PerExample) -> tuple[Images, Images]:
        above = minus(size, threshold)
        return above, torch.clamp(above, zero, room)

    def norm(negative: PerExample) -> tuple[PerExample, PerExample]:
        above, z = clipped(-negative)
        return wide(row_sum(z)), wide(row_sum(above.eq_(z) * z.sign()))

    none, most = torch.zeros_like(radius), lp_norm(d, math.inf)
    threshold = -level(norm, radius, start=none, low=-most, high=none, precision=torch.finfo(d.dtype).eps)
    return torch.copysign(clipped(threshold)[1], d)


def minus(v: Images, level: PerExample) -> Images:
    """Return v − level, subtracted in two parts so that a level in a wider type keeps its digits when v ≈ level."""
    head = spread(level, v)
    return v - head - spread(level - wide(head).flatten(), v)
