"""One call of the model, at one point per row: the only place of a search where it is called."""

from dataclasses import dataclass

import torch

from saddlepoint.attacks.example import Example
from saddlepoint.attacks.protocol import Answer, Attack, Need, Problem
from saddlepoint.attacks.setting import Setting
from saddlepoint.classifier import Frozen, Precision
from saddlepoint.typing import Images, Logits, PerExample, Rows


@dataclass(frozen=True, slots=True)
class Stage:
    """One attack of a cascade, the precision that it searches in, and whether it starts from the best point so far."""

    attack: Attack
    precision: Precision = "fp32"
    resume: bool = False

    @property
    def exact(self) -> bool:
        """Whether the search is as precise as the decision, so that a success needs no confirmation."""
        return self.precision == "fp32"

    def skips(self, example: Example) -> bool:
        """Whether nothing is left to search for: the example is done, or float32 has confirmed what it would redo."""
        best = example.best
        return example.mistaken or (best is not None and (best.won or (self.resume and best.adversarial)))


@dataclass(frozen=True, slots=True)
class Point:
    """A point of each row, and what it is worth to the attack's goal."""

    delta: Images
    score: PerExample
    adversarial: Rows


@dataclass(frozen=True, slots=True)
class Oracle:
    """The model, as one stage of the search consults it."""

    model: Frozen
    stage: Stage
    setting: Setting

    def answer(
        self, problem: Problem, state: object, delta: Images, *, differentiate: bool
    ) -> tuple[Answer, Point, Rows]:
        """Return what the attack may see at x + δ, what the point is worth, and which rows have finite numbers only."""
        delta = delta.detach().requires_grad_(differentiate)
        with torch.set_grad_enabled(differentiate):
            logits, loss = self._call(problem, state, delta)
        finite = torch.isfinite(logits).all(1)
        gradient = None
        if differentiate:
            gradient = torch.autograd.grad(loss.sum(), delta)[0].contiguous()
            finite &= torch.isfinite(gradient.flatten(1).sum(1))
        logits, loss = logits.detach(), loss.detach()
        point = self._worth(problem, delta.detach(), logits)
        blind = self.stage.attack.needs is Need.LABEL
        answer = Answer(
            label=logits.argmax(1),
            adversarial=point.adversarial,
            logits=None if blind else logits,
            loss=None if blind else loss,
            gradient=gradient,
        )
        return answer, point, finite

    def decide(self, problem: Problem, delta: Images) -> Point:
        """Return what the points are worth to the untouched model in float32."""
        return self._worth(problem, delta, self.model.decide(problem.x + delta))

    def _call(self, problem: Problem, state: object, delta: Images) -> tuple[Logits, PerExample]:
        attack = self.stage.attack
        logits = self.model.logits(problem.x + delta, self.stage.precision, as_given=attack.plain)
        if attack.needs is Need.LABEL:
            return logits, torch.zeros_like(logits[:, 0])
        return logits, attack.objective(problem, state, logits)

    def _worth(self, problem: Problem, delta: Images, logits: Logits) -> Point:
        margin, adversarial = self.setting.judge(logits, problem.y, problem.target)
        if self.stage.attack.plain:
            delta = problem.region.project(delta)  # a plain clamp may miss Δ by a last bit; what is kept may not
        return Point(delta, self.stage.attack.goal.score(problem.region, delta, margin, adversarial), adversarial)
