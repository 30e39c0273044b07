"""Auto-PGD for the ℓ1 ball: sparse steps, and radii that shrink to ε."""

import math
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import ClassVar, final

import torch
from torch import Tensor

from saddlepoint import random
from saddlepoint.attacks.apgd import Best
from saddlepoint.attacks.ascent import ANY, SOME, Loss, climbed, loss_name, require
from saddlepoint.attacks.protocol import Answer, Attack, Problem, Run, ranked
from saddlepoint.geometry import Region
from saddlepoint.geometry.norms import rows, spread
from saddlepoint.rows import where
from saddlepoint.typing import Images, Logits, Mask, PerExample

STRETCHES = (3.0, 2.0, 1.0)
"""Radii of the three phases, in units of ε."""


@dataclass(frozen=True, slots=True)
class StepSize:
    """Step length in units of the phase's radius, the share of pixels that a step moves, and ‖δ‖₀ at the last check."""

    size: PerExample
    share: PerExample
    support: PerExample


@dataclass(frozen=True, slots=True)
class State:
    """An iterate, the highest point of the phase, the pace, and how many points have been evaluated."""

    delta: Images
    peak: Best
    pace: StepSize
    step: Tensor


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class APGDL1(Attack):
    """ℓ1-APGD (Croce & Hein 2021, "Mind the box", algorithm 1): δ ← P(δ + η·sign ∇ℓ on its largest entries).

    Three phases, of 30, 30 and 40 % of the steps, search balls of radius 3ε, 2ε and ε around the example, each from
    the projection of the highest point of the one before (§4.3). After every 4 % of a phase's steps, with s = ‖δ‖₀ of
    its highest point, the steps move s/1.5 pixels; η returns to the radius and the ascent to the highest point where s
    fell below 95 % of what it was, and is divided by 1.5, down to a tenth of the radius, elsewhere. The projection is
    the exact one on ball ∩ box.

    Attributes:
        steps: number of updates; steps + 3 points are evaluated.
        loss: "cross-entropy" (APGD-CE), "dlr" (APGD-DLR), or another of `saddlepoint.losses`.
        targets: as in `APGD`; 5 with "dlr" in AutoAttack.
        restarts: independent runs, of each target; 5 in AutoAttack's first stage.
    """

    norms: ClassVar[tuple[str, ...]] = ("l1",)
    paper: ClassVar[str] = "Croce & Hein 2021"
    roams: ClassVar[bool] = True
    tolerance: ClassVar[float] = 0.1  # from two pixels it never goes to one: ⌈2/1.5⌉ = 2

    steps: int = 100
    loss: Loss = "cross-entropy"
    targets: int = 0
    restarts: int = 1

    def __post_init__(self) -> None:
        require(self, steps="[3, ∞)", targets=ANY, restarts=SOME)

    @property
    def name(self) -> str:
        """As `APGD` in the other norms."""
        kind = {"cross-entropy": "CE", "dlr": "DLR"}.get(name := loss_name(self.loss), name)
        return "APGD-T" if self.targets and self.loss == "dlr" else f"APGD-{kind}" + "-T" * bool(self.targets)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Steps of the phases."""
        early = math.ceil(0.3 * self.steps)
        return early, early, self.steps - 2 * early

    def runs(self, logits: Logits, y: int) -> tuple[Run, ...]:
        """Return the restarts of each target, or of the one ascent without any."""
        targets = ranked(logits, y)[: self.targets] if self.targets else [None]
        return tuple(Run(restart, target) for target in targets for restart in range(self.restarts))

    def init(self, problem: Problem) -> State:
        """Begin at normal noise, projected on the widest ball."""
        delta = problem.start
        if delta is None:
            noise = random.normal(problem.key, 0, tuple(problem.x.shape[1:])).to(problem.x.dtype)
            delta = _stretched(problem.region, torch.full_like(problem.region.radius, STRETCHES[0])).project(noise)
        peak = Best(delta, torch.zeros_like(delta), problem.zeros - torch.inf)
        return State(delta, peak, _fresh(delta), torch.zeros_like(problem.y))

    def ask(self, problem: Problem, state: State) -> Images:
        """Ask for the iterate."""
        return state.delta

    def objective(self, problem: Problem, state: State, logits: Logits) -> PerExample:
        """Return the named loss."""
        return climbed(self.loss, problem, logits)

    def tell(self, problem: Problem, state: State, answer: Answer) -> State:
        """Note how high the iterate is, adapt the pace, and step; at the end of a phase, begin the next."""
        phase, done, length = self._place(state.step)
        gradient = torch.zeros_like(state.delta) if answer.gradient is None else answer.gradient
        assert answer.loss is not None  # noqa: S101 - a gradient attack is told the loss
        here = Best(state.delta, gradient, answer.loss)
        peak = where((done == 0) | (here.loss > state.peak.loss), here, state.peak)
        window = self._table(tuple(max(int(0.04 * steps), 1) for steps in self.lengths), phase)
        due = (done > 0) & (done % window == 0)
        pace, back = _checked(state.pace, peak.delta, due)
        base = where(back, peak, here)
        region = _stretched(problem.region, self._table(STRETCHES, phase))
        step = spread(pace.size * region.radius, base.delta) * region.ball.steepest(base.gradient, pace.share)
        following = _stretched(problem.region, self._table((*STRETCHES[1:], STRETCHES[-1]), phase))
        ends = done == length
        delta = where(ends, following, region).project(where(ends, peak.delta, base.delta + step))
        return State(delta, peak, where(ends, _fresh(delta), pace), state.step + 1)

    def finished(self, state: State) -> Mask:
        """Finish when every point of every phase has been answered."""
        return state.step >= self.steps + len(STRETCHES)

    def length(self, problem: Problem) -> int:
        """Return one point more than steps in each phase."""
        return self.steps + len(STRETCHES)

    def differentiates(self, state: State) -> Mask:
        """Want a gradient at every iterate but the last of each phase."""
        _, done, length = self._place(state.step)
        return done < length

    def _place(self, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the phase in which a point is evaluated, the steps that it has taken, and the steps that it has."""
        starts = (0, *accumulate(length + 1 for length in self.lengths[:-1]))
        phase = sum((step >= start).long() for start in starts[1:]) + torch.zeros_like(step)
        return phase, step - self._table(starts, phase).long(), self._table(self.lengths, phase).long()

    @staticmethod
    def _table(values: tuple[float, ...], phase: Tensor) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=phase.device)[phase]


def _stretched(region: Region, factor: PerExample) -> Region:
    """Return the region with its radii multiplied."""
    return replace(region, ball=replace(region.ball, eps=region.radius * factor))


def _fresh(delta: Images) -> StepSize:
    """Return the pace at the start of a phase."""
    support = _support(delta)
    return StepSize(torch.ones_like(support), _share(support, delta), support)


def _checked(pace: StepSize, peak: Images, due: Mask) -> tuple[StepSize, Mask]:
    """Return the pace after a check where one is due, and which rows go back to the highest point."""
    support = _support(peak)
    back = due & (support < 0.95 * pace.support)
    size = torch.where(back, 1, (pace.size / 1.5).clamp(min=0.1))
    return where(due, StepSize(size, _share(support, peak), support), pace), back


def _support(delta: Images) -> PerExample:
    """Return ‖δ‖₀."""
    return rows(delta != 0).sum(1).float()


def _share(support: PerExample, delta: Images) -> PerExample:
    """Return the share of pixels to move, such that just ⌈s/1.5⌉ do; as the original rounds, in float32."""
    size = delta.shape[1:].numel()
    return (size - ((1 - support / size / 1.5) * size).floor()) / size
