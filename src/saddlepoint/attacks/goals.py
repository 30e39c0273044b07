"""What an attack is after: which of its points the loop keeps, and when an example is done."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch

from saddlepoint.geometry import Region
from saddlepoint.typing import Images, Mask, PerExample


class Goal(ABC):
    """An order on points: the loop keeps a row's point of lowest score, the first of equals.

    Attributes:
        early: whether a row stops as soon as it has won, instead of at the end of its run.
        as_given: whether points must be found and judged by the module as it is, as the decision is. For such a goal, a
            false success caused by rounding would overwrite a real one.
    """

    early: ClassVar[bool] = False
    as_given: ClassVar[bool] = False

    @abstractmethod
    def score(self, region: Region, delta: Images, margin: PerExample, adversarial: Mask) -> PerExample:
        """Return how good the points are, (B,): lower is better.

        Args:
            region: Δ of each row.
            delta: the points, (B, C, H, W).
            margin: by which each misses the aim, (B,); not above 0 where it is reached.
            adversarial: where it is reached, (B,).
        """

    def improves(self, score: PerExample, best: PerExample) -> Mask:
        """Return which rows' new point replaces the best one."""
        return score < best

    @abstractmethod
    def won(self, score: PerExample, adversarial: Mask, stop: float) -> Mask:
        """Return which rows' best point makes further search of the example needless, given the margin τ of `stop`."""


@final
@dataclass(frozen=True, slots=True)
class Fool(Goal):
    """Find an adversarial point; the loop keeps the one of least margin and stops at margin ≤ −τ."""

    early: ClassVar[bool] = True

    def score(self, region: Region, delta: Images, margin: PerExample, adversarial: Mask) -> PerExample:
        """Return the margin."""
        return _margin(margin, adversarial)

    def won(self, score: PerExample, adversarial: Mask, stop: float) -> Mask:
        """Win at an adversarial point whose margin is at most −τ."""
        return adversarial & (score <= -stop)


@final
@dataclass(frozen=True, slots=True)
class Last(Goal):
    """Run all steps and report the last iterate, as the lesson's own loop does."""

    def score(self, region: Region, delta: Images, margin: PerExample, adversarial: Mask) -> PerExample:
        """Return the margin; it decides between runs only."""
        return _margin(margin, adversarial)

    def improves(self, score: PerExample, best: PerExample) -> Mask:
        """Prefer the later point always."""
        return torch.ones_like(score, dtype=torch.bool)

    def won(self, score: PerExample, adversarial: Mask, stop: float) -> Mask:
        """Win as `Fool` does, but at the end of the run."""
        return adversarial & (score <= -stop)


@final
@dataclass(frozen=True, slots=True)
class Nearest(Goal):
    """Find the adversarial point nearest to the example; the loop keeps the smallest norm and goes on.

    Before any is found it keeps the point of least margin.
    """

    as_given: ClassVar[bool] = True

    def score(self, region: Region, delta: Images, margin: PerExample, adversarial: Mask) -> PerExample:
        """Return −1/‖δ‖ in the norm of the ball where the point is adversarial, m/(1 + m) elsewhere, which is above."""
        distance = region.ball.norm(delta).to(margin.dtype)
        return torch.where(adversarial, -1 / distance, margin.clamp(min=0) / (1 + margin.clamp(min=0)))

    def won(self, score: PerExample, adversarial: Mask, stop: float) -> Mask:
        """Never win: a nearer point may come."""
        return torch.zeros_like(adversarial)


def _margin(margin: PerExample, adversarial: Mask) -> PerExample:
    """Return the margin, but a hair less for an adversarial point at a tie of logits, so that it comes first."""
    return torch.where(adversarial & (margin == 0), -torch.finfo(margin.dtype).tiny, margin)
