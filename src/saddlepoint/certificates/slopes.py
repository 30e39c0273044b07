"""The free slopes of a linear bound, chosen by gradient ascent: α-CROWN (Xu et al. 2021).

Every 0 ≤ α ≤ 1 gives a line below a ReLU, so every choice is sound, and the best one is found by ascent on the bound
itself. Slopes are brought back to where they are allowed after each step, never in the forward: torch's `clamp` has no
gradient at its bounds, where slopes begin.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from saddlepoint.certificates.crown import Ranges
from saddlepoint.certificates.graph import Graph

Slopes = Mapping[int, Tensor]
"""α of B bounds by the activation's position, (B, *shape)."""
Bounded = Callable[[Slopes], Tensor]
"""Lower bounds, (B,), differentiable in the slopes."""

_RATE, _DECAY = 0.3, 0.95
"""Of Adam: larger and sooner smaller steps than in Xu et al. 2021 get as far in two thirds of them."""


def start(graph: Graph, preactivations: Ranges, count: int) -> Slopes:
    """Return the slopes of the smallest relaxations for `count` bounds, from the ranges of each activation's input."""
    slopes = {}
    for i, (lower, upper) in preactivations.items():
        begin = graph.activation(i).start(lower, upper)
        slopes[i] = begin.expand(count, *begin.shape[1:]).clone()
    return slopes


def ascend(graph: Graph, bounded: Bounded, begin: Slopes, steps: int, stop: Callable[[Tensor], bool]) -> Slopes:
    """Maximise B bounds by projected Adam; return the best slopes of each that were met.

    Args:
        graph: whose activations say which slopes are allowed.
        bounded: the bounds.
        begin: where to begin.
        steps: gradients to take.
        stop: told the best bounds, whether they suffice.
    """
    if not begin:
        return begin
    free = {i: slope.detach().clone().requires_grad_() for i, slope in begin.items()}
    adam = torch.optim.Adam(free.values(), lr=_RATE, maximize=True)
    # The last iterate is often not the best: the rate is large. Any slopes prove, so the best that were met are kept.
    best, kept = torch.tensor(-torch.inf), begin
    for step in range(steps + 1):
        with torch.set_grad_enabled(step < steps):
            value = bounded(free)
        better = value.detach() > best
        best, kept = torch.where(better, value.detach(), best), _merged(better, free, kept)
        if step == steps or stop(best):
            break
        adam.zero_grad()
        value.sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
        adam.param_groups[0]["lr"] *= _DECAY
        with torch.no_grad():
            for i, slope in free.items():
                slope.copy_(graph.activation(i).clip(slope))
    return kept


def _merged(better: Tensor, new: Slopes, old: Slopes) -> Slopes:
    """Return, bound by bound, the new slopes where they are better."""
    return {
        i: torch.where(better.reshape(-1, *(1 for _ in slope.shape[1:])), slope.detach(), old[i])
        for i, slope in new.items()
    }
