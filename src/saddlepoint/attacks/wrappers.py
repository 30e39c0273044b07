"""On what terms an attack of a suite runs: wrappers that compose, `IfDoubted(EOT(APGD()))`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from saddlepoint import random
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


@final
@dataclass(frozen=True, slots=True)
class OnSample:
    """Run the attack on a sample of what the attacks before it have not broken: do they hold what they promise?

    Each example is in the sample with the probability `share`; its id and the seed decide. Every break is a finding,
    which estimates what else would fall, and `escalation` says what all that stands then meets.

    Attributes:
        attack: a longer attack than those before it.
        share: of the examples.
    """

    attack: "Step"
    share: float = 0.03

    def __post_init__(self) -> None:
        _check_inner("OnSample", self.attack)
        if isinstance(self.share, bool) or not isinstance(self.share, int | float) or not 0 < self.share <= 1:
            raise InputError(f"OnSample got share={self.share!r}; expected a share of the examples, such as 0.03")


Step = Attack | EOT | IfDoubted | OnSample
"""An element of a suite."""


def _check_inner(wrapper: str, step: object) -> None:
    if not isinstance(step, Step):
        what = "several attacks" if isinstance(step, tuple | list) else repr(step)
        raise InputError(
            f"{wrapper} got {what}; expected one: tuple(map(sp.{wrapper}, sp.STANDARD)) wraps each of many"
        )


def check_suite(suite: Sequence[Step]) -> None:
    """Raise InputError if a suite cannot mean what it says."""
    if all(doubted_only(step) or share_of(step) < 1 for step in suite[:1]):
        waits = "IfDoubted, which waits for doubts that an attack before it raises"
        audits = "OnSample, which audits what the attacks before it leave"
        raise InputError(
            f"the suite begins with {waits if doubted_only(suite[0]) else audits}; expected such an attack first"
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


def share_of(step: Step) -> float:
    """Return the share of the examples that the step is for."""
    if isinstance(step, Attack):
        return 1.0
    return min(step.share if isinstance(step, OnSample) else 1.0, share_of(step.attack))


def sampled(suite: Sequence[Step], seed: int, identity: int | str) -> bool:
    """Return whether an example is in the sample of some step of the suite."""
    return any(in_sample(share, seed, identity) for step in suite if (share := share_of(step)) < 1)


def in_sample(share: float, seed: int, identity: int | str) -> bool:
    """Return whether an example is in the sample of this share: its id and the seed decide."""
    return share >= 1 or random.key(seed, "sample", identity) % 2**20 < share * 2**20


def escalation(suite: Sequence[Step]) -> tuple[Step, ...]:
    """Return what all examples meet that stand, once a sample was broken: the steps for those in doubt."""
    return tuple(step.attack for step in suite if isinstance(step, IfDoubted))
