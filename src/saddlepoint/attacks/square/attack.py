"""Square: random search with square-shaped changes, from the model's scores alone."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from saddlepoint import random
from saddlepoint.attacks.ascent import SHARE, SOME, Loss, climbed, require
from saddlepoint.attacks.protocol import Access, Answer, LookAhead, Problem, Run
from saddlepoint.attacks.square import patterns, proposals, schedule
from saddlepoint.rows import renew, where
from saddlepoint.typing import Images, Logits, Mask, PerExample


@dataclass(frozen=True, slots=True)
class State:
    """The best point, its loss, the number of answers so far, and random draws for the next proposals."""

    best: Images
    loss: PerExample
    answered: Tensor
    draws: schedule.Draws


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Square(LookAhead):
    """Change δ inside one random square window at a time; keep the changes that raise the loss.

    Andriushchenko, Croce, Flammarion & Hein 2020, alg. 1. In ℓ∞ each channel of a window becomes ±ε (alg. 2). In ℓ2
    the mass of a second window moves into the first, in the shape η (alg. 3), and likewise in ℓ1 (Croce & Hein 2021).
    A window covers the share p of the pixels; p starts at `p_init` and halves after 10, 50, 200, 500, … proposals.

    Differences from the official PyTorch code: every example draws its own windows, where the official code shares one
    window per batch; windows reach the last row and column; and an ℓ∞ proposal that would change nothing has its signs
    flipped, where the official code spends a query on it.

    Attributes:
        queries: points evaluated after the start.
        p_init: p of the first schedule.
        restarts: independent runs; when one wins, later ones are cancelled.
        rescale: stretch the schedule of p, made for 10,000 queries, to `queries`; AutoAttack does not.
        loss: a name in `saddlepoint.losses`.
    """

    access: ClassVar[Access] = Access.SCORES
    tolerance: ClassVar[float] = 0.8  # a random search; in ℓ2 and ℓ1, smooth shapes fit noisy weights badly
    paper: ClassVar[str] = "Andriushchenko et al. 2020"

    queries: int = 5000
    p_init: float = 0.8
    restarts: int = 1
    rescale: bool = False
    loss: Loss = "margin"

    def __post_init__(self) -> None:
        require(self, queries=SOME, p_init=SHARE, restarts=SOME)

    def runs(self, logits: Logits, y: int) -> tuple[Run, ...]:
        """Return one run per restart."""
        return tuple(Run(restart) for restart in range(self.restarts))

    def init(self, problem: Problem) -> State:
        """Start at stripes in ℓ∞, at tiles of η in ℓ2 and ℓ1, or at the point that was given."""
        start = begin(problem) if problem.start is None else problem.start
        nothing = problem.zeros - torch.inf
        answered = torch.zeros_like(problem.y)
        draws = schedule.draws(problem.key, answered, problem.x.shape[1])
        return State(start, nothing, answered, draws)

    def ask(self, problem: Problem, state: State) -> Images:
        """Ask for the start, then for one proposal at a time."""
        return renew(state.answered > 0, lambda rows: self._proposal(*rows), (problem, state), state.best)

    def objective(self, problem: Problem, state: State, logits: Logits) -> PerExample:
        """Return the named loss."""
        return climbed(self.loss, problem, logits)

    def tell(self, problem: Problem, state: State, answer: Answer) -> State:
        """Keep a point whose loss is higher."""
        assert answer.loss is not None, "Square was told no loss"  # noqa: S101 - the loop's promise to SCORES
        new = answer.delta, answer.loss.to(state.loss.dtype)
        best, loss = where(~self.rejects(state, answer), new, (state.best, state.loss))
        return self.skip(problem, replace(state, best=best, loss=loss), torch.ones_like(state.answered))

    def rejects(self, state: State, answer: Answer) -> Mask:
        """Return where the point is no better."""
        assert answer.loss is not None, "Square was told no loss"  # noqa: S101 - the loop's promise to SCORES
        return ~(answer.loss.to(state.loss.dtype) > state.loss)

    def skip(self, problem: Problem, state: State, by: Tensor) -> State:
        """Advance the number of the proposal, which alone determines its random draws."""
        answered, channels = state.answered + by, problem.x.shape[1]
        first = answered - answered % schedule.AHEAD
        drawn, fresh = (problem.key, first), first > state.answered
        draws = renew(fresh, lambda rows: schedule.draws(*rows, channels), drawn, state.draws)
        return replace(state, answered=answered, draws=draws)

    def finished(self, state: State) -> Mask:
        """Finish when the start and all queries have been answered."""
        return state.answered > self.queries

    def length(self, problem: Problem) -> int:
        """Return the start and every proposal."""
        return self.queries + 1

    def _proposal(self, problem: Problem, state: State) -> Images:
        """Return the next proposal: the best point with one window changed."""
        delta, proposal, draws = state.best, state.answered, state.draws
        region, shape = problem.region, tuple(delta.shape[1:])
        (_, height, width), norm = shape, region.ball.p
        level = schedule.level(proposal, self.stretch)
        side = schedule.sides(self.p_init, height, width, norm, delta.device)[level]
        draw = schedule.draw(draws, proposal, side, shape, delta.dtype)
        first = schedule.window(draw.first, side, height, width)
        if norm == math.inf:
            return proposals.repaint(region, delta, first, draw.signs)
        second = schedule.window(draw.second, side, height, width)
        table = patterns.bumps(schedule.sides_of(self.p_init, height, width, norm), norm, delta.device, delta.dtype)
        eta = patterns.place(table, level, draw.first, draw.turned, height, width)
        return proposals.shift(region, delta, first, second, eta * draw.signs[:, :, None, None])

    @property
    def stretch(self) -> int | None:
        """Number of queries over which the schedule is stretched; None for the paper's 10,000."""
        return self.queries if self.rescale else None


def begin(problem: Problem) -> Images:
    """Return a random start of each row: stripes or tiles."""
    channels, height, width = problem.x.shape[1:]
    if problem.region.ball.p == math.inf:
        draws = random.bits(problem.key, 0, channels * width).reshape(-1, channels, 1, width)
        return proposals.stripes(problem.region, schedule.signs(draws, problem.x.dtype))
    count = proposals.tile_count(height, width)
    draws = random.bits(problem.key, 0, (1 + channels) * count).reshape(-1, 1 + channels, count)
    return proposals.tiles(problem.region, schedule.odd(draws[:, 0]), schedule.signs(draws[:, 1:], problem.x.dtype))
