"""How far the nearest adversarial point lies that was found: accuracy under attack at every ε, from one run.

The point found is at the true distance or beyond, so that the share of the examples whose distance exceeds ε bounds
robust accuracy at ε from above, for each ε; every example that falls has its point.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from saddlepoint.results.records.bracket import LEVEL, clopper_pearson
from saddlepoint.results.records.record import Attacked, Record

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, slots=True)
class Distances:
    """Of the examples of a run in one norm.

    Attributes:
        norm: of the ball.
        within: the largest radius that was searched.
        nearest: of each example, in increasing order: 0 where its own image is misclassified, ∞ where no adversarial
            point was found within that radius.
    """

    norm: str
    within: float
    nearest: tuple[float, ...]

    @property
    def examples(self) -> int:
        """How many there are."""
        return len(self.nearest)

    @property
    def censored(self) -> int:
        """Of how many nothing was found."""
        return sum(map(math.isinf, self.nearest))

    def standing(self, eps: float) -> int:
        """Return how many have no adversarial point within ε ≤ `within` that was found."""
        return self.examples - bisect_right(self.nearest, eps)

    def interval(self, eps: float) -> tuple[float, float]:
        """Return the exact interval of that share, for an ε that was named beforehand (Clopper & Pearson 1934)."""
        return clopper_pearson(self.standing(eps), self.examples, 1 - LEVEL)

    def quantile(self, share: float) -> float:
        """Return the least radius within which this share has an adversarial point; ∞ if no such radius was found."""
        return self.nearest[max(0, math.ceil(share * self.examples) - 1)]

    @property
    def half_width(self) -> float:
        """By how much the whole curve may differ from that of the distribution, at all ε at once.

        √(ln(2/α)/2n) (Dvoretzky, Kiefer & Wolfowitz 1956, with the constant of Massart 1990).
        """
        return math.sqrt(math.log(2 / (1 - LEVEL)) / (2 * self.examples))

    def summary(self) -> dict[str, Any]:
        """Return the distances as plain data; None stands for ∞."""
        quantiles = {f"{share:g}": self.quantile(share) for share in QUANTILES}
        return {
            "norm": self.norm,
            "within": self.within,
            "examples": self.examples,
            "censored": self.censored,
            "half_width": self.half_width,
            "quantiles": {share: None if math.isinf(value) else value for share, value in quantiles.items()},
            "nearest": [None if math.isinf(value) else value for value in self.nearest],
        }

    def in_words(self) -> str:
        """Return the distances as one sentence."""
        near = {share: self.quantile(share) for share in (0.25, 0.5, 0.75)}
        names = {0.25: "a quarter", 0.5: "half", 0.75: "three quarters"}
        told = [
            f"{names[share]} within {value:.3g}" if value else f"{names[share]} at 0, misclassified"
            for share, value in near.items()
            if not math.isinf(value)
        ]
        some = ", ".join(told) or f"less than a quarter within {self.within:g}"
        rest = f"; none was found within {self.within:g} for {self.censored}" if self.censored else ""
        return (
            f"Nearest adversarial points in {self.norm}, of {self.examples} images: {some}{rest}. So of images drawn "
            f"like them, at every ε at once, ± {100 * self.half_width:.1f} points at {LEVEL:.0%} confidence."
        )


def distances(records: Iterable[Record]) -> list[Distances]:
    """Return the distances in each norm that was attacked: of several records of an example the nearest point."""
    nearest: dict[str, dict[str, float]] = defaultdict(dict)
    within = defaultdict[str, float](float)
    for record in records:
        if isinstance(record, Attacked) and record.target is None:
            distance = (record.distance if record.success else math.inf) if record.clean_correct else 0.0
            nearest[record.norm][record.id] = min(distance, nearest[record.norm].get(record.id, math.inf))
            within[record.norm] = max(within[record.norm], record.eps)
    return [Distances(norm, within[norm], tuple(sorted(own.values()))) for norm, own in nearest.items()]
