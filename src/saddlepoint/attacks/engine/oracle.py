"""One call of the model, at one point per row: the only place of a search where it is called."""

from dataclasses import dataclass

import torch

from saddlepoint.attacks.engine.example import Example
from saddlepoint.attacks.engine.setting import Setting, average
from saddlepoint.attacks.goals import Goal
from saddlepoint.attacks.maximise import Evaluated, evaluate, told, worth
from saddlepoint.attacks.protocol import Access, Answer, Attack, Problem
from saddlepoint.classifier import Frozen, Precision, arithmetic
from saddlepoint.typing import Images, Logits, Mask, PerExample

ROUNDING, CAUTION = 1e-4, 32
"""As shares of the largest logit: more than float32 usually loses in a forward; and how many times the deviation that
was seen for this very module a margin must have before it is believed without a second look."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One attack of a cascade.

    Attributes:
        attack: the attack.
        name: of the attack in this cascade; the second PGD of a cascade is PGD#2, with random streams of its own.
        precision: that it searches in.
        resume: whether it starts from the best point so far, to go on in float32 where low precision has failed.
        left: among how many stages what is left of an example's budget is shared, this one included.
        draws: of a stochastic model, over which each answer is a mean.
        doubted: whether it is for examples in doubt only.
        probe: whether it is to cast doubt, for a later stage: without gradients it goes on from the best point so far.
        keep: which of its points are kept, where the caller has chosen; else the attack's own goal.
    """

    attack: Attack
    name: str
    precision: Precision = "fp32"
    resume: bool = False
    left: int = 1
    draws: int = 1
    doubted: bool = False
    probe: bool = False
    keep: Goal | None = None

    @property
    def goal(self) -> Goal:
        """Which of its points are kept."""
        return self.attack.goal if self.keep is None else self.keep

    @property
    def least(self) -> int:
        """Passes that a run must be able to pay for its first call."""
        return self.draws * (1 + (self.attack.access is Access.GRADIENT) + (not self.exact))

    @property
    def exact(self) -> bool:
        """Whether the search computes just what the decision does, so that a success needs no confirmation."""
        return self.precision == "fp32" and self.draws == 1 and (self.attack.plain or self.goal.exact)

    def skips(self, example: Example) -> bool:
        """Whether nothing is left to search for: the example is done, or float32 has confirmed what it would redo."""
        best = example.best
        if self.doubted and not example.doubts:
            return True
        return example.done or (best is not None and (best.won or (self.resume and best.adversarial)))


@dataclass(frozen=True, slots=True)
class Point:
    """A point of each row, and what it is worth to the attack's goal.

    `sure` tells that the untouched model, in float32, would say the same of `adversarial`.
    """

    delta: Images
    score: PerExample
    adversarial: Mask
    sure: Mask


@dataclass(frozen=True, slots=True)
class Health:
    """Which rows have finite logits and a finite gradient, and which have a gradient that is zero everywhere."""

    finite: Mask
    zero_gradient: Mask


@dataclass(frozen=True, slots=True)
class Oracle:
    """The model, as one stage of the search consults it."""

    model: Frozen
    stage: Stage
    setting: Setting

    def answer(
        self, problem: Problem, state: object, delta: Images, *, differentiate: bool
    ) -> tuple[Answer, Point, Health]:
        """Return what the attack may see at x + δ, what the point is worth, and whether its numbers can be used.

        Of a stochastic model that are means over draws; the goal is reached where it is in each.
        """
        with arithmetic(self.stage.precision, delta.device):
            looks = [
                evaluate(self.stage.attack, problem, state, delta, self._logits, differentiate=differentiate)
                for _ in range(self.stage.draws)
            ]
        draws = [look.logits for look in looks]
        gradients = [look.gradient for look in looks if look.gradient is not None]
        mean = Evaluated(
            looks[0].delta,
            average(draws),
            average([look.objective for look in looks]),
            average(gradients) if gradients else None,
        )
        point, reached = self._worth(problem, mean.delta, draws, decided=self.stage.exact)
        return told(self.stage.attack, mean, reached), point, _health(mean.logits, mean.gradient)

    def decide(self, problem: Problem, delta: Images) -> Point:
        """Return what the points are worth to the untouched model in float32, in draws of its own."""
        draws = [self.model.decide(problem.x + delta) for _ in range(self.stage.draws)]
        return self._worth(problem, delta, draws, decided=True)[0]

    def _logits(self, pixels: Images) -> Logits:
        return self.model.logits(pixels, self.stage.precision, as_given=self.stage.exact)

    def _worth(self, problem: Problem, delta: Images, draws: list[Logits], *, decided: bool) -> tuple[Point, Mask]:
        """Return what the points are worth, and which reach the goal, be it outside Δ.

        Sure is what the untouched model said or, in float32, what the margin holds against rounding.
        """
        margin, share = self.setting.judge_draws(draws, problem.y, problem.target)
        reached = share == 1
        beyond = margin.abs() > max(ROUNDING, CAUTION * self.model.deviation) * draws[0].abs().amax(1)
        steady = self.stage.precision == "fp32" and self.stage.draws == 1
        if self.stage.draws > 1:
            margin = self._ranked(problem, draws, share)
        sure = torch.full_like(reached, decided) | (beyond & steady)
        kept = worth(self.stage.attack, self.stage.goal, problem, delta, margin, reached)
        return Point(kept.delta, kept.score, kept.adversarial, sure), reached

    def _ranked(self, problem: Problem, draws: list[Logits], share: PerExample) -> PerExample:
        """Return the accuracy over draws and, where that is equal, the mean margin of probabilities to decide.

        Not the mean margin of logits: no draw, however large its logits are, outweighs another.
        """
        margin, _ = self.setting.judge_draws([logits.softmax(1) for logits in draws], problem.y, problem.target)
        return 1 - share + margin / (4 * len(draws))


def _health(logits: Logits, gradient: Images | None) -> Health:
    finite = torch.isfinite(logits).all(1)
    if gradient is None:
        return Health(finite, torch.zeros_like(finite))
    steepness = gradient.flatten(1).abs().amax(1)  # not the norm, which is of double width
    return Health(finite & torch.isfinite(steepness), steepness == 0)
