"""What a search has found out about itself: signs that it was misled, as values."""

from collections.abc import Mapping
from dataclasses import dataclass

from saddlepoint.attacks.example import FLAT, OVERTAKEN

TOLERATED = 0.002
"""The share of examples on which a sign may be chance (as in AutoAttack's own check of its Square)."""

_ADVICE = {
    FLAT: (
        "the gradient was exactly zero: something rounds, cuts off or saturates, and hides it; if that is a "
        "preprocessing, wrap it in sp.BPDA"
    ),
    OVERTAKEN: (
        "an attack without gradients got further than those with: gradients mislead; look for what shatters or "
        "detaches them, and attack around it, with sp.BPDA for instance"
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A sign that robust accuracy is overestimated.

    Attributes:
        name: of the sign: "zero gradient" or "black box beats gradients".
        count: of the examples that show it.
        text: one line that says what was seen, and what to do.
    """

    name: str
    count: int
    text: str


def findings(doubts: Mapping[str, int], examples: int) -> tuple[Finding, ...]:
    """Return the signs of masked gradients that more of the examples show than chance would have it."""
    found = []
    for name, advice in _ADVICE.items():
        count = doubts.get(name, 0)
        if count > TOLERATED * examples:
            text = f"{name}: on {count} of {examples} examples {advice}. Robust accuracy may be overestimated"
            found.append(Finding(name, count, text))
    return tuple(found)
