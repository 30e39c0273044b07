"""Square's starts and proposals, as pure functions of a region, a point and random choices."""

import torch
from jaxtyping import Float
from torch import Tensor

from saddlepoint.attacks.square import patterns
from saddlepoint.attacks.square.schedule import Signs, Turns, Window
from saddlepoint.geometry import Region
from saddlepoint.geometry.levels import settled
from saddlepoint.geometry.norms import lp_norm, spread
from saddlepoint.typing import Images

PerChannel = Float[Tensor, "batch channels 1 1"]

TINY = 1e-12
"""Norms below this count as zero."""
ROUNDING = 1e-5
"""What remains of a window below this share of ε is rounding error, not a direction to keep."""


def stripes(region: Region, signs: Signs) -> Images:
    """Return ±ε in vertical stripes, one sign (B, C, 1, W) per channel and column, projected: the start in ℓ∞."""
    return region.project((spread(region.radius, signs) * signs).expand_as(region.x))


def paint(region: Region, delta: Images, window: Window, signs: Signs) -> Images:
    """Return δ with each channel of the window at ±ε, projected (Andriushchenko et al. 2020, alg. 2).

    The paper adds ±2ε and projects, which is the same.

    Args:
        region: the ball ∩ box of each row.
        delta: the points δ, (B, C, H, W).
        window: 1 inside the window of each row, 0 outside, (B, 1, H, W).
        signs: −1 or 1 for each channel, (B, C).
    """
    colour = spread(region.radius, delta) * signs[:, :, None, None]
    return region.project(torch.lerp(delta, colour, window.to(delta.dtype)))


def repaint(region: Region, delta: Images, window: Window, signs: Signs) -> Images:
    """Return δ with the window painted, with opposite signs where the given ones would change nothing.

    Args:
        region: the ball ∩ box of each row.
        delta: the points δ, (B, C, H, W).
        window: 1 inside the window of each row, 0 outside, (B, 1, H, W).
        signs: −1 or 1 for each channel, (B, C).
    """
    painted = paint(region, delta, window, signs)
    same = lp_norm(painted - delta, torch.inf) == 0
    return painted if settled(~same) else paint(region, delta, window, torch.where(same[:, None], -signs, signs))


def settle(region: Region, delta: Images) -> Images:
    """Return a point of Δ: in ℓ2, δ rescaled to length ε and projected; in ℓ1, the projection of δ."""
    if region.ball.p == 1:
        return region.project(delta)
    length = spread(lp_norm(delta, region.ball.p).clamp_min(TINY), delta)
    return region.project(delta / length * spread(region.radius, delta))


def tiles(region: Region, turned: Turns, signs: Signs) -> Images:
    """Return the start in ℓ2 and ℓ1: a grid of η, each a fifth of the shorter side of the image, projected.

    `turned` is (B, T), one per tile; `signs` is (B, C, T), one per tile and channel; T is `tile_count`.
    """
    _, height, width = region.x.shape[1:]
    eta = patterns.bump(tile_side(height, width), region.ball.p).to(region.x)
    return settle(region, patterns.tile(eta, turned, signs, height, width))


def tile_side(height: int, width: int) -> int:
    """Return the side of the tiles of the start."""
    return max(min(height, width) // 5, 1)


def tile_count(height: int, width: int) -> int:
    """Return how many whole tiles fit into the image."""
    side = tile_side(height, width)
    return (height // side) * (width // side)


def shift(region: Region, delta: Images, first: Window, second: Window, eta: Images) -> Images:
    """Return δ with the mass of the second window, and the unused part of the ball, moved into the first (alg. 3).

    Per channel, with δ₁ the content of the first window: the second window becomes 0, the first becomes a positive
    multiple of η + δ₁/‖δ₁‖, scaled to the norm ((ε^p − ‖δ‖^p)₊/C + ‖δ₁∪₂‖^p)^{1/p}. In ℓ1 that norm is multiplied by
    C before the projection, as in the authors' code.

    Args:
        region: the ball ∩ box of each row.
        delta: the points δ, (B, C, H, W).
        first: the window that receives mass, (B, 1, H, W).
        second: the window that gives it.
        eta: η at the first window's place with its signs, (B, C, H, W).
    """
    p, channels = region.ball.p, delta.shape[1]
    first, second = first.to(delta.dtype), second.to(delta.dtype)
    old, both = delta * first, torch.maximum(first, second)
    fresh = eta + old * _inverse(_norm(old, p), ROUNDING * spread(region.radius, delta))
    spare = (region.radius**p - lp_norm(delta, p) ** p).clamp_min(0) / channels
    size = (spread(spare, delta) + _norm(delta * both, p) ** p) ** (1 / p)
    if p == 1:
        size = size * channels
    moved = delta * (1 - both) + fresh * size * _inverse(_norm(fresh, p), ROUNDING)
    return settle(region, moved)


def _norm(delta: Images, p: float) -> PerChannel:
    """Return the norm of each channel, (B, C, 1, 1)."""
    return lp_norm(delta.flatten(0, 1), p).to(delta.dtype).reshape(*delta.shape[:2], 1, 1)


def _inverse(norm: PerChannel, least: float | Images) -> PerChannel:
    """Return 1/norm, or 0 where the norm is not above the least that counts."""
    return torch.where(norm > least, 1 / norm, 0)
