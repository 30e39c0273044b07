"""From a perturbation in real numbers to one in 8-bit levels, still inside Δ; and one that can be seen."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from saddlepoint.data.sizes import Crop, Levels, Perturbation
from saddlepoint.geometry import Ball
from saddlepoint.typing import Images

_HALVINGS = 30
"""Of the factor by which δ is shortened: 2⁻³⁰ is far below a level of 8 bits, so that one more changes no pixel."""
# A level that δ reaches up to float32 rounding of x + δ counts as rounded up, so that it can be given back.
_SLACK = 1e-4


def levels(x: Levels, x_adv: Images, ball: Ball) -> Levels:
    """Return the 8-bit image next to x_adv whose perturbation is still inside the ball.

    In levels, n = 255·δ is rounded to the nearest integer. A coordinate that would leave Δ on its own is rounded
    towards zero. If the row as a whole is still outside, roundings away from zero are taken back, the longest
    first, until ‖n/255‖ ≤ ε holds in float64. So every level is the nearest one or the next towards zero.

    Args:
        x: the clean images, 8-bit levels, (B, …).
        x_adv: adversarial points in pixel units inside the ball around x / 255; what lies outside [0, 1] is clipped.
        ball: the ball, in pixel units.
    """
    exact = (x_adv.double() * 255).clamp(0, 255) - x.double()
    sign, size = exact.sign(), exact.abs()
    low = (size - _SLACK).floor().clamp_min(0)
    rest = size - low
    radius = torch.as_tensor(ball.eps, dtype=torch.float64, device=x.device).expand(len(x))
    rest = rest.where((low + 1) / 255 <= _column(radius, x), -1.0)

    def inside(threshold: Tensor) -> Tensor:
        return ball.norm((low + (rest >= _column(threshold, x))) / 255) <= radius

    threshold = _smallest(inside, torch.full((len(x),), 0.5, dtype=torch.float64, device=x.device))
    rounded = low + (rest >= _column(threshold, x))
    return (x.double() + sign * rounded).round().clamp(0, 255).to(torch.uint8)


def magnified(delta: Perturbation) -> tuple[Crop, float]:
    """Return δ around mid-grey, magnified so that its largest pixel reaches black or white, and the factor.

    The factor is a whole number where δ is small, and 1 where there is no perturbation.
    """
    peak = float(delta.abs().max())
    factor = 1.0 if peak == 0 else 0.5 / peak
    factor = float(math.floor(factor)) if factor >= 1 else factor
    return (127.5 + 255 * factor * delta.double()).round().clamp(0, 255).to(torch.uint8), factor


def _smallest(holds: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Return per row the start if the condition holds there, else the least threshold found below 1.5 that does."""
    low, high = start, torch.where(holds(start), start, 1.5)
    for _ in range(0 if torch.equal(low, high) else _HALVINGS):
        middle = (low + high) / 2
        fine = holds(middle)
        low, high = torch.where(fine, low, middle), torch.where(fine, middle, high)
    return high


def _column(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(-1, *[1] * (like.ndim - 1))
