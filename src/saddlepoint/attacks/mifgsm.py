"""The momentum iterative fast gradient sign method, in any norm."""

from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch

from saddlepoint.attacks.ascent import ANY, POSITIVE, SOME, Ascent, Iterate, Loss, require
from saddlepoint.attacks.goals import Goal, Last
from saddlepoint.attacks.protocol import Answer, Problem
from saddlepoint.geometry.norms import spread
from saddlepoint.typing import Images


@dataclass(frozen=True, slots=True)
class MomentumIterate(Iterate):
    """A walk and its momentum g, (B, C, H, W)."""

    momentum: Images


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MIFGSM(Ascent):
    """g ← μ·g + ∇ℓ/‖∇ℓ‖_*, δ ← P_Δ(δ + α·steepest(g)) from δ = 0 (Dong et al. 2018, eqs. 6 and 7).

    In ℓ∞ that is MI-FGSM as published: ‖·‖_* is then the ℓ1 norm and the step α·sign(g). It is made for points that
    transfer to other models, so it runs to its end, and reports that.

    Attributes:
        steps: number of updates; steps + 1 points are evaluated.
        travel: length of the whole path in units of ε: α = travel·ε/steps.
        decay: μ.
        sparsity: of steps in ℓ1, as in `PGD`.
        loss: as in `PGD`.
    """

    paper: ClassVar[str] = "Dong et al. 2018"
    tolerance: ClassVar[float] = 0.05
    goal: ClassVar[Goal] = Last()

    steps: int = 10
    travel: float = 1.0
    decay: float = 1.0
    sparsity: float = 0.01
    loss: Loss = "cross-entropy"

    def __post_init__(self) -> None:
        require(self, steps=SOME, travel=POSITIVE, decay=ANY, sparsity="[0, 1]")

    def init(self, problem: Problem) -> MomentumIterate:
        """Stand at the first δ, without momentum."""
        walk = super(MIFGSM, self).init(problem)
        return MomentumIterate(walk.delta, walk.step, torch.zeros_like(walk.delta))

    def tell(self, problem: Problem, state: Any, answer: Answer) -> MomentumIterate:  # noqa: ANN401 - a MomentumIterate
        """Add the gradient to the momentum, and move along that."""
        if answer.gradient is None:
            return MomentumIterate(state.delta, state.step + 1, state.momentum)
        size = problem.region.ball.dual_norm(answer.gradient)
        fresh = answer.gradient / spread(torch.where(size > 0, size, 1), answer.gradient)
        momentum: Images = self.decay * state.momentum + fresh
        return MomentumIterate(self.move(problem, state.delta, momentum), state.step + 1, momentum)

    def move(self, problem: Problem, delta: Images, gradient: Images) -> Images:
        """Take one step of steepest ascent and project."""
        alpha = problem.region.radius * (self.travel / self.steps)
        return problem.region.project(delta + problem.region.ascent(gradient, delta, alpha, self.sparsity))
