"""Rounding toward zero, from the exact error of a floating-point sum: what the arithmetic stores never leaves Δ."""

import torch

from saddlepoint.typing import Images


def two_sum(a: Images, b: Images) -> tuple[Images, Images]:
    """Return s = fl(a + b) and the exact e = a + b − s (Knuth 1969, Seminumerical Algorithms, §4.2.2, thm. B)."""
    s = a + b
    virtual = s - a
    return s, (a - (s - virtual)) + (b - virtual)


def opposed(a: Images, b: Images) -> Images:
    """Return 1 where a and b have opposite signs, else 0; as numbers, for selecting by flags costs ten times more."""
    return (a * b.sign()).lt_(0)


def sum_toward_zero(a: Images, b: Images) -> Images:
    """Return a + b rounded toward zero: |result| ≤ |a + b| in real arithmetic."""
    s, error = two_sum(a, b)
    return torch.nextafter(s, s * (1 - opposed(s, error)))


def step_toward_zero(rounded: Images) -> Images:
    """Return the next float toward zero: no larger than the real number that was rounded to nearest."""
    return torch.nextafter(rounded, rounded.new_zeros(()))


def beyond(value: Images, toward: float) -> Images:
    """Return the next float toward ±∞: no nearer than the real number that was rounded to nearest."""
    return torch.nextafter(value, torch.full_like(value, toward))


def toward_zero(value: Images, dtype: torch.dtype) -> Images:
    """Cast to a narrower type, rounding toward zero."""
    if value.dtype == dtype:
        return value
    cast = value.to(dtype)
    grown = cast.to(value.dtype).abs() > value.abs()
    return torch.where(grown, torch.nextafter(cast, cast.new_zeros(())), cast)


def inward(x: Images, delta: Images) -> Images:
    """Shrink δ by a step or two, where needed, so that the stored point is no farther from x than δ was.

    For the result δ′, |fl(x + δ′) − x| ≤ |δ| and |δ′| ≤ |δ| hold in real arithmetic, coordinate by coordinate. With
    s = fl(x + δ) and x + δ = s + e, the point s lies farther than δ exactly where e and δ have opposite signs; there
    the next float s′ towards x is taken and δ′ is s′ − x, less one step for the rounding of this subtraction.
    Elsewhere δ′ is δ, bit for bit.
    """
    point, error = two_sum(x, delta)
    outward = opposed(error, delta)
    nearer = torch.nextafter(point, torch.lerp(point, x, outward))
    return torch.lerp(delta, step_toward_zero(nearer - x), outward)
