"""Linear functions at their largest: over the unit ball (steepest directions) and over ball ∩ box."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saddlepoint.geometry.norms import lp_norm, row_sum, rows, spread, unit, wide, working
from saddlepoint.geometry.projections import scale, within
from saddlepoint.typing import Images, PerExample


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
    k = counted(share, v)
    return v.topk(int(k.max()) if len(k) else 1).values.gather(1, k[:, None].to(v.device) - 1)


def counted(share: float | PerExample, v: Float[Tensor, "batch size"]) -> Int[Tensor, " batch"]:
    """Return k = max(1, round(share · size)) of each row; on the CPU for a number, so that no queue has to be asked."""
    size = v.shape[1]
    if isinstance(share, Tensor):
        return (wide(share) * size).round().clamp(1, size).long()
    return torch.full((len(v),), max(1, round(share * size)))


def ascend_l1(g: Images, length: PerExample, low: Images, high: Images, sparsity: float | PerExample = 0.0) -> Images:
    """Return argmax ⟨g, v⟩ over ‖v‖₁ ≤ length and low ≤ v ≤ high with |v_i| ≤ length/k: the steepest step in a box.

    A vertex step would be stuck on a pixel that the box has all but filled; here what finds no room goes to the next
    coordinate. With k = max(1, round(sparsity · d)) it spreads as SLIDE does (Tramèr & Boneh 2019). Only the largest
    8k + 64 coordinates that have room are looked at: if their room is less than `length`, the step is shorter.

    Args:
        g: the gradient, (B, C, H, W).
        length: ‖v‖₁ of the step, (B,).
        low: the least v, (B, C, H, W).
        high: the largest.
        sparsity: the share of coordinates that the step is spread over, one or one per row.
    """
    k = counted(sparsity, rows(g))
    share = length / k.to(length.device)
    corner = maximise_linf(g, share, low.clamp(max=0), high.clamp(min=0))
    room = rows(corner).abs()
    value = rows(g).abs() * (room > 0)
    best = value.topk(min(8 * int(k.max()) + 64 if len(k) else 1, value.shape[1])).indices
    portion = wide(room.gather(1, best))
    filled = (length[:, None] - (portion.cumsum(1) - portion)).clamp(min=0).minimum(portion)
    size = torch.zeros_like(room).scatter_(1, best, filled.to(room.dtype))
    return torch.copysign(size.reshape(g.shape), corner)


def maximise_linf(g: Images, radius: PerExample, low: Images, high: Images) -> Images:
    """Return the corner of ball ∩ box that g points to, with 0 where g = 0: argmax ⟨g, δ⟩.

    Args:
        g: the functional, (B, C, H, W).
        radius: ε of each row, (B,).
        low: the least δ, (B, C, H, W).
        high: the largest.
    """
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
    corner = maximise_linf(g, radius, low, high)
    return torch.copysign(fill(g.abs(), corner.abs(), radius), corner).to(g.dtype)


def fill(value: Images, room: Images, budget: PerExample) -> Images:
    """Spend a budget on the rooms of the coordinates, by decreasing value, until it is used up; in the widest type."""
    order = rows(value).sort(dim=1, descending=True, stable=True).indices
    ordered = wide(rows(room)).gather(1, order)
    spent = ordered.cumsum(1) - ordered
    filled = (budget[:, None] - spent).clamp(min=0).minimum(ordered)
    return torch.zeros_like(filled).scatter_(1, order, filled).reshape(room.shape)


def inner(a: Images, b: Images) -> PerExample:
    """Return ⟨a, b⟩ of each row, accumulated in the widest type."""
    return row_sum(wide(a) * wide(b))
