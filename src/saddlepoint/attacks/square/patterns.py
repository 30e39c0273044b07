"""η, the pattern of Square's windows in ℓ2 and ℓ1: two hills of opposite sign.

A hill of height h and width w is constant on square rings around its centre (⌊h/2⌋, ⌊w/2⌋). Its value on ring d is

    Σ_{j=d+1}^{n+1} 1/j^q,    n = max(⌊h/2⌋, ⌊w/2⌋),

with q = 2 in ℓ2 (Andriushchenko et al. 2020, §3.3) and q = 4 in ℓ1 (Croce & Hein 2021), scaled to norm 1. η of side s
is a hill of ⌊s/2⌋ rows above a negated hill of ⌈s/2⌉ rows, scaled to norm 1.
"""

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from saddlepoint.attacks.square.schedule import Corners, Numbers, Signs, Turns
from saddlepoint.typing import Mask

Bump = Float[Tensor, "down across"]
Bumps = Float[Tensor, "levels size size"]
Placed = Float[Tensor, "batch 1 height width"]


def hill(height: int, width: int, norm: float) -> Bump:
    """Return one hill of norm 1, in float64; an empty one if a side is 0."""
    down, right = ((torch.arange(size) - size // 2).abs() for size in (height, width))
    ring = torch.maximum(down[:, None], right)
    terms = torch.arange(1, max(height // 2, width // 2) + 2, dtype=torch.float64) ** (-4 / norm)
    return _unit(terms.flip(0).cumsum(0).flip(0)[ring], norm)


def bump(side: int, norm: float) -> Bump:
    """Return η of a side, (side, side), in float64."""
    return _unit(torch.cat([hill(side // 2, side, norm), -hill(side - side // 2, side, norm)]), norm)


@lru_cache(maxsize=64)
def bumps(sides: tuple[int, ...], norm: float, device: torch.device, dtype: torch.dtype) -> Bumps:
    """Return a table of η for each side, padded with zeros: η(i, j) is at [level, i + 1, j + 1].

    Args:
        sides: the side of the window at each level.
        norm: the p of the norm in which η has length 1.
        device: where the table goes.
        dtype: its type.
    """
    size = max(sides) + 2
    framed = [functional.pad(bump(side, norm), (1, size - 1 - side) * 2) for side in sides]
    return torch.stack(framed).to(device, dtype)


def place(table: Bumps, level: Numbers, corner: Corners, turned: Mask, height: int, width: int) -> Placed:
    """Return images with η of each row's level at its corner, transposed if `turned`, and 0 elsewhere.

    Args:
        table: η for each level, as `bumps` returns it.
        level: the level of each row, (B,).
        corner: top and left of each row's window, (B, 2).
        turned: whether η is transposed, (B,).
        height: pixels from top to bottom.
        width: pixels from left to right.
    """
    size = table.shape[1]
    down, right = _local(corner[:, 0], height, size)[:, :, None], _local(corner[:, 1], width, size)[:, None, :]
    turn = turned[:, None, None]
    entry = level[:, None, None] * size**2 + down * torch.where(turn, 1, size) + right * torch.where(turn, size, 1)
    return torch.take(table, entry)[:, None]


def tile(
    eta: Bump, turned: Turns, signs: Signs, height: int, width: int
) -> Float[Tensor, "batch channels height width"]:
    """Return images that are tiled by η, as often as it fits and centred, with a turn (B, R·K) for each tile in R rows
    and K columns and a sign (B, C, R·K) for each tile and channel.

    Args:
        eta: η of one tile, (s, s).
        turned: whether each tile is transposed, (B, R·K).
        signs: the sign of each tile in each channel, (B, C, R·K).
        height: pixels from top to bottom.
        width: pixels from left to right.
    """  # noqa: D205
    side = len(eta)
    down, across = height // side, width // side

    def spread(values: Tensor) -> Tensor:
        cells = values.reshape(*values.shape[:-1], down, across)
        return cells.repeat_interleave(side, -1).repeat_interleave(side, -2)

    tiles = torch.where(spread(turned), eta.T.repeat(down, across), eta.repeat(down, across))[:, None] * spread(signs)
    top, left = (height - down * side) // 2, (width - across * side) // 2
    frame = (left, width - across * side - left, top, height - down * side - top)
    return functional.pad(tiles, frame)


def _local(start: Numbers, size: int, frame: int) -> Int[Tensor, "batch size"]:
    """Return each image coordinate's index in the padded table; outside the window that is a padded place."""
    place = torch.arange(size, device=start.device) - start[:, None] + 1
    return place.clamp(0, frame - 1)


def _unit(shape: Bump, norm: float) -> Bump:
    length: Tensor = torch.linalg.vector_norm(shape, norm)
    return shape / length
