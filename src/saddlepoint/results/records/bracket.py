"""certified ≤ robust ≤ attacked: counts over examples, and intervals for the distribution they were drawn from."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from saddlepoint.results.records.radius import spelled
from saddlepoint.results.records.verdicts import Judgement, Standing

LEVEL = 0.95
"""Confidence of the intervals; each end is exact at (1 − LEVEL)/2."""
UNION = "union"
"""What stands for the norm of several balls at once."""


@dataclass(frozen=True, slots=True)
class Bracket:
    """What is known of robust accuracy under one threat, or under several at once (`union`).

    Of these examples the two fractions are facts. As statements about the distribution that they were drawn from
    at random, they hold with their intervals (Clopper & Pearson 1934).

    Attributes:
        norm: of the ball; "union" of several.
        eps: its radius; NaN of several.
        examples: how many were judged; those with an error are left out.
        counts: of each standing.
        attacks: of each attack, how many it broke.
        proven: whether any certificate ran; else `certified` is 0 for want of trying.
        searched: whether any attack ran; else `attacked` is the clean accuracy.
        passes: of the broken examples, how many were broken within so many passes, and not within the next smaller
            number of 1, 2, 5, 10, ….
    """

    norm: str
    eps: float
    examples: int
    counts: dict[str, int]
    attacks: dict[str, int]
    proven: bool
    searched: bool
    passes: dict[int, int] = field(default_factory=dict)

    @property
    def ball(self) -> str:
        """The ball in words."""
        return "all balls at once" if self.norm == UNION else f"{self.norm} ε {spelled(self.eps)}"

    @property
    def clean(self) -> int:
        """How many clean images are right."""
        return self.examples - self.counts[Standing.MISCLASSIFIED]

    @property
    def certified(self) -> int:
        """How many are proven robust: the lower end."""
        return self.counts[Standing.CERTIFIED]

    @property
    def attacked(self) -> int:
        """How many no attack has broken: the upper end."""
        return self.clean - self.counts[Standing.BROKEN]

    def share(self, count: int) -> float | None:
        """Return a count as a fraction of the examples; None of none."""
        return count / self.examples if self.examples else None

    def interval(self, count: int) -> tuple[float, float]:
        """Return the Clopper–Pearson interval of a count."""
        return clopper_pearson(count, self.examples, 1 - LEVEL)

    @property
    def convergence(self) -> list[tuple[int, int]]:
        """Return how many examples are right under attack after so many passes, to the last that broke one.

        A curve that still falls at its end says that more steps and restarts would break more.
        """
        left, curve = self.clean, list[tuple[int, int]]()
        for passes, count in sorted(self.passes.items()):
            left -= count
            curve.append((passes, left))
        return curve

    def in_short(self) -> str:
        """Return the bracket in a few characters: certified … attacked."""
        low = [percent(self.share(self.certified))] if self.proven else []
        return " … ".join([*low, percent(self.share(self.attacked))])

    def in_words(self, ball: str | None = None) -> str:
        """Return the bracket as a sentence: of these examples, and of the distribution that they come from.

        Args:
            ball: as its user spells it, such as "linf ε 8/255".
        """
        if not self.examples:
            return "No example could be read."
        these = f"Of these {self.examples} images" if self.examples > 1 else "Of this one image"
        low = f"{percent(self.share(self.certified))} (certified)" if self.proven else "0 % (no certificate ran)"
        lower = self.interval(self.certified)[0] if self.proven else 0.0
        where = f"in {self.ball}" if self.norm == UNION else f"at {ball or self.ball}"
        how = "standing under attack" if self.searched else "clean: no attack ran"
        return (
            f"{these}, robust accuracy {where} lies between "
            f"{low} and {percent(self.share(self.attacked))} ({how}); of images drawn like them, "
            f"between {percent(lower)} and {percent(self.interval(self.attacked)[1])} at {LEVEL:.0%} confidence."
        )

    def summary(self) -> dict[str, Any]:
        """Return the bracket as plain data."""
        ends = {"clean": self.clean, "certified": self.certified, "attacked": self.attacked}
        return {
            "norm": self.norm,
            "eps": self.eps,
            "examples": self.examples,
            "counts": {str(kind): count for kind, count in self.counts.items()},
            "attacks": dict(sorted(self.attacks.items())),
            "certificates": self.proven,
            "attacked": self.searched,
            "convergence": [[passes, self.share(left)] for passes, left in self.convergence],
            **{f"{name}_accuracy": self.share(count) for name, count in ends.items()},
            **{f"{name}_interval": list(self.interval(count)) for name, count in ends.items()},
        }


def brackets(examples: Iterable[Judgement]) -> list[Bracket]:
    """Return one bracket per threat, by norm and ε."""
    counts: dict[tuple[str, float], Counter[Standing]] = defaultdict(Counter)
    attacks: dict[tuple[str, float], Counter[str]] = defaultdict(Counter)
    passes: dict[tuple[str, float], Counter[int]] = defaultdict(Counter)
    proven, searched = set[tuple[str, float]](), set[tuple[str, float]]()
    for example in examples:
        threat = (example.norm, example.eps)
        counts[threat][example.standing] += 1
        if example.attack is not None:
            attacks[threat][example.attack] += 1
        if example.passes is not None:
            passes[threat][bucket(example.passes)] += 1
        if example.proof_ran:
            proven.add(threat)
        if example.margin is not None:
            searched.add(threat)
    return [
        Bracket(
            *threat,
            counted.total() - counted[Standing.ERROR],
            {kind: counted[kind] for kind in Standing},
            dict(attacks[threat]),
            threat in proven,
            threat in searched,
            dict(passes[threat]),
        )
        for threat, counted in sorted(counts.items())
    ]


def largest(brackets: Iterable[Bracket]) -> list[Bracket]:
    """Return the bracket of the largest ε in each norm, of brackets that come by norm and ε."""
    return list({bracket.norm: bracket for bracket in brackets}.values())


def union(examples: Iterable[Judgement]) -> Bracket:
    """Return the bracket of an adversary who chooses among all balls (Tramèr & Boneh 2019).

    An example is broken if it is under any threat, and certified if it is under the largest ε of every norm.
    """
    last: dict[str, dict[str, Judgement]] = defaultdict(dict)
    for example in examples:  # by norm and ε
        last[example.id][example.norm] = example
    worst = [min(of.values(), key=lambda judged: _WORST.index(judged.standing)) for of in last.values()]
    (whole,) = brackets(replace(judgement, norm=UNION, eps=math.nan) for judgement in worst) or [_NONE]
    return whole


_WORST = (Standing.MISCLASSIFIED, Standing.BROKEN, Standing.ERROR, Standing.UNDECIDED, Standing.CERTIFIED)
"""Of several standings of an example, the first one holds; a broken example stays broken at every larger ε."""
_NONE = Bracket(UNION, math.nan, 0, dict.fromkeys(Standing, 0), {}, proven=False, searched=False)


def bucket(passes: int) -> int:
    """Return the least of 1, 2, 5, 10, 20, 50, … that is no less."""
    power = 1
    while True:
        for least in (power, 2 * power, 5 * power):
            if passes <= least:
                return least
        power *= 10


def percent(share: float | None) -> str:
    """Return a share as per cent with one decimal; nothing for None."""
    return "" if share is None else f"{100 * share:.1f} %"


def clopper_pearson(count: int, examples: int, alpha: float) -> tuple[float, float]:
    """Return the exact interval of a binomial proportion, α/2 on each side (Clopper & Pearson 1934)."""
    from scipy.stats import beta

    if not examples:
        return 0.0, 1.0
    low = float(beta.ppf(alpha / 2, count, examples - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - alpha / 2, count + 1, examples - count)) if count < examples else 1.0
    return low, high
