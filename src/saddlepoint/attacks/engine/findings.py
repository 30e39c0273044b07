"""Signs that the search was misled by masked gradients."""

from collections.abc import Mapping
from dataclasses import dataclass

from saddlepoint.attacks.engine.example import OVERTAKEN, ZERO_GRADIENT

_CHANCE = {ZERO_GRADIENT: (0, 0.002), OVERTAKEN: (1, 0.01)}
"""How many examples, and which share of them, may show a sign without a finding: (number, share).

A gradient is rarely zero by chance, but a random search beats gradients now and then on any network.
"""

_ADVICE = {
    ZERO_GRADIENT: (
        "the gradient was exactly zero, everywhere or at all pixels at the bounds of the box, whatever was tried: if a "
        "preprocessing rounds or cuts off, wrap it in sp.BPDA; "
        "if the loss saturates, attack the margin, loss='margin' or 'dlr'"
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


def findings(doubts: Mapping[str, int], examples: int, robust: int) -> tuple[Finding, ...]:
    """Return the signs of masked gradients that more examples show than chance explains.

    If no example is left correct (`robust` = 0), nothing can be overestimated, and there are none.
    """
    found = []
    for name, advice in _ADVICE.items():
        count = doubts.get(name, 0)
        number, share = _CHANCE[name]
        if robust and count > max(number, share * examples):
            text = f"{name}: on {count} of {examples} examples {advice}. Robust accuracy may be overestimated"
            found.append(Finding(name, count, text))
    return tuple(found)
