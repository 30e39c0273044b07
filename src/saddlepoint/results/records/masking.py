"""Signs that the search was misled: by masked gradients, or because it was too short."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saddlepoint.results.records.bracket import LEVEL, clopper_pearson

ZERO_GRADIENT, OVERTAKEN, SAMPLE_BROKEN = "zero gradient", "black box beats gradients", "sample broken"
"""The doubts that an example can raise: signs that the search was misled."""
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
        name: of the sign: "zero gradient", "black box beats gradients", "gradients mispredict" or "sample broken".
        count: of the examples that show it.
        text: one line that says what was seen, and what to do.
    """

    name: str
    count: int
    text: str


def findings(
    doubts: Mapping[str, int], examples: int, robust: int, *, met: int | None = None, fell: int | None = None
) -> tuple[Finding, ...]:
    """Return the signs of a misled search that more examples show than chance explains.

    If no example is left correct (`robust` = 0), nothing can be overestimated, and there are none.

    Args:
        doubts: how many examples show each sign.
        examples: how many there are.
        robust: how many of them stand.
        met: how many were in the sample that met a longer attack (`OnSample`); None if that is not known.
        fell: how many more fell to the attacks that all that stood met, once it was broken; None if they have not.
    """
    signs = []
    for name, advice in _ADVICE.items():
        count = doubts.get(name, 0)
        number, share = _CHANCE[name]
        if robust and count > max(number, share * examples):
            text = f"{name}: on {count} of {examples} examples {advice}. Robust accuracy may be overestimated"
            signs.append(Finding(name, count, text))
    if robust and (count := doubts.get(SAMPLE_BROKEN, 0)):
        signs += [Finding(SAMPLE_BROKEN, count, _missed(count, None if met is None else max(met, count), robust, fell))]
    return tuple(signs)


def of_summary(summary: Mapping[str, Any], met: int | None = None) -> tuple[Finding, ...]:
    """Return the findings that follow from the summary of a run."""
    examples = max((threat["examples"] for threat in summary["threats"]), default=0)
    return findings(summary["doubts"], examples, summary["robust"], met=met)


def _missed(count: int, met: int | None, robust: int, fell: int | None) -> str:
    """Return what the break of a sample says of the others, and what was done about it."""
    if met is None:
        return f"{SAMPLE_BROKEN}: {count} of a sample fell to a longer attack. Robust accuracy is overestimated"
    told = f"{SAMPLE_BROKEN}: of a sample of {met} that stood, {count} fell to a longer attack"
    if fell is not None:
        return f"{told}; so all that stood have met the attacks for examples in doubt, to which {fell} more fell"
    low, high = clopper_pearson(count, met, 1 - LEVEL)
    return (
        f"{told}: so would about {count / met:.0%} of the others, of which {robust} stand ({low:.0%} to {high:.0%}, at "
        f"{LEVEL:.0%}). Robust accuracy is overestimated; a longer attack, sp.STANDARD, tells by how much"
    )


def mispredicted(ratio: float, count: int) -> Finding:
    """Return the finding that the margin changes `ratio` times as much as gradients say, a median of `count`."""
    text = (
        f"gradients mispredict: one grey level along the gradient, the margin changes {ratio:.2g} times as much as it "
        f"says (the median of {count} examples; near 1 where nothing is hidden): look for rounded units, hard gates "
        "and what is detached, and attack around them, with sp.BPDA for instance. Robust accuracy may be overestimated"
    )
    return Finding("gradients mispredict", count, text)
