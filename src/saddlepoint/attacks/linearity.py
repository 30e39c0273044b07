"""Whether gradients tell how the margin changes: where they do not, part of the model hides them, and attacks fail."""

import math
from collections.abc import Callable

import torch

from saddlepoint import losses
from saddlepoint.geometry.maximisers import inner
from saddlepoint.typing import Images, Labels, Logits, PerExample

MOST = 32
"""Examples that are looked at; the first 32 that are classified correctly."""
LEAST = 8
"""Examples with a gradient, below which nothing is said."""
HONEST = (0.6, 1.7)
"""Between these the median lies where nothing is hidden: 0.8 to 1.1 on 15 networks, ordinary and robust."""


def slope_ratios(
    model: Callable[[Images], Logits], x: Images, y: Labels, box: tuple[float, float] | None
) -> PerExample:
    """Return ρ = [m(x + d) − m(x − d)] / 2⟨∇m(x), d⟩, (B,), NaN where the gradient is zero.

    m is the margin and d = h·sign ∇m, with h one grey level, a 255th of the box. Pixels keep a distance of h from its
    bounds. Where m is smooth or piecewise linear, ρ is near 1. Rounded units and hard gates change with d, but not in
    the gradient: ρ is 2 to 5; where gradients are shattered or detached it is near 0.

    Args:
        model: the function to logits.
        x: images, (B, C, H, W).
        y: labels, (B,).
        box: the bounds of the pixels; None where there are none.
    """
    low, high = box or (-math.inf, math.inf)
    h = (high - low) / 255 if box else 1 / 255
    x = x.clamp(low + h, high - h).detach().requires_grad_()
    with torch.enable_grad():
        margins = losses.margin(model(x), y)
        gradients = torch.autograd.grad(margins.sum(), x, allow_unused=True) if margins.requires_grad else (None,)
    if (gradient := gradients[0]) is None:
        return torch.full_like(margins, torch.nan).detach()
    d = h * gradient.sign()
    with torch.no_grad():
        change = losses.margin(model(x + d), y) - losses.margin(model(x - d), y)
    return change / (2 * inner(gradient, d))


def misled(ratios: PerExample) -> float | None:
    """Return the median of the ratios if it says that gradients mislead, None if it does not."""
    known = ratios[torch.isfinite(ratios)]
    if len(known) < LEAST:
        return None
    median = float(known.median())
    return None if HONEST[0] <= median <= HONEST[1] else median
