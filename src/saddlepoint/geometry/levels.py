"""The one scalar equation per example to which projecting on ball ∩ box comes down."""

from collections.abc import Callable

import torch

from saddlepoint.typing import Mask, PerExample

ROUNDS = 96
"""Far more than are ever taken: random data settle in 3 to 8 rounds."""

Fill = Callable[[PerExample], tuple[PerExample, PerExample]]
"""Level to (amount, slope): a continuous, nondecreasing, piecewise linear function of each row's level."""


def settled(done: Mask, turn: int = 0) -> bool:
    """Tell whether every row is known to be done; an accelerator, whose queue the answer stalls, is asked rarely."""
    return (done.device.type == "cpu" or turn % 16 == 15) and bool(done.all())


def level(
    fill: Fill, target: PerExample, start: PerExample, low: PerExample, high: PerExample, precision: float
) -> PerExample:
    """Solve fill(t) = target for t ∈ [low, high]; return `high` where even fill(high) < target.

    It is solved when fill(t) is within 16 · `precision` · target; `precision` is that of the type fill works in.

    Newton's method, exact as soon as it meets the right segment, as in the continuous quadratic knapsack problem of
    Cominetti, Mascarenhas & Silva (2014). On a convex or concave piece each of its rounds divides gap · slope by four
    at least (Radzik 1998); a round that does not is followed by a bisection, so that convergence does not
    rest on convexity. Mask that are done stand still: the others' rounds do not touch them.

    Args:
        fill: returns the amount at level t and its slope there, both (B,); the amount never falls with t.
        target: the amount to reach, (B,).
        start: the level to begin at, (B,).
        low: the least level, (B,).
        high: the largest, (B,).
        precision: the unit roundoff of the type that `fill` computes in.
    """
    tolerance = 16 * precision * target
    full = torch.full_like(target, torch.inf)  # the smallest level known to hold the target
    t, energy = start, full
    done = torch.zeros_like(target, dtype=torch.bool)
    for turn in range(ROUNDS):
        amount, slope = fill(t)
        gap = target - amount
        done = done | (gap.abs() <= tolerance) | ((gap > 0) & (t == high)) | gap.isnan()
        if settled(done, turn):
            break
        low, full = torch.where(gap > 0, t, low), torch.where(gap < 0, t, full)
        newton = torch.minimum(t + gap / slope, high)
        trusted = (newton > low) & (newton < full) & (gap.abs() * slope <= energy / 4)
        energy = gap.abs() * slope
        t = torch.where(done, t, torch.where(trusted, newton, (low + torch.minimum(full, high)) / 2))
    return torch.where(done, t, torch.minimum(full, high))
