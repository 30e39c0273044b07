"""FMN, aimed: ascend in a ball that shrinks where an adversarial point is found, and grows elsewhere."""

from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from saddlepoint import losses
from saddlepoint.attacks.ascent import SHARE, SOME, require
from saddlepoint.attacks.goals import Goal, Nearest
from saddlepoint.attacks.protocol import Answer, Attack, Problem
from saddlepoint.geometry.norms import wide, working
from saddlepoint.rows import renew, where
from saddlepoint.typing import Images, Labels, Logits, Mask, PerExample

_GROWTH = 1.5
"""Of the ball while nothing is found: on ordinary networks linearised distances can be far too short."""
_BEYOND = 1.02
"""Times the linearised distance: just there, rounding decides whether the boundary of a linear model is crossed."""


@dataclass(frozen=True, slots=True)
class State:
    """State of a run.

    Attributes:
        delta: the point, (B, C, H, W).
        step: how many points were answered, (B,).
        eps: the radius of the ball at present, 0 before any, (B,).
        crossed: whether the round has found an adversarial point, (B,).
        best: the norm of the nearest adversarial point so far, ∞ before any, (B,).
        aims: the candidates, by clean logit, and once all are linearised by distance, (B, M).
        distance: of each candidate's linearised boundary from the first point, (B, M).
    """

    delta: Images
    step: Tensor
    eps: PerExample
    crossed: Mask
    best: PerExample
    aims: Tensor
    distance: Tensor

    @property
    def linearised(self) -> int:
        """How many candidates are linearised before the rounds: all, if there is a choice."""
        return self.aims.shape[1] if self.aims.shape[1] > 1 else 0

    @property
    def past(self) -> Tensor:
        """How many points of rounds were answered; negative before them."""
        return self.step - self.linearised


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FMN(Attack):
    """The Fast Minimum-Norm attack (Pintor et al. 2021, algorithm 1), aimed at one class after the other.

    A round ascends f = z_t − z_y: δ ← P(δ + α_k·steepest(∇f)), where P projects onto {‖δ‖ ≤ ε_k} ∩ box. Then

        ε ← min((1 − γ_k) ε, nearest)                where the point is adversarial,
        ε ← (1 + γ_k) ε                              where it is not, and one was found in this round,
        ε ← max(1.5 ε, ‖δ‖ + 1.02 |f|/‖∇f‖_*)        before one is found: beyond the linearised distance.

    By a cosine γ_k falls from `gamma` to a 200th of it, and α_k from `stride`·ε to a hundredth of that. A round begins
    at the clean image, and at a random point where those before it have found nothing.

    The classes aimed at are those whose linearised boundaries are nearest to the clean image (as in MALT, Melamed et
    al. 2024), among the likeliest `candidates`. That, both factors, and steps in units of ε are ours. Without 1.02 up
    to a fifth of the rows of a linear model is never found; without 1.5 and with γ = 0.05 the distances of ordinary
    networks, whose linearisations say little, come out twice as large.

    Attributes:
        targets: how many rounds there are, each aimed at another class, the nearest first; from random points again
            where there are fewer classes.
        steps: points of each round.
        candidates: how many classes are linearised to find the nearest, by decreasing clean logit.
        gamma: γ ∈ (0, 1], how much the ball changes at first.
        stride: of the first step, in units of ε.
    """

    paper: ClassVar[str] = "Pintor et al. 2021"
    goal: ClassVar[Goal] = Nearest()
    tolerance: ClassVar[float] = 1.0  # it minimises the distance, not the margin
    roams: ClassVar[bool] = True

    targets: int = 3
    steps: int = 30
    candidates: int = 9
    gamma: float = 0.2
    stride: float = 1.0

    def __post_init__(self) -> None:
        require(self, targets=SOME, steps=SOME, candidates=SOME, gamma=SHARE, stride=SHARE)

    def init(self, problem: Problem) -> State:
        """Start at the clean image, or at the point that was given."""
        none, far = torch.zeros_like(problem.y), torch.full_like(problem.region.radius, torch.inf)
        aims = self._candidates(problem)
        delta = torch.zeros_like(problem.x) if problem.start is None else problem.start
        return State(
            delta, none, 0 * problem.region.radius, none > 0, far, aims, far[:, None].expand(aims.shape).clone()
        )

    def _candidates(self, problem: Problem) -> Tensor:
        """Return the likeliest other classes; the target, if there is one."""
        if problem.target is not None:
            return problem.target[:, None]
        others = problem.clean_logits.scatter(1, problem.y[:, None], -torch.inf)
        likeliest = others.argsort(dim=1, descending=True, stable=True)
        return likeliest[:, : min(self.candidates, others.shape[1] - 1)]

    def ask(self, problem: Problem, state: State) -> Images:
        """Ask for the first point, once for each candidate, and then for the iterate."""
        return state.delta

    def objective(self, problem: Problem, state: State, logits: Logits) -> PerExample:
        """Return f = z_t − z_y; for a targeted problem, z_t − max_{j≠t} z_j."""
        aim = self._aim(state)
        if problem.targeted:
            return losses.targeted_margin(logits, aim)
        return (logits.gather(1, aim[:, None]) - logits.gather(1, problem.y[:, None])).squeeze(1)

    def _aim(self, state: State) -> Labels:
        place = torch.where(state.past < 0, state.step, state.past // self.steps)
        return state.aims.gather(1, (place % state.aims.shape[1])[:, None]).squeeze(1)

    def tell(self, problem: Problem, state: State, answer: Answer) -> State:
        """Note a candidate's distance, or move; after the last point of a round, go back to the first point."""
        norm = problem.region.ball.norm(answer.delta)
        best = torch.where(answer.adversarial, torch.minimum(state.best, norm), state.best)
        over, first = replace(state, step=state.step + 1, best=best), state.past < 0
        ends = ~first & ((state.past + 1) % self.steps == 0)
        begun = renew(ends, self._begun, (problem, over), over)
        if answer.gradient is None or answer.loss is None:
            return begun
        steepness = problem.region.ball.dual_norm(answer.gradient)
        distance = (wide(answer.loss).abs() / steepness).nan_to_num(torch.inf, posinf=torch.inf)
        noted = where(first, _noted(over, distance), begun) if state.linearised else begun
        told = problem, over, answer, norm + _BEYOND * distance
        return renew(~first & ~ends, self._moved, told, noted)

    def _begun(self, over: tuple[Problem, State]) -> State:
        """Begin a round: at the first point, or at any in Δ if from there nothing was found or all was tried."""
        problem, state = over
        again = state.best.isinf() | (state.past >= state.aims.shape[1] * self.steps)
        first = torch.zeros_like(problem.x) if problem.start is None else problem.start
        delta = renew(again, _anywhere, (problem, state.step), first)
        return replace(state, delta=delta, eps=0 * state.eps, crossed=torch.zeros_like(again))

    def _moved(self, told: tuple[Problem, State, Answer, PerExample]) -> State:
        """Return the next point of a round, given the linearised distance of the boundary from the clean image."""
        problem, state, answer, linear = told
        assert answer.gradient is not None  # noqa: S101 - a gradient attack is told one
        region, ball = problem.region, problem.region.ball
        share = (state.past - 1) % self.steps / self.steps  # this point was counted already
        anneal = (1 + torch.cos(torch.pi * share)) / 2
        gamma = (self.gamma * (0.005 + 0.995 * anneal)).to(state.eps)
        crossed = state.crossed | answer.adversarial
        eps = torch.where(crossed, (1 + gamma) * state.eps, torch.maximum(linear, _GROWTH * state.eps))
        eps = torch.where(
            answer.adversarial,
            torch.minimum(torch.where(state.eps > 0, (1 - gamma) * state.eps, torch.inf), state.best),
            eps,
        )
        eps = torch.minimum(eps, region.radius)
        length = self.stride * (0.01 + 0.99 * anneal) * eps
        low, high = region.box
        step = ball.ascent(answer.gradient, length, low - answer.delta, high - answer.delta)
        delta = ball.nearest(working(answer.delta + step), eps, working(low), working(high)).to(answer.delta.dtype)
        return replace(state, delta=delta, eps=eps, crossed=crossed)

    def finished(self, state: State) -> Mask:
        """Finish after the last round."""
        return state.past >= self.targets * self.steps

    def length(self, problem: Problem) -> int:
        """Return one point for each candidate and each step."""
        count = self._candidates(problem).shape[1]
        return (count if count > 1 else 0) + self.targets * self.steps

    def differentiates(self, state: State) -> Mask:
        """Want a gradient everywhere but at the last point of a round."""
        return (state.past < 0) | ((state.past + 1) % self.steps != 0)


def _noted(state: State, distance: PerExample) -> State:
    """Return the state with the distance of the candidate that was answered; after the last, in their order."""
    count = state.aims.shape[1]
    place = (state.step - 1).clamp(max=count - 1)[:, None]
    known = state.distance.scatter(1, place, distance[:, None])
    order = known.argsort(dim=1, stable=True)
    last = state.step == count
    return replace(
        state,
        aims=where(last, state.aims.gather(1, order), state.aims),
        distance=where(last, known.gather(1, order), known),
    )


def _anywhere(drawn: tuple[Problem, Tensor]) -> Images:
    problem, step = drawn
    return problem.region.start(problem.key, 3 * step)
