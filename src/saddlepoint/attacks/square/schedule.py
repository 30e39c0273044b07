"""Square's windows: their sizes, places and signs, per row.

Proposals are numbered 1, 2, …; the random draws of a proposal depend only on the row's key and this number.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saddlepoint import random
from saddlepoint.typing import Keys, Mask

HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""The proposals after which p halves, of a run of `SCHEDULED` (Andriushchenko et al. 2020, §3.1 and suppl. B)."""
SCHEDULED = 10_000
AHEAD = 32
"""Number of proposals whose random draws are made together."""

Numbers = Int[Tensor, " batch"]
Corners = Int[Tensor, "batch 2"]
"""Top and left of one window per row."""
Window = Float[Tensor, "batch 1 height width"]
"""1 inside, 0 outside: numbers select faster than flags."""
Signs = Float[Tensor, "batch *places"]
"""−1 or +1."""
Draws = Int[Tensor, "batch ahead count"]
"""32-bit draws of `AHEAD` consecutive proposals: two corners, a turn, signs."""
Turns = Bool[Tensor, "batch tiles"]
"""Whether η is transposed, tile by tile."""


@dataclass(frozen=True, slots=True)
class Draw:
    """The random choices of one proposal per row.

    Attributes:
        first: corner of the window that changes.
        second: corner of the window whose mass moves into it, in ℓ2 and ℓ1.
        turned: whether η is transposed, in ℓ2 and ℓ1.
        signs: one per channel, (B, C).
    """

    first: Corners
    second: Corners
    turned: Mask
    signs: Signs


def draws(keys: Keys, proposal: Numbers, channels: int) -> Draws:
    """Return the random draws of `AHEAD` proposals of each row, from this one on."""
    count = 5 + channels  # many proposals are drawn at once because a call's fixed cost dominates
    ahead = proposal[:, None] + torch.arange(AHEAD, device=keys.device)
    drawn = random.bits(keys.repeat_interleave(AHEAD), ahead.flatten(), count)
    return drawn.reshape(len(keys), AHEAD, count)


def draw(draws: Draws, proposal: Numbers, side: Numbers, shape: tuple[int, ...], dtype: torch.dtype) -> Draw:
    """Draw windows of the given sides, uniform over all places in an image of shape (C, H, W), turns and signs.

    Args:
        draws: the random draws of `AHEAD` consecutive proposals of each row.
        proposal: the number of each row's proposal, (B,).
        side: the side of each row's window, (B,).
        shape: (C, H, W) of an image.
        dtype: the type of the signs.
    """
    own = draws[torch.arange(len(draws), device=draws.device), proposal % AHEAD]
    places = torch.stack([size + 1 - side for size in shape[1:] * 2], dim=1)
    corners = (own[:, :4] * places) >> 32
    return Draw(corners[:, :2], corners[:, 2:], odd(own[:, 4]), signs(own[:, 5:], dtype))


def odd(draws: Int[Tensor, "batch *places"]) -> Bool[Tensor, "batch *places"]:
    """Return a fair coin for each random word."""
    return (draws & 1).bool()


def signs(draws: Int[Tensor, "batch *places"], dtype: torch.dtype) -> Signs:
    """Return −1 or +1, each as likely, for each random word."""
    return (2 * (draws & 1) - 1).to(dtype)


def window(corner: Corners, side: Numbers, height: int, width: int) -> Window:
    """Return which pixels lie in each row's window.

    Args:
        corner: top and left of each row's window, (B, 2).
        side: its side, (B,).
        height: pixels from top to bottom.
        width: pixels from left to right.
    """
    down, right = (_within(corner[:, axis], side, size) for axis, size in enumerate((height, width)))
    return down[:, None, :, None] * right[:, None, None, :]


def _within(start: Numbers, side: Numbers, size: int) -> Float[Tensor, "batch size"]:
    place = torch.arange(size, device=start.device) - start[:, None]
    return ((place >= 0) & (place < side[:, None])).float()


def level(proposal: Numbers, queries: int | None = None) -> Numbers:
    """Return how often p has halved at each row's proposal; `queries` stretches the schedule to that length."""
    done = proposal - 1
    if queries is not None:
        done = done * SCHEDULED // queries
    return torch.bucketize(done, _bounds(done.device))


@lru_cache(maxsize=64)
def _bounds(device: torch.device) -> Int[Tensor, " halvings"]:
    return torch.tensor(HALVED_AFTER, device=device)


def sides_of(p_init: float, height: int, width: int, norm: float) -> tuple[int, ...]:
    """Return the side of the window at each level: √(pHW), rounded to even, at most the shorter side of the image.

    In ℓ2 and ℓ1 it is odd, since η has a centre, and at least 3 if the image allows.

    Args:
        p_init: the share of pixels in the first window.
        height: pixels from top to bottom.
        width: pixels from left to right.
        norm: the p of the ball.
    """
    exact = [math.sqrt(p_init / 2**halved * height * width) for halved in range(len(HALVED_AFTER) + 1)]
    rounded = [max(round(side), 1) if norm == math.inf else max(round(side), 3) | 1 for side in exact]
    return tuple(min(side, height, width) for side in rounded)


@lru_cache(maxsize=64)
def sides(p_init: float, height: int, width: int, norm: float, device: torch.device) -> Int[Tensor, " levels"]:
    """Return `sides_of` as a tensor on the device, so that rows look up their side without synchronisation.

    Args:
        p_init: the share of pixels in the first window.
        height: pixels from top to bottom.
        width: pixels from left to right.
        norm: the p of the ball.
        device: where the tensor goes.
    """
    return torch.tensor(sides_of(p_init, height, width, norm), device=device)
