"""The nearest point of a hyperplane inside a box, in ℓ∞, ℓ2 and ℓ1: argmin ‖z − d‖_p over ⟨w, z⟩ = b, low ≤ z ≤ high.

Coordinate i can only help by moving along ±w_i, at most by its room r_i. With a = |w| and the gap c = |b − ⟨w, d⟩| the
sizes m of the moves solve

    min ‖m‖_p   subject to   ⟨a, m⟩ = c,   0 ≤ m ≤ r,

which comes down to one scalar equation (Croce & Hein 2020 solve it by sorting). Where the box ends before
the hyperplane, ⟨a, r⟩ < c, the moves go as far as they can: m_i = r_i wherever a_i > 0.
"""

from collections.abc import Callable

import torch

from saddlepoint.geometry.levels import Fill, level
from saddlepoint.geometry.maximisers import fill, inner
from saddlepoint.geometry.norms import lp_norm, row_sum, spread, wide, working
from saddlepoint.typing import Images, PerExample

Moves = Callable[[Images, Images, PerExample], Images]
"""(a, r, c) to m, as above, with max a_i = 1 or a = 0; r is 0 where a is, and finite."""


def onto_hyperplane(moves: Moves, d: Images, w: Images, b: PerExample, low: Images, high: Images) -> Images:
    """Return argmin ‖z − d‖ over {z : ⟨w, z⟩ = b} ∩ box, up to rounding; d itself where w = 0.

    Args:
        moves: of the norm.
        d: points in the box, (B, *shape).
        w: normals, (B, *shape).
        b: offsets, (B,).
        low: lower bounds of z, −∞ for none.
        high: upper bounds.
    """
    d = working(d)
    return torch.clamp(d + toward(moves, w, b - inner(w, d), low - d, high - d), low, high)


def toward(moves: Moves, w: Images, gap: PerExample, low: Images, high: Images) -> Images:
    """Return argmin ‖v‖ over {v : ⟨w, v⟩ = gap, low ≤ v ≤ high}, up to rounding, for low ≤ 0 ≤ high.

    Args:
        moves: the ball's solution for w ≥ 0 and gap ≥ 0.
        w: the normals of the hyperplanes, (B, C, H, W).
        gap: what ⟨w, v⟩ is to be, (B,).
        low: the least v, at most 0, (B, C, H, W).
        high: the largest, at least 0.
    """
    length = lp_norm(w, torch.inf)
    length = torch.where(length > 0, length, 1)
    slope, sign = working(w).abs() / spread(length, working(w)), working(w).sign() * spread(gap.sign(), working(w))
    room = torch.maximum(sign * low, sign * high).nan_to_num_(nan=0).clamp_(min=0)  # 0 · ∞ is no room
    return moves(slope, room, gap.abs() / length) * sign


def moves_linf(slope: Images, room: Images, gap: PerExample) -> Images:
    """Return m_i = min(t, r_i), with the t for which ⟨a, m⟩ = c."""

    def gain(t: PerExample) -> tuple[PerExample, PerExample]:
        size = torch.minimum(spread(t, room), room)
        return _total(slope * size), _total(slope * size.lt_(room))

    return torch.minimum(spread(_level(gain, gap, room), room), room)


def moves_l2(slope: Images, room: Images, gap: PerExample) -> Images:
    """Return m_i = min(t·a_i, r_i), with the t for which ⟨a, m⟩ = c."""

    def sizes(t: PerExample) -> Images:
        return torch.minimum(spread(t, slope) * slope, room)

    def gain(t: PerExample) -> tuple[PerExample, PerExample]:
        size = sizes(t)
        return _total(slope * size), _total(slope.square() * size.lt_(room))

    return sizes(_level(gain, gap, (room / slope).nan_to_num(nan=0.0)))


def moves_l1(slope: Images, room: Images, gap: PerExample) -> Images:
    """Return the moves that use up the room of the coordinates by decreasing a_i, until ⟨a, m⟩ = c."""
    worth = torch.minimum(wide(slope) * wide(room), spread(gap, wide(room)))
    size = fill(slope, worth, gap) / torch.where(slope > 0, slope, 1)
    return torch.minimum(size.to(room.dtype), room)


def _level(gain: Fill, gap: PerExample, reach: Images) -> PerExample:
    """Solve gain(t) = c for t between 0 and the largest reach, from which on nothing moves."""
    none, most = torch.zeros_like(gap), lp_norm(reach, torch.inf)
    return level(gain, gap, start=none, low=none, high=most, precision=torch.finfo(reach.dtype).eps)


def _total(v: Images) -> PerExample:
    """Sum each row in its own type: summed in the widest, every round would take three times as long."""
    return wide(row_sum(v))
