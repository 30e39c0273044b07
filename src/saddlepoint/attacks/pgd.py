"""Projected gradient ascent, in any norm."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch

from saddlepoint.attacks.ascent import POSITIVE, SOME, Ascent, Loss, require
from saddlepoint.attacks.protocol import Problem, Run
from saddlepoint.typing import Images, Logits


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PGD(Ascent):
    """δ ← P_Δ(δ + argmax_{‖v‖≤α} ⟨∇ℓ, v⟩): steepest ascent in the norm of the ball (Madry et al. 2018, §2.1).

    In ℓ∞ the step is α·sign ∇ℓ, in ℓ2 α·∇ℓ/‖∇ℓ‖₂, in ℓ1 α spread over the most valuable pixels that have room.

    Attributes:
        steps: number of updates; steps + 1 points are evaluated.
        step_size: α in pixel units of [0, 1]; None for travel·ε/steps.
        travel: length of the whole path in units of ε, when no step size is given.
        restarts: independent runs; the later ones are cancelled when one has won.
        random_start: begin at a uniform sample of the ball, projected into the box, instead of at δ = 0.
        sparsity: in ℓ1, the share of pixels among which a step is spread (Tramèr & Boneh 2019); dense norms ignore it.
        loss: a name in `saddlepoint.losses`.
    """

    paper: ClassVar[str] = "Madry et al. 2018"
    tolerance: ClassVar[float] = 0.05  # steps of one length circle the optimum

    steps: int = 40
    step_size: float | None = None
    travel: float = 2.5
    restarts: int = 1
    random_start: bool = True
    sparsity: float = 0.01
    loss: Loss = "cross-entropy"

    def __post_init__(self) -> None:
        require(self, steps=SOME, step_size=POSITIVE, travel=POSITIVE, restarts=SOME, sparsity="[0, 1]")

    def runs(self, logits: Logits, y: int) -> tuple[Run, ...]:
        """Return one run per restart."""
        return tuple(Run(restart) for restart in range(self.restarts))

    def begin(self, problem: Problem) -> Images:
        """Begin at a random point of Δ."""
        return problem.region.start(problem.key) if self.random_start else super(PGD, self).begin(problem)

    def move(self, problem: Problem, delta: Images, gradient: Images) -> Images:
        """Take one step of steepest ascent and project."""
        region = problem.region
        alpha = region.radius * (self.travel / self.steps)
        if self.step_size is not None:
            alpha = torch.full_like(alpha, self.step_size)
        return region.project(delta + region.ascent(gradient, delta, alpha, self.sparsity))
