"""On what terms an attack of a suite runs: wrappers that compose, `IfDoubted(EOT(APGD()))`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from saddlepoint.attacks.protocol import Attack
from saddlepoint.errors import InputError


@final
@dataclass(frozen=True, slots=True)
class EOT:
    """Expectation over transformation, for stochastic models (Athalye, Engstrom, Ilyas & Kwok 2018, §2.2).

    The attack is told the means of logits, loss and gradient over independent draws of the model at its point, and a
    point counts as adversarial when every draw is wrong, and every one of as many fresh draws, too.

    Attributes:
        attack: the attack.
        draws: how many.
    """

    attack: "Step"
    draws: int = 20

    def __post_init__(self) -> None:
        _check_inner("EOT", self.attack)
        if isinstance(self.draws, bool) or not isinstance(self.draws, int) or self.draws < 2:
            raise InputError(f"EOT got draws={self.draws!r}; expected a whole number of at least 2")


@final
@dataclass(frozen=True, slots=True)
class IfDoubted:
    """Run the attack on those examples only for which there is a sign that gradients are masked.

    The signs are: a gradient that is exactly zero; and a black-box attack, earlier in the suite, that got further from
    the best point of the gradient attacks before it.
    """

    attack: "Step"

    def __post_init__(self) -> None:
        _check_inner("IfDoubted", self.attack)


Step = Attack | EOT | IfDoubted
"""An element of a suite."""


def _check_inner(wrapper: str, step: object) -> None:
    if not isinstance(step, Step):
        what = "several attacks" if isinstance(step, tuple | list) else repr(step)
        raise InputError(
            f"{wrapper} got {what}; expected one: tuple(map(sp.{wrapper}, sp.STANDARD)) wraps each of many"
        )


def check_suite(suite: Sequence[Step]) -> None:
    """Raise InputError if a suite cannot mean what it says."""
    if all(map(doubted_only, suite[:1])):
        raise InputError(
            "the suite begins with IfDoubted, which waits for doubts that an attack before it raises; "
            "expected such an attack first"
        )
    draws = sorted(set(map(draws_of, suite)))
    if len(draws) > 1:
        raise InputError(
            f"the attacks of the suite take means over {' and '.join(map(str, draws))} draws, so that a lucky draw of "
            "one would end the others' search; expected the same for all: sp.EOT(attack, draws=…) around each"
        )


def attack_of(step: Step) -> Attack:
    """Return the attack inside the wrappers."""
    return step if isinstance(step, Attack) else attack_of(step.attack)


def draws_of(step: Step) -> int:
    """Return over how many draws of the model the step takes its means."""
    if isinstance(step, Attack):
        return 1
    return max(step.draws if isinstance(step, EOT) else 1, draws_of(step.attack))


def doubted_only(step: Step) -> bool:
    """Return whether the step is for examples in doubt."""
    return not isinstance(step, Attack) and (isinstance(step, IfDoubted) or doubted_only(step.attack))
