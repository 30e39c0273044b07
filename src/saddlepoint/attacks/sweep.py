"""Short ascents, each aimed at another class: the nearest first, and more and longer ones where it is close."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from saddlepoint import losses
from saddlepoint.attacks.apgd import surface
from saddlepoint.attacks.ascent import ANY, SOME, require
from saddlepoint.attacks.protocol import Answer, Attack, Problem
from saddlepoint.geometry.norms import spread
from saddlepoint.rows import renew
from saddlepoint.typing import Images, Labels, Logits, Mask, PerExample

NOWHERE = -1
"""The aim of a round that leads away from the label, to no class in particular."""


@dataclass(frozen=True, slots=True)
class Round:
    """One ascent under way: δ, its momentum, how many steps it has taken, (B,), and the class it aims at, (B,)."""

    delta: Images
    velocity: Images
    step: Tensor
    aim: Labels


@dataclass(frozen=True, slots=True)
class State:
    """The round under way, and what those before it have found.

    Attributes:
        now: the round.
        past: rounds that have ended, (B,).
        tries: how often each class was aimed at, since the long rounds began, (B, K).
        reach: the highest z_j − z_y seen, (B, K).
        flat: whether the first round has changed little, (B,).
        over: whether the search has ended, (B,).
    """

    now: Round
    past: Tensor
    tries: Tensor
    reach: Logits
    flat: Mask
    over: Mask


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(Attack):
    """Rounds of ascent with momentum and a falling step: v ← μv + ∇ℓ/‖∇ℓ‖_*, δ ← P(δ + α_k·steepest(v)).

    The first round ascends the margin. Short rounds follow that aim at one class j each: of those least often aimed at,
    the one that has come nearest. Then long rounds: one away from the label, the others aimed again. Each begins at a
    random point of the sphere, and α_k = ε(1 + cos(πk/steps)).

    Rounds that aim ascend, in turn, the targeted DLR and the rescaled cross-entropy of class j, for different losses
    break different images; a round away from the label ascends the rescaled cross-entropy. So the points of a search
    remain the same when all logits are scaled by a > 0 or shifted by b.

    After a round an example goes on if it deserves another: (short + long)·(1 − r)² rounds after the first, where r is
    the share that is left of its clean margin. Near the boundary effort pays; far from it, no attack ever succeeds. But
    where the first round has left more than the share `flat`, its ascent says little about where the boundary is, and
    the example deserves all short rounds.

    In kind this is MultiTargeted (Gowal et al. 2019) with the schedules of recent margin attacks (Xie et al. 2025);
    the classes chosen by what nearly won, losses in turn, and the effort by what is left, are ours.

    Attributes:
        first: steps of the first round.
        short: how many short rounds there are.
        short_steps: steps of each.
        long: how many long rounds there are.
        long_steps: steps of each.
        momentum: μ.
        sparsity: of steps in ℓ1, as in `PGD`; at least one coordinate moves.
        flat: the share of the clean margin above which the first round counts for little.
    """

    paper: ClassVar[str] = "this project, after Gowal et al. 2019"
    tolerance: ClassVar[float] = 0.05

    first: int = 10
    short: int = 10
    short_steps: int = 8
    long: int = 4
    long_steps: int = 50
    momentum: float = 0.6
    sparsity: float = 0.001
    flat: float = 0.8

    def __post_init__(self) -> None:
        require(
            self,
            first=SOME,
            short=ANY,
            short_steps=SOME,
            long=ANY,
            long_steps=SOME,
            momentum=ANY,
            sparsity="[0, 1]",
            flat="[0, 1]",
        )

    def init(self, problem: Problem) -> State:
        """Begin the first round."""
        count, none = torch.zeros_like(problem.y), torch.zeros_like(problem.clean_logits)
        delta = surface(problem) if problem.start is None else problem.start
        now = Round(delta, torch.zeros_like(delta), count, count + NOWHERE)
        return State(now, past=count, tries=none.long(), reach=none - torch.inf, flat=count > 0, over=count > 0)

    def ask(self, problem: Problem, state: State) -> Images:
        """Ask for the iterate."""
        return state.now.delta

    def objective(self, problem: Problem, state: State, logits: Logits) -> PerExample:
        """Return the loss of the round: of the class aimed at, or away from the label."""
        y, aim, past = problem.y, state.now.aim, state.past
        if problem.target is not None:
            return losses.targeted_margin(logits, problem.target)
        away = torch.where(past == 0, -losses.margin(logits, y), losses.rescaled_cross_entropy(logits, y))
        toward = torch.where(
            past % 2 == 1,  # in turn: of what DLR leaves, cross-entropy breaks some, and the other way round
            losses.targeted_dlr(logits, y, aim.clamp(min=0)),
            -losses.rescaled_cross_entropy(logits, aim.clamp(min=0)),
        )
        return torch.where(aim == NOWHERE, away, toward)

    def tell(self, problem: Problem, state: State, answer: Answer) -> State:
        """Note how near the classes have come; go on in the round, or begin the next."""
        assert answer.logits is not None  # noqa: S101 - a gradient attack is told the logits
        others = _gaps(answer.logits, problem.y).scatter(1, problem.y[:, None], -torch.inf)
        reach, ends = torch.maximum(state.reach, others), state.now.step == self._length(state)
        past, left = state.past + ends, _left(problem, reach)
        flat = torch.where(ends & (state.past == 0), left > self.flat, state.flat)
        over = state.over | (ends & (past > self._deserved(left, flat)))
        turn = past == self.short + 1
        aim, tries = _aimed(torch.where(turn[:, None], 0, state.tries), reach, nowhere=turn)
        moved = self._moved(problem, state, answer.gradient)
        now, tries = renew(ends, _begun, (problem, past, aim, tries), (moved, state.tries))
        return State(now, past, tries, reach, flat, over)

    def finished(self, state: State) -> Mask:
        """Finish when no further round is deserved."""
        return state.over

    def length(self, problem: Problem) -> int:
        """Return the points of all rounds; few rows deserve them all."""
        return self.first + 1 + self.short * (self.short_steps + 1) + self.long * (self.long_steps + 1)

    def differentiates(self, state: State) -> Mask:
        """Want a gradient at every iterate but the last of each round."""
        return state.now.step < self._length(state)

    def _length(self, state: State) -> Tensor:
        steps = torch.where(state.past <= self.short, self.short_steps, self.long_steps)
        return torch.where(state.past == 0, self.first, steps)

    def _deserved(self, left: PerExample, flat: Mask) -> PerExample:
        """Return how many rounds come after the first: (short + long)·(1 − r)², and the short ones on flat ground."""
        return torch.maximum(((self.short + self.long) * (1 - left).square()).ceil(), self.short * flat)

    def _moved(self, problem: Problem, state: State, gradient: Images | None) -> Round:
        now, region = state.now, problem.region
        if gradient is None:
            return Round(now.delta, now.velocity, now.step + 1, now.aim)
        size = region.ball.dual_norm(gradient)
        velocity = self.momentum * now.velocity + gradient / spread(torch.where(size > 0, size, 1), gradient)
        length = region.radius * (1 + torch.cos(math.pi * now.step / self._length(state)))
        delta = region.project(now.delta + region.ascent(velocity, now.delta, length, self.sparsity))
        return Round(delta, velocity, now.step + 1, now.aim)


def _begun(begun: tuple[Problem, Tensor, Labels, Tensor]) -> tuple[Round, Tensor]:
    """Return the first point of a round, given how many ended before it, its aim and the tries; the tries remain."""
    problem, past, aim, tries = begun
    delta = surface(problem, 3 * past)
    return Round(delta, torch.zeros_like(delta), torch.zeros_like(past), aim), tries


def _left(problem: Problem, reach: Logits) -> PerExample:
    """Return the share r of the clean margin that is left at the best point."""
    return (reach.amax(1) / -losses.margin(problem.clean_logits, problem.y)).clamp(0, 1).nan_to_num(1)


def _gaps(logits: Logits, y: Labels) -> Logits:
    """Return z_j − z_y, (B, K)."""
    return logits - logits.gather(1, y[:, None])


def _aimed(tries: Tensor, reach: Logits, nowhere: Mask) -> tuple[Labels, Tensor]:
    """Return the class that came nearest among those least often aimed at, or nowhere, and the tries with this one."""
    known = reach > -torch.inf
    least = tries.masked_fill(~known, torch.iinfo(tries.dtype).max).amin(1, keepdim=True)
    nearest = reach.masked_fill(tries > least, -torch.inf).argmax(1)
    counted = tries.scatter_add(1, nearest[:, None], (~nowhere).long()[:, None])
    return torch.where(nowhere, NOWHERE, nearest), counted
