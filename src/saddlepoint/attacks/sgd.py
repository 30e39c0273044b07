"""The loop of Kolter & Madry's first chapter."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch

from saddlepoint.attacks.ascent import POSITIVE, SOME, Ascent, Loss, require
from saddlepoint.attacks.goals import Goal, Last
from saddlepoint.attacks.protocol import Problem
from saddlepoint.typing import Images


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SGD(Ascent):
    """δ ← P_Δ(δ + lr·∇ℓ) from δ = 0: all steps run, and the last iterate is reported, whatever it is worth.

    It computes on the weights as they were given: a loop written out by hand, at the same batch size, has the same
    losses. (Thirty steps of such a loop are chaotic: a difference in the last bit becomes one in the first digit.)

    Attributes:
        steps: number of updates; steps + 1 points are evaluated.
        lr: learning rate, in pixel units per unit of the gradient.
        loss: "difference" (cross-entropy; with a target ℓ(h, y) − ℓ(h, t), as in the lesson), "cross-entropy" or
            "margin".
    """

    goal: ClassVar[Goal] = Last()
    tolerance: ClassVar[float] = 0.05  # if lr·steps·‖∇ℓ‖ reaches across the ball
    paper: ClassVar[str] = "Kolter & Madry, chapter 1"

    steps: int = 30
    lr: float = 0.1
    loss: Loss = "difference"

    def __post_init__(self) -> None:
        require(self, steps=SOME, lr=POSITIVE)

    @property
    def as_given(self) -> bool:
        """As a loop written out by hand, which computes on the weights as they were given."""
        return True

    def move(self, problem: Problem, delta: Images, gradient: Images) -> Images:
        """Follow the gradient itself, not its steepest direction, and project."""
        return problem.region.nearest(torch.add(delta, gradient, alpha=self.lr))
