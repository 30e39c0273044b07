"""Linear functions at their largest: over the unit ball (steepest directions) and over ball ∩ box."""

import torch
from jaxtyping import Float
from torch import Tensor

from saddlepoint.geometry.norms import lp_norm, row_sum, rows, spread, wide, working
from saddlepoint.geometry.projections import scale, within
from saddlepoint.typing import Images, PerExample


def unit(g: Images) -> Images:
    """Divide each row by its largest magnitude, in float32 at least; a zero row stays zero. No square can overflow."""
    largest = lp_norm(g, torch.inf)
    return working(g) / spread(torch.where(largest > 0, largest, 1), working(g))


def steepest_linf(g: Images) -> Images:
    """Return sign(g): ⟨g, v⟩ = ‖g‖₁ with ‖v‖_∞ ≤ 1."""
    return g.sign()


def steepest_l2(g: Images) -> Images:
    """Return g/‖g‖₂, and 0 for g = 0: ⟨g, v⟩ = ‖g‖₂ with ‖v‖₂ ≤ 1."""
    direction = unit(g)
    length = lp_norm(direction, 2)
    return (direction / spread(torch.where(length > 0, length, 1), direction)).to(g.dtype)


def steepest_l1(g: Images, sparsity: float | PerExample = 0.0) -> Images:
    """Return sign(g) spread evenly over the k = max(1, round(sparsity · d)) largest |g_i|; zero where g is zero.

    For k = 1 this is the vertex sign(g_i)e_i of the ℓ1 ball: ⟨g, v⟩ = ‖g‖_∞ with ‖v‖₁ ≤ 1. Larger k give the denser
    steps of SLIDE (Tramèr & Boneh 2019). Coordinates that tie with the k-th share the step.

    Args:
        g: (B, *shape).
        sparsity: the share of coordinates that move, in [0, 1]: one number, or one per example.
    """
    size = rows(g.abs())
    threshold = kth_largest(size, sparsity)
    chosen = working((size >= threshold) * rows(g).sign())
    return (chosen / chosen.abs().sum(1, keepdim=True).clamp(min=1)).to(g.dtype).reshape(g.shape)


def kth_largest(v: Float[Tensor, "batch size"], share: float | PerExample) -> Float[Tensor, "batch 1"]:
    """Return the k-th largest number of each row, k = max(1, round(share · size))."""
    size = v.shape[1]
    if not isinstance(share, Tensor):
        return v.topk(max(1, round(share * size))).values[:, -1:]
    k = (wide(share) * size).round().clamp(1, size).long()
    return v.topk(int(k.max()) if len(k) else 1).values.gather(1, k[:, None] - 1)


def maximise_linf(g: Images, radius: PerExample, low: Images, high: Images) -> Images:
    """Return the corner of ball ∩ box that g points to, with 0 where g = 0: argmax ⟨g, δ⟩."""
    low, high = within(radius, low, high)
    return g.sign().clamp(min=0) * high - g.sign().clamp(max=0) * low


def maximise_l2(g: Images, radius: PerExample, low: Images, high: Images) -> Images:
    """Return argmax ⟨g, δ⟩: δ = clip(t·g, low, high) with the t ∈ [0, ∞] for which ‖δ‖₂ = ε, or the corner if none is.

    By duality: with multiplier 1/t of ‖δ‖² ≤ ε² each coordinate maximises g_iδ_i − δ_i²/2t over its interval. At the
    t where the last coordinate meets its wall, the point is that corner.
    """
    low, high = within(radius, low, high)
    direction = unit(g)
    room = maximise_linf(direction, radius, low, high).abs()
    reach = (room / direction.abs()).nan_to_num(nan=0.0).clamp(max=1e150)
    t = scale(direction, radius, low, high, limit=lp_norm(reach, torch.inf))
    return torch.clamp(spread(t, direction) * direction, low, high)


def maximise_l1(g: Images, radius: PerExample, low: Images, high: Images) -> Images:
    """Return argmax ⟨g, δ⟩: fill the room c_i of the coordinates by decreasing |g_i| until ε is spent.

    The fractional knapsack problem, which the greedy order solves (Dantzig 1957).
    """
    corner = rows(maximise_linf(g, radius, low, high))
    order = rows(g).abs().sort(dim=1, descending=True, stable=True).indices
    room = wide(corner).abs().gather(1, order)
    spent = room.cumsum(1) - room
    filled = (radius[:, None] - spent).clamp(min=0).minimum(room)
    size = torch.zeros_like(filled).scatter_(1, order, filled)
    return torch.copysign(size, corner).to(g.dtype).reshape(g.shape)


def inner(a: Images, b: Images) -> PerExample:
    """Return ⟨a, b⟩ of each row, accumulated in the widest type."""
    return row_sum(wide(a) * wide(b))
