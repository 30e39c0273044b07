"""Search for counterexamples: sign-gradient descent on the violation of a clause, in units of the box's widths.

A clause {x : A h(x) ≤ b} is met where its violation Σ_k max(0, ⟨a_k, h(x)⟩ − b_k) is 0; where it is, the largest
⟨a_k, h(x)⟩ − b_k is lowered further, so that the answer does not hang on rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from saddlepoint import random

STEPS = 40
"""Of each descent."""
_SIZES = (0.25, 0.05)
"""Of the first step, as shares of the widths: for smooth networks, and for narrow regions; half of the starts each."""

Model = Callable[[Tensor], Tensor]


@final
@dataclass(frozen=True, eq=False)
class Aim:
    """What is to be met in a box.

    Attributes:
        lower: the box of float32 numbers, (*shape).
        upper: likewise.
        rows: the constraints ⟨a, y⟩ ≤ b of all clauses, (T, m).
        thresholds: b, (T,).
        of: which clause each belongs to, (T,).
    """

    lower: Tensor
    upper: Tensor
    rows: Tensor
    thresholds: Tensor
    of: Tensor

    def excess(self, outputs: Tensor, clause: Tensor) -> tuple[Tensor, Tensor]:
        """Return Σ max(0, ⟨a, y⟩ − b) and max ⟨a, y⟩ − b over the constraints of each row's clause, both (N,)."""
        over = outputs.flatten(1) @ self.rows.T - self.thresholds
        own = self.of == clause[:, None]
        return (over.clamp(min=0) * own).sum(1), over.masked_fill(~own, -torch.inf).amax(1)


def starts(aim: Aim, clauses: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return `count` points for each clause, (N, *shape): centre, random points and corners; and its clause, (N,).

    Args:
        aim: the box.
        clauses: how many there are.
        count: points for each.
        seed: of the draws.
    """
    keys = torch.tensor([random.key(seed, "falsify", clause) for clause in range(clauses)])
    shape = tuple(aim.lower.shape)
    draws = torch.stack([random.uniform(keys, place, shape) for place in range(count)], 1)
    draws[:, 1::2] = (draws[:, 1::2] > 0.5).float()
    draws[:, 0] = 0.5
    points = aim.lower + (aim.upper - aim.lower) * draws
    return points.flatten(0, 1), torch.arange(clauses).repeat_interleave(count)


@torch.enable_grad()
def descend(model: Model, aim: Aim, x: Tensor, clause: Tensor, steps: int = STEPS) -> Tensor:
    """Return the points of least violation that descents from x meet, (N, *shape), the best first.

    Args:
        model: h, differentiable.
        aim: the box and the clauses.
        x: where to begin, (N, *shape).
        clause: which is aimed at from each, (N,).
        steps: of each descent.
    """
    x = x.clamp(aim.lower, aim.upper)
    width = aim.upper - aim.lower
    best, value = x.clone(), torch.full((len(x),), torch.inf)
    sizes = torch.tensor(_SIZES)[torch.arange(len(x)) % 2].reshape(-1, *(1 for _ in x.shape[1:]))
    for step in range(steps + 1):
        x = x.detach().requires_grad_(step < steps)
        violated, largest = aim.excess(model(x), clause)
        better = (now := (violated + largest).detach()) < value
        best[better], value[better] = x.detach()[better], now[better]
        # Without a gradient, as behind a comparison, the points to begin at are all that is tried.
        if step == steps or not largest.requires_grad or bool((value <= 2 * _FAR).any()):
            break
        (gradient,) = torch.autograd.grad((violated + largest).sum(), x)
        # The sign: coordinates of a property may have widths and gradients of any size.
        move = sizes * (1 - step / steps) * width * gradient.sign()
        x = torch.clamp(x.detach() - move, aim.lower, aim.upper)
    return best[value.argsort()]


_FAR = -1e-4
"""A descent ends where a clause is met by more than rounding."""
