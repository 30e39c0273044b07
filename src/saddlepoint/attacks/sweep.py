"""Short ascents on the margin, each aimed at another class: the nearest first, and more of them where it is close."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from saddlepoint import losses
from saddlepoint.attacks.apgd import surface
from saddlepoint.attacks.ascent import require
from saddlepoint.attacks.pgd import PGD
from saddlepoint.attacks.protocol import Answer, Attack, Problem
from saddlepoint.attacks.rows import where
from saddlepoint.geometry.norms import spread
from saddlepoint.typing import Images, Labels, Logits, PerExample, Rows

UNAIMED = -1


@dataclass(frozen=True, slots=True)
class Round:
    """One ascent under way: δ, its momentum, how many steps it has taken, (B,), and the class it aims at, (B,)."""

    delta: Images
    velocity: Images
    step: Tensor
    aim: Labels


@dataclass(frozen=True, slots=True)
class Search:
    """The round under way, how many came before it, how often each class was aimed at, and how near each has come.

    Attributes:
        now: the round.
        past: rounds that have ended, (B,).
        tries: (B, K).
        reach: the highest z_j − z_y seen, (B, K).
        over: whether the search has ended, (B,).
    """

    now: Round
    past: Tensor
    tries: Tensor
    reach: Logits
    over: Rows


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(Attack):
    """Rounds of ascent with momentum and a cosine step, δ ← P(δ + α_k·steepest(v)), v ← μv + ∇ℓ/‖∇ℓ‖.

    The first round ascends the margin, each later one z_j − z_y for one class j: of those aimed at least often, the
    one that has come nearest so far. After every round an example has as many rounds in all as its progress deserves:
    1 + ⌈rounds·(1 − r)²⌉, where r is what is left of its clean margin. A step falls from 2ε to 0 within a round
    (compare the margin attacks of Gowal et al. 2019 and the schedules of Xie et al. 2025).

    Attributes:
        rounds: as above; the most that an example can have is 1 + rounds.
        first: steps of the first round.
        steps: steps of each later round.
        momentum: μ.
        sparsity: of steps in ℓ1, as in `PGD`.
    """

    paper: ClassVar[str] = "this project"
    tolerance: ClassVar[float] = 0.05

    rounds: int = 24
    first: int = 10
    steps: int = 20
    momentum: float = 0.75
    sparsity: float = 0.01

    def __post_init__(self) -> None:
        require(self, rounds=-1, first=0, steps=0, momentum=-1e-9)

    def init(self, problem: Problem) -> Search:
        """Begin the first round."""
        count = torch.zeros_like(problem.y)
        aim = count + UNAIMED if problem.target is None else problem.target
        delta = surface(problem) if problem.start is None else problem.start
        now = Round(delta, torch.zeros_like(delta), count, aim)
        tries = torch.zeros_like(problem.logits, dtype=torch.int64)
        return Search(now, count, tries, torch.full_like(problem.logits, -torch.inf), count > 0)

    def ask(self, problem: Problem, state: Search) -> Images:
        """Ask for the iterate."""
        return state.now.delta

    def objective(self, problem: Problem, state: Search, logits: Logits) -> PerExample:
        """Return z_j − z_y for the class that is aimed at, and the margin where none is."""
        if problem.target is not None:
            return losses.targeted_margin(logits, problem.target)
        aim, own = state.now.aim, logits.gather(1, problem.y[:, None]).squeeze(1)
        gap = logits.gather(1, aim.clamp(min=0)[:, None]).squeeze(1) - own
        return torch.where(aim == UNAIMED, losses.logit_margin(logits, problem.y), gap)

    def tell(self, problem: Problem, state: Search, answer: Answer) -> Search:
        """Note how near the classes have come; go on in the round, or begin the next."""
        assert answer.logits is not None  # noqa: S101 - a gradient attack is told the logits
        gaps = answer.logits - answer.logits.gather(1, problem.y[:, None])
        reach = torch.maximum(state.reach, gaps.scatter(1, problem.y[:, None], -torch.inf))
        ends = state.now.step == self._length(state)
        past = state.past + ends
        over = state.over | (ends & (past > self._deserved(problem, reach)))
        aim = self._next(state.tries, reach) if problem.target is None else problem.target
        tries = torch.where(
            ends[:, None], state.tries.scatter_add(1, aim[:, None], torch.ones_like(aim[:, None])), state.tries
        )
        fresh = Round(surface(problem, 3 * past), torch.zeros_like(state.now.delta), 0 * past, aim)
        now = self._moved(problem, state, answer.gradient)
        return Search(where(ends, fresh, now), past, tries, reach, over)

    def finished(self, state: Search) -> Rows:
        """Finish when no further round is deserved."""
        return state.over

    def differentiates(self, state: Search) -> Rows:
        """Want a gradient at every iterate but the last of each round."""
        return state.now.step < self._length(state)

    def polish(self) -> PGD:
        """Return a few short steps on the margin."""
        return PGD(steps=10, travel=0.5, random_start=False, loss="margin")

    def _length(self, state: Search) -> Tensor:
        return torch.where(state.past == 0, self.first, self.steps)

    def _deserved(self, problem: Problem, reach: Logits) -> PerExample:
        """Return how many rounds come after the first, rounds·(1 − r)², with r = best margin / clean margin."""
        clean = losses.logit_margin(problem.logits, problem.y)
        left = (reach.amax(1) / clean).clamp(0, 1).nan_to_num(1)
        return (self.rounds * (1 - left).square()).ceil()

    def _next(self, tries: Tensor, reach: Logits) -> Labels:
        """Return the class that came nearest among those aimed at least often."""
        known = reach > -torch.inf
        least = torch.where(known, tries, 2**30).amin(1, keepdim=True)
        return torch.where(known & (tries == least), reach, -torch.inf).argmax(1)

    def _moved(self, problem: Problem, state: Search, gradient: Images | None) -> Round:
        now, region = state.now, problem.region
        if gradient is None:
            return Round(now.delta, now.velocity, now.step + 1, now.aim)
        size = region.ball.dual_norm(gradient)
        velocity = self.momentum * now.velocity + gradient / spread(torch.where(size > 0, size, 1), gradient)
        length = region.radius * (1 + torch.cos(math.pi * now.step / self._length(state)))
        delta = region.project(now.delta + region.ascent(velocity, now.delta, length, self.sparsity))
        return Round(delta, velocity, now.step + 1, now.aim)
