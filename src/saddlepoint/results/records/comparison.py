"""Two runs on the same examples, paired: which examples flip, and whether that is more than chance."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from saddlepoint.errors import RunError
from saddlepoint.results.folder.reader import RunFolder
from saddlepoint.results.records.bracket import LEVEL, percent
from saddlepoint.results.records.radius import spelled
from saddlepoint.results.records.verdicts import Judgement, Standing, judgements

ENDS: dict[str, Callable[[Standing], bool]] = {
    "clean": lambda standing: standing is not Standing.MISCLASSIFIED,
    "certified": lambda standing: standing is Standing.CERTIFIED,
    "attacked": lambda standing: standing in (Standing.CERTIFIED, Standing.UNDECIDED),
}
"""What counts as right, by the accuracy that it is counted for."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One accuracy of two runs on the same examples.

    Attributes:
        kind: clean, certified or attacked.
        first: right in the first run.
        second: right in the second.
        lost: right in the first alone.
        won: right in the second alone.
        examples: in both runs.
        p: of McNemar's exact test, two-sided: how likely so uneven flips are, if neither run is better.
    """

    kind: str
    first: int
    second: int
    lost: int
    won: int
    examples: int
    p: float

    @property
    def change(self) -> float:
        """Second less first, as a share."""
        return (self.won - self.lost) / self.examples if self.examples else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Return the score interval of the change (Tango 1998), for the distribution that the examples come from."""
        return tango(self.won, self.lost, self.examples, 1 - LEVEL)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs under one threat.

    Attributes:
        norm: of the ball.
        eps: its radius.
        flips: how many examples went from which standing to which.
        differences: of the accuracies, by kind.
    """

    norm: str
    eps: float
    flips: dict[tuple[Standing, Standing], int]
    differences: dict[str, Difference]

    def summary(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        return {
            "norm": self.norm,
            "eps": self.eps,
            "flips": [[str(one), str(other), count] for (one, other), count in sorted(self.flips.items())],
            **{
                difference.kind: {
                    "examples": difference.examples,
                    "first": difference.first,
                    "second": difference.second,
                    "lost": difference.lost,
                    "won": difference.won,
                    "change": difference.change,
                    "interval": list(difference.interval),
                    "p": difference.p,
                }
                for difference in self.differences.values()
            },
        }


def compare(first: RunFolder, second: RunFolder) -> list[Comparison]:
    """Return the comparison under each threat that both runs have, by norm and ε; examples are paired by their ids.

    Examples that have an error in either run are left out.

    Raises:
        RunError: no threat or no example is in both, or an id stands for another image in the second.
    """
    _check_same(first, second)
    one, other = (
        {(judgement.norm, judgement.eps, judgement.id): judgement for judgement in judgements(run.records())}
        for run in (first, second)
    )
    shared: dict[tuple[str, float], list[tuple[Judgement, Judgement]]] = {}
    for key in sorted(one.keys() & other.keys()):
        pair = one[key], other[key]
        if Standing.ERROR not in (pair[0].standing, pair[1].standing):
            shared.setdefault(key[:2], []).append(pair)
    if not shared:
        told = " and ".join(", ".join(_threats(run)) or "nothing" for run in (first, second))
        raise RunError(f"the runs have no example under the same ball ({told}); expected the same data, norm and eps")
    return [_compared(*threat, pairs) for threat, pairs in sorted(shared.items())]


def shown(comparison: Comparison) -> list[dict[str, object]]:
    """Return each difference as a row of text and counts, in per cent and points."""
    return [
        {
            "eps": spelled(comparison.eps),
            "accuracy": kind,
            "first": percent(one.first / one.examples),
            "second": percent(one.second / one.examples),
            "change": f"{100 * one.change:+.1f}",
            f"{LEVEL:.0%} interval": "{:+.1f} … {:+.1f}".format(*(100 * end for end in one.interval)),
            "lost": one.lost,
            "won": one.won,
            "p": f"{one.p:.2g}",
            "examples": one.examples,
        }
        for kind, one in comparison.differences.items()
    ]


def in_words(comparison: Comparison) -> str:
    """Return which standings changed into which, the most frequent first."""
    changed = sorted((-count, str(one), str(other)) for (one, other), count in comparison.flips.items() if one != other)
    return ", ".join(f"{-count} {one} → {other}" for count, one, other in changed) or "no example changed"


def mcnemar(lost: int, won: int) -> float:
    """Return the p-value of McNemar's exact test, two-sided: flips fall either way with probability ½."""
    from scipy.stats import binomtest

    return float(binomtest(won, lost + won, 0.5).pvalue) if lost + won else 1.0


def tango(won: int, lost: int, examples: int, alpha: float) -> tuple[float, float]:
    """Return the score interval of (won − lost)/n, for paired proportions.

    It holds all Δ with |won − lost − nΔ| ≤ z √(n(2q + Δ(1 − Δ))), where q is the likeliest probability of a loss given
    Δ: the larger root of 2n q² + ((2n − won + lost)Δ − won − lost) q − lost Δ(1 − Δ) (Tango 1998, eq. 9).

    Args:
        won: examples that the second run alone has right.
        lost: examples that the first run alone has right.
        examples: n, the number of pairs.
        alpha: 1 − the level of confidence.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    if not examples:
        return -1.0, 1.0
    z, observed = float(norm.ppf(1 - alpha / 2)), (won - lost) / examples

    def score(delta: float) -> float:
        half = (2 * examples - won + lost) * delta - won - lost
        root = math.sqrt(max(half**2 + 8 * examples * lost * delta * (1 - delta), 0.0))
        q = max((root - half) / (4 * examples), 0.0)
        spread = examples * (2 * q + delta * (1 - delta))
        gap = won - lost - examples * delta
        return gap / math.sqrt(spread) if spread > 0 else math.copysign(math.inf, gap) if gap else 0.0

    def edge(end: float, level: float) -> float:
        if abs(score(end)) <= z:
            return end
        return float(brentq(lambda delta: max(-1e6, min(1e6, score(delta))) - level, observed, end, xtol=1e-12))

    return edge(-1.0, z), edge(1.0, -z)


def _compared(norm: str, eps: float, pairs: list[tuple[Judgement, Judgement]]) -> Comparison:
    flips = Counter((one.standing, other.standing) for one, other in pairs)
    differences = {}
    for kind, right in ENDS.items():
        if kind == "certified" and not _proven(pairs):
            continue
        before = [right(one.standing) for one, _ in pairs]
        after = [right(other.standing) for _, other in pairs]
        lost = sum(a and not b for a, b in zip(before, after, strict=True))
        won = sum(b and not a for a, b in zip(before, after, strict=True))
        differences[kind] = Difference(kind, sum(before), sum(after), lost, won, len(pairs), mcnemar(lost, won))
    return Comparison(norm, eps, dict(flips), differences)


def _proven(pairs: list[tuple[Judgement, Judgement]]) -> bool:
    """Whether certificates ran in both runs."""
    return all(any(judgement.proof_ran for judgement in side) for side in zip(*pairs, strict=True))


def _check_same(first: RunFolder, second: RunFolder) -> None:
    """Raise RunError if an id stands for one image here and for another one there."""
    digests = [
        {row["id"]: row["digest"] for row in run.rows().select(["id", "digest"]).to_pylist() if row["digest"]}
        for run in (first, second)
    ]
    for identity in sorted(digests[0].keys() & digests[1].keys()):
        if digests[0][identity] != digests[1][identity]:
            raise RunError(
                f"the example {identity!r} is another image, or has another label, in {str(second.path)!r}; expected "
                "runs on the same data, brought into the same shape"
            )


def _threats(run: RunFolder) -> list[str]:
    rows = run.rows().select(["norm", "eps"]).to_pylist()
    return [f"{norm} eps {spelled(eps)}" for norm, eps in sorted({(row["norm"], row["eps"]) for row in rows})]
