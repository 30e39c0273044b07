"""What the values of a network lie in, in real arithmetic and in every float32 execution: intervals and linear bounds.

Let x̂_i be what an execution computes at operation i, for any input of a set. If it is affine, in any order of its
sums, fused or not, flushing what is tiny to 0 or not (Higham 2002, section 3.1; Jeannerod & Rump 2013),

    x̂_i = L x̂ + b + e,     |e| ≤ γ_n (|L| |x̂| + |b|) + 2 n (1 + max |w| + max |x̂|) 2⁻¹²⁶,     γ_n = n u / (1 − n u)

with u = 2⁻²⁴. u = 0 is real arithmetic. Moving numbers and ReLUs may flush what is tiny, and round nothing. What
follows is computed in float64, whose own rounding, at v = 2⁻⁵³, is allowed for in the same way, and rounded up.

*Intervals.* [L c + b − |L| r − |e|, L c + b + |L| r + |e|], for c ± r that holds the parents.

*Linear bounds.* ⟨A, x̂_i⟩ is taken from the last operation to the input. What rounding makes of Lᵀ A is a functional,
too: it is wrong by ⟨ΔA, x̂⟩ alone, |ΔA| ≤ γ |L|ᵀ |A|, at most ⟨|A|, γ |L| |x̂|⟩. So each operation costs ⟨|A|, rate⟩ with
one rate for all functionals: |e|, and that. At a ReLU, l ≤ z ≤ u, for any 0 ≤ α, s ≤ 1 (by convexity the ends decide):

    α z ≤ relu(z) ≤ s z + t,     t = max(−s l, (1 − s) u)

the lower line where A > 0, the upper where A < 0; where a sign is known, both are the function itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from saddlepoint_audit.files import Array, Refused
from saddlepoint_audit.operations import MOST, Network, Operation, Values

REAL, FLOAT32 = 0.0, 2.0**-24
"""u, the unit roundoff of the executions that a bound holds for."""
UNIT = 2.0**-53
FLUSHED = 2.0**-126
"""The least normal float32: what is smaller may be flushed to 0."""
TINY = 1e-100
"""More than float64 loses to underflow in any sum here."""
UP = 1 + 2.0**-10
"""Makes more of an allowance than what its own rounding may have taken."""


def gamma(terms: int, unit: float) -> float:
    """Return γ_n = n u / (1 − n u)."""
    if terms * unit > 0.5:
        raise Refused(f"a sum has {terms} terms, too many for a bound on its rounding")
    return terms * unit / (1 - terms * unit)


@dataclass(frozen=True, eq=False)
class Region:
    """{x : lower ≤ x ≤ upper}, and where `norm` is l2 or l1, ‖x − centre‖ ≤ eps besides; bounds are rounded outward."""

    lower: Values
    upper: Values
    centre: Values
    eps: float
    norm: str

    @classmethod
    def around(cls, x: Array, eps: float, norm: str, box: tuple[float, float] | None) -> "Region":
        """Return ball ∩ box around x."""
        centre = x.astype(float).ravel()
        if norm not in ("linf", "l2", "l1") or not (0 <= eps < MOST) or not (np.abs(centre) < MOST).all():
            raise Refused(f"{norm!r:.20} eps {eps!r:.20} around such an x is no set that this audit knows")
        low, high = (centre - eps, centre + eps) if eps else (centre, centre)
        if eps:
            # x − ε and x + ε are rounded once each.
            low, high = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
        if box is not None:
            if not ((box[0] <= centre) & (centre <= box[1])).all():
                raise Refused(f"a pixel lies outside of the box {box}")
            low, high = np.maximum(low, box[0]), np.minimum(high, box[1])
        return cls(low, high, centre, eps, norm)

    def least(self, a: Values, loose: float) -> Values:
        """Return at most min ⟨A, x⟩ over the set, (S,); `loose` is γ of the sums."""
        size = np.abs(a)
        positive, negative = np.maximum(a, 0), np.minimum(a, 0)
        reach = np.maximum(np.abs(self.lower), np.abs(self.upper))
        best: Values = positive @ self.lower + negative @ self.upper - 3 * loose * UP * (size @ reach)
        if self.norm == "linf":
            return best
        dual = np.sqrt((a * a).sum(1)) if self.norm == "l2" else size.max(1, initial=0.0)
        fall = self.eps * dual
        lost = 3 * loose * UP * (size @ np.abs(self.centre) + fall)
        middle: Values = a @ self.centre - fall - lost
        return np.maximum(best, middle)


@dataclass(frozen=True, eq=False)
class Lines:
    """α z ≤ relu(z) ≤ s z + t, coordinate by coordinate, for each functional or for all; constants where s is None.

    On a part of the set where z σ ≥ 0, σ = ±1, β σ z may be taken off for β ≥ 0: `pushed` is β σ (Wang et al. 2021).
    """

    alpha: Values
    slope: Values | None
    above: Values
    pushed: Values | None = None

    @property
    def size(self) -> int:
        """How many coordinates there are."""
        return int(self.above.shape[-1])

    @classmethod
    def over(cls, lower: Values, upper: Values) -> "Lines":
        """Return the chord, and the lower line of the smaller area, over [l, u] (Zhang et al. 2018)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            chord = np.clip(upper / (upper - lower), 0, 1)
        slope = np.where(lower >= 0, 1.0, np.where(upper <= 0, 0.0, chord))
        open_ = (lower < 0) & (upper > 0)
        # Any slope in [0, 1] will do: t makes up for how the chord was rounded, and is itself rounded up.
        ends = np.maximum(-slope * lower, (1 - slope) * upper) * (1 + 8 * UNIT) + TINY
        return cls(np.where(open_, upper > -lower, slope).astype(float), slope, np.where(open_, ends, 0.0))

    @classmethod
    def constant(cls, lower: Values, upper: Values) -> "Lines":
        """Return the range of the ReLU."""
        return cls(np.maximum(lower, 0), None, np.maximum(upper, 0))

    def backward(self, a: Values) -> tuple[Values | None, Values]:
        """Return A' and c with ⟨A, relu(z)⟩ ≥ ⟨A', z⟩ + c."""
        positive, negative = np.maximum(a, 0), np.minimum(a, 0)
        if self.slope is None:
            return None, positive @ self.alpha + negative @ self.above
        gain = negative @ self.above if self.above.ndim == 1 else (negative * self.above).sum(1)
        back = positive * self.alpha + negative * self.slope
        return back if self.pushed is None else back - self.pushed, gain


class Enclosure:
    """Bounds of every operation's values over a set, found in the order of computation.

    Args:
        network: the operations.
        region: the set.
        unit: u of the executions that the bounds hold for.
    """

    def __init__(self, network: Network, region: Region, unit: float) -> None:
        self.network, self.region, self.unit = network, region, unit
        self.loose = gamma(network.terms, UNIT)
        self.lower, self.upper = [region.lower], [region.upper]
        self.rates = [np.zeros(0)]
        self._folded = [self._size(0)]

    def _size(self, i: int) -> Values:
        size = np.maximum(np.abs(self.lower[i]), np.abs(self.upper[i]))
        if not (size < MOST).all():
            raise Refused(f"the bounds of operation {i} are no numbers, or too large")
        return size

    def step(self) -> None:
        """Add the next operation: its interval, its rate, and what neighbours that take it in would add up."""
        operations, i = self.network.operations, len(self.lower)
        operation = operations[i]
        sizes = [self._size(parent) for parent in operation.parents]
        if operation.linear is None:
            (parent,) = operation.parents
            low, high = np.maximum(self.lower[parent], 0), np.maximum(self.upper[parent], 0)
            flushed = self._flushed
            self._add(low - flushed, high + flushed, 3 * self.loose * UP * sizes[0] + 2 * flushed + TINY)
            return
        parts = 0.0 if operation.parts is None else operation.parts
        shift = 0.0 if operation.offset is None else operation.offset
        # An offset may be a sum that cancels, as a batch norm's is: what it rounds is measured by its terms.
        parts = np.maximum(parts, np.abs(shift))
        added = operation.linear([size[None] for size in sizes], True)[0] + parts
        executed, folded = self._executed(operation, sizes, parts)
        rounded = UP * (executed + 3 * self.loose * added) + TINY
        centres, radii = zip(*(_ball(self.lower[p], self.upper[p]) for p in operation.parents), strict=True)
        middle = operation.linear([centre[None] for centre in centres], False)[0] + shift
        radius = operation.linear([radius[None] for radius in radii], True)[0] + rounded
        low, high = middle - radius, middle + radius
        if operation.kind == "max":  # max(a, b), which rounds nothing: the bounds of a + relu(b − a) are wider
            a, _, b = operation.parents
            low = np.maximum(low, np.maximum(self.lower[a], self.lower[b]) - 4 * self._flushed)
            high = np.minimum(high, np.maximum(self.upper[a], self.upper[b]) + 4 * self._flushed)
        self._add(low, high, rounded)
        self._folded[i] = np.maximum(folded, self._size(i))

    def _add(self, low: Values, high: Values, rate: Values) -> None:
        self.lower.append(low)
        self.upper.append(high)
        self.rates.append(rate)
        self._folded.append(self._size(len(self.lower) - 1))

    def _executed(self, operation: Operation, sizes: Sequence[Values], parts: Values | float) -> tuple[Values, Values]:
        """Return |e| of an execution, and the sizes of the terms where a runtime folds factors into a neighbour.

        Factors of channels may be taken into the operation before them, whose terms are then scaled one by one, or into
        the one behind: what is added up is as large as the terms are, not as their sum is.
        """
        assert operation.linear is not None  # noqa: S101 - of affine operations
        before = [
            self._folded[parent] if operation.fused or self.network.operations[parent].fused else size
            for parent, size in zip(operation.parents, sizes, strict=True)
        ]
        terms = operation.linear([size[None] for size in before], True)[0] + parts
        if operation.exact and operation.offset is None:
            return np.full(operation.size, 2 * self._flushed), terms
        products = operation.products + 8
        most = 1 + operation.largest + max(float(size.max(initial=0.0)) for size in before)
        return gamma(products, self.unit) * terms + 2 * products * most * self._flushed, terms

    @property
    def _flushed(self) -> float:
        """What an execution may flush to 0: nothing in real arithmetic."""
        return FLUSHED if self.unit else 0.0

    def meet(self, i: int, lower: Values, upper: Values) -> None:
        """Take other bounds of operation i where they are tighter."""
        self.lower[i], self.upper[i] = np.maximum(self.lower[i], lower), np.minimum(self.upper[i], upper)

    def lines(self, constant: bool = False) -> dict[int, Lines]:
        """Return the lines of every ReLU whose input's bounds are known."""
        made = Lines.constant if constant else Lines.over
        inputs = {i: self.network.operations[i].parents[0] for i in self.network.relus}
        return {i: made(self.lower[j], self.upper[j]) for i, j in inputs.items() if j < len(self.lower)}

    def least(self, start: int, a: Values, lines: Mapping[int, Lines]) -> Values:
        """Return lower bounds of ⟨A, x̂_start⟩, (S,), for A of (S, size), with these lines of ReLUs."""
        slope, constant = self.form(start, a, lines)
        return constant + self.region.least(slope, self.loose)

    def form(self, start: int, a: Values, lines: Mapping[int, Lines]) -> tuple[Values, Values]:
        """Return A' and c with ⟨A, x̂_start⟩ ≥ ⟨A', x⟩ + c for all x of the set, (S, inputs) and (S,)."""
        pending, total, lost = {start: a}, np.zeros(len(a)), np.full(len(a), TINY)
        for i in range(start, 0, -1):
            if (a_i := pending.pop(i, None)) is None:
                continue
            operation = self.network.operations[i]
            lost += np.abs(a_i) @ self.rates[i]
            parts: Sequence[Values | None]
            gain: Values | float
            if operation.transpose is None:
                back, gain = lines[i].backward(a_i)
                parts = [back]
                if (pushed := lines[i].pushed) is not None:
                    lost += 3 * self.loose * UP * (np.abs(pushed) @ self._size(operation.parents[0]))
            else:
                gain = 0.0 if operation.offset is None else a_i @ operation.offset
                parts = operation.transpose(a_i)
            total += gain
            for parent, part in zip(operation.parents, parts, strict=True):
                if part is not None:
                    pending[parent] = pending[parent] + part if parent in pending else part
        slope = pending[0] if 0 in pending else np.zeros((len(a), len(self.lower[0])))
        return slope, total - UP * lost


def _ball(lower: Values, upper: Values) -> tuple[Values, Values]:
    """Return c and r with c − r ≤ lower and upper ≤ c + r."""
    centre = (lower + upper) / 2
    radius = np.maximum(upper - centre, centre - lower)
    return centre, np.where(radius > 0, np.nextafter(radius, np.inf), 0.0)
