"""Splitting the input itself, for networks of few inputs: a box is bounded, narrowed and halved until nothing is open.

A point of a box at which a target is 0 or less lies where its lower bound ⟨a, x⟩ + c is, and that half-space narrows
the box. What is left for the open targets together is halved at the middle of one side: of which, the proof says, and
which slopes lines have. Both halves and what was cut off cover the box, whatever it says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from saddlepoint_audit.enclosures import UNIT, Region
from saddlepoint_audit.files import BROKEN, Array, Refused
from saddlepoint_audit.operations import Network, Values
from saddlepoint_audit.proofs import Hints, Slopes, enclosed


class Steps(Protocol):
    """What a proof says of the parts of a box, each before its halves, lower ones first."""

    def slopes(self) -> Slopes:
        """Return the slopes of the next part, of every target; none for default ones."""

    def side(self, slope: Values, width: Values) -> int:
        """Return at which side the part is halved.

        Args:
            slope: of the forms of the open targets, (S, n).
            width: of what is left, (n,).
        """


@dataclass(eq=False)
class Halvings:
    """As a file holds them.

    Attributes:
        sides: of each part, −1 where it is not halved.
        bent: of each part, which of `neurons` its slopes are; −1 for default ones.
        neurons: by the place of a ReLU, slopes in steps, (parts, targets, neurons).
    """

    sides: Array
    bent: Array
    neurons: dict[int, Array] = field(default_factory=dict)
    done: int = 0

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> "Halvings":
        """Return them from arrays."""
        slopes = {int(name.removeprefix("slopes/")): a for name, a in arrays.items() if name.startswith("slopes/")}
        made = cls(arrays["sides"], arrays["bent"], slopes)
        whole = all(a.dtype.kind == "i" and a.shape == (len(made.sides),) for a in (made.sides, made.bent))
        known = min((len(part) for part in slopes.values()), default=0)
        if not whole or len(arrays) != 2 + len(slopes) or (made.bent >= known).any():
            raise ValueError("halvings are no list of sides and slopes")
        return made

    def slopes(self) -> Slopes:
        """Return the slopes of the next part."""
        if self.done == len(self.sides):
            raise Refused("the proof ends early: parts of a box are left")
        place, self.done = int(self.bent[self.done]), self.done + 1
        return {} if place < 0 else {k: part[place] for k, part in self.neurons.items()}

    def side(self, slope: Values, width: Values) -> int:
        """Return at which side the part is halved."""
        return int(self.sides[self.done - 1])


def split(network: Network, region: Region, rows: Values, thresholds: Values, steps: Steps, unit: float) -> float:
    """Return the least proven value of any target, less its threshold, over all parts.

    Args:
        network: the operations.
        region: the box.
        rows: functionals of the output, (T, m).
        thresholds: what each must exceed, (T,).
        steps: what the proof says of each part.
        unit: u of the arithmetic.

    Raises:
        Refused: a part is open, and the proof does not halve it.
    """
    todo, least = [(region.lower, region.upper)], np.inf
    while todo:
        low, high = todo.pop()
        try:
            bounds, slope, constant = _bounded(network, (low, high), rows, thresholds, steps.slopes(), unit)
        except BROKEN as error:
            raise Refused(f"a box cannot be bounded: {type(error).__name__} {error}") from None
        open_ = ~(bounds > 0)
        least = min(least, float(bounds[~open_].min(initial=np.inf)))
        if not open_.any():
            continue
        left = _narrowed(slope[open_], constant[open_], low, high)
        if left is None:
            continue
        low, high = left
        side = steps.side(slope[open_], high - low)
        if not 0 <= side < len(low):
            raise Refused("a part of a box is open, and is halved at no side that there is")
        middle = (low[side] + high[side]) / 2
        below, above = high.copy(), low.copy()
        below[side] = above[side] = middle
        todo += [(above, high), (low, below)]
    return least


def _bounded(
    network: Network, box: tuple[Values, Values], rows: Values, thresholds: Values, slopes: Slopes, unit: float
) -> tuple[Values, Values, Values]:
    """Return the bounds of the targets on a box, less their thresholds, and the forms that they rest on."""
    low, high = box
    enclosure = enclosed(network, Region(low, high, (low + high) / 2, 0.0, "linf"), unit, Hints(bounded=True))
    every = {k: np.arange(network.operations[i].size) for k, i in enumerate(network.relus)}
    lines = Hints(neurons=every).lines(enclosure.lines(), network.relus, slopes, len(rows))
    slope, constant = enclosure.form(len(network.operations) - 1, rows, lines)
    bounds = constant + enclosure.region.least(slope, enclosure.loose) - thresholds
    # The difference rounds once; a form that is no number says nothing.
    constant = constant - thresholds - 4 * UNIT * (np.abs(constant) + np.abs(thresholds))
    sound = np.isfinite(slope).all(1) & np.isfinite(constant)
    slope, constant = np.where(sound[:, None], slope, 0.0), np.where(sound, constant, 0.0)
    return np.nan_to_num(bounds, nan=-np.inf, posinf=-np.inf), slope, constant


def _narrowed(slope: Values, constant: Values, low: Values, high: Values) -> tuple[Values, Values] | None:
    """Return the least box of what forms leave open, rounded outward; None where that is nothing."""
    lows, highs = np.broadcast_to(low, slope.shape), np.broadcast_to(high, slope.shape)
    loose, up, down = 4 * (len(low) + 4) * UNIT, slope > 0, slope < 0
    for _ in range(2):  # the second time finds what the first made possible
        least = np.where(up, slope * lows, slope * highs)
        rest = least.sum(1, keepdims=True) - least + constant[:, None]
        size = np.abs(least).sum(1, keepdims=True) + np.abs(constant)[:, None]
        limit = (loose * size - rest) / np.where(slope == 0, 1.0, slope)
        slack = 8 * UNIT * np.abs(limit)
        highs = np.where(up, np.minimum(highs, limit + slack), highs)
        lows = np.where(down, np.maximum(lows, limit - slack), lows)
    there = (lows <= highs).all(1)
    return (lows[there].min(0), highs[there].max(0)) if there.any() else None
