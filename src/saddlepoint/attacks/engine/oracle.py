"""One call of the model at one point per row. A search calls the model nowhere else."""

from dataclasses import dataclass

import torch

from saddlepoint.attacks.engine.example import Example
from saddlepoint.attacks.engine.setting import Setting, average
from saddlepoint.attacks.goals import Goal
from saddlepoint.attacks.maximise import Evaluated, evaluate, told, worth
from saddlepoint.attacks.protocol import Access, Answer, Attack, Problem
from saddlepoint.attacks.wrappers import in_sample
from saddlepoint.classifier import DECISION, Arithmetic, Frozen
from saddlepoint.typing import Images, Logits, Mask, PerExample

FEW = 16
"""Pixels at the bounds of the box that must be without a gradient before that is a sign: fewer may be so by chance."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One attack of a cascade.

    Attributes:
        attack: the attack.
        name: of the attack in this cascade; the second PGD of a cascade is PGD#2, with random streams of its own.
        arithmetic: that it searches in.
        resume: whether it starts at the best point so far: the float32 steps after a failed low-precision search.
        left: how many stages, including this one, share what is left of an example's budget.
        draws: forwards of a stochastic model that each answer is averaged over.
        doubted: whether it attacks only examples with signs of masked gradients.
        share: of the examples, drawn at random, that it attacks.
        probe: whether it is a gradient-free check for a later `doubted` stage, started at the best point so far.
        chosen: the goal, if the caller has chosen one; otherwise the attack's own goal.
        number: its place in the cascade, from 0.
    """

    attack: Attack
    name: str
    arithmetic: Arithmetic = Arithmetic()  # noqa: RUF009 - frozen
    resume: bool = False
    left: int = 1
    draws: int = 1
    doubted: bool = False
    share: float = 1.0
    probe: bool = False
    chosen: Goal | None = None
    number: int = 0

    @property
    def goal(self) -> Goal:
        """Which of its points are kept."""
        return self.attack.goal if self.chosen is None else self.chosen

    @property
    def least(self) -> int:
        """Passes that a run must be able to pay for its first call."""
        return self.draws * (1 + (self.attack.access is Access.GRADIENT) + (not self.decides))

    @property
    def decides(self) -> bool:
        """Whether search and decision compute the same function, so that a success needs no confirmation."""
        return self.draws == 1 and self.arithmetic.decides

    def skips(self, example: Example, seed: int) -> bool:
        """Whether this stage has nothing to do for the example."""
        best = example.best
        if example.through > self.number or (self.doubted and not example.doubts):
            return True
        if not in_sample(self.share, seed, example.input.id):
            return True
        return example.done or (best is not None and (best.won or (self.resume and best.adversarial)))


@dataclass(frozen=True, slots=True)
class Point:
    """A point per row with its score under the attack's goal.

    `certain`: the unmodified model in float32 is known to agree with `adversarial`.
    """

    delta: Images
    score: PerExample
    adversarial: Mask
    certain: Mask


@dataclass(frozen=True, slots=True)
class Health:
    """Which rows have finite logits and a finite gradient, and which have a gradient that is zero.

    It counts as zero if it is so at every pixel, or just at those at the bounds of the box, as a clamp's is.
    """

    finite: Mask
    zero_gradient: Mask


@dataclass(frozen=True, slots=True)
class Oracle:
    """The model as one stage of the cascade sees it."""

    model: Frozen
    stage: Stage
    setting: Setting

    def answer(
        self, problem: Problem, state: object, delta: Images, *, differentiate: bool
    ) -> tuple[Answer, Point, Health]:
        """Return the attack's answer at x + δ, the score of the point, and the health of its numbers.

        For a stochastic model, numbers are means over draws, and the goal must be reached in every draw.

        Args:
            problem: the rows' images, labels and regions.
            state: the attack's state, a tree with one row each.
            delta: the points that the attack asks for, (B, C, H, W).
            differentiate: whether it needs gradients.
        """
        with self.stage.arithmetic.switched(delta.device):
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
        point, reached = self._worth(problem, mean.delta, draws, self.stage.arithmetic)
        return told(self.stage.attack, mean, reached), point, self._health(problem.x + mean.delta, mean)

    def decide(self, problem: Problem, delta: Images) -> Point:
        """Return the scores of the points under the unmodified model in float32, from fresh draws."""
        draws = [self.model.decide(problem.x + delta) for _ in range(self.stage.draws)]
        return self._worth(problem, delta, draws, DECISION)[0]

    def _logits(self, pixels: Images) -> Logits:
        return self.model.logits(pixels, self.stage.arithmetic)

    def _health(self, pixels: Images, at: Evaluated) -> Health:
        finite = torch.isfinite(at.logits).all(1)
        if at.gradient is None:
            return Health(finite, torch.zeros_like(finite))
        steepness = at.gradient.flatten(1).abs().amax(1)  # the largest entry: cheaper than a norm, and as telling
        zero = (steepness == 0) | clipped(at.gradient, pixels, self.setting.box)
        return Health(finite & torch.isfinite(steepness), zero)

    def _worth(self, problem: Problem, delta: Images, draws: list[Logits], by: Arithmetic) -> tuple[Point, Mask]:
        """Return the scores of the points, and which of them reach the goal, whether inside Δ or not."""
        margin, share = self.setting.judge_draws(draws, problem.y, problem.target)
        # In every draw: a lucky one is no success.
        reached = share == 1
        certain = by.certain(margin, draws[0], self.model.deviation)
        if self.stage.draws > 1:
            certain &= by.decides  # fresh draws may fall otherwise
            margin = self._ranked(problem, draws, share)
        kept = worth(self.stage.attack, self.stage.goal, problem, delta, margin, reached)
        return Point(kept.delta, kept.score, kept.adversarial, certain), reached

    def _ranked(self, problem: Problem, draws: list[Logits], share: PerExample) -> PerExample:
        """Return the accuracy over draws, with ties broken by the mean margin of the probabilities."""
        # Probabilities, not logits: one draw with large logits must not outweigh the others.
        margin, _ = self.setting.judge_draws([logits.softmax(1) for logits in draws], problem.y, problem.target)
        return 1 - share + margin / (4 * len(draws))


def clipped(gradient: Images, pixels: Images, box: tuple[float, float] | None) -> Mask:
    """Return which rows have no gradient at any of ≥ `FEW` pixels at the bounds, but at most pixels between them."""
    if box is None:
        return torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device)
    bound = ((pixels <= box[0]) | (pixels >= box[1])).flatten(1)
    moved = (gradient != 0).flatten(1)
    inner = (~bound).sum(1)
    return (bound.sum(1) >= FEW) & ~(moved & bound).any(1) & (2 * (moved & ~bound).sum(1) > inner)
