"""Auto-PGD: momentum, and a step that halves itself when the ascent has stalled."""

from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from saddlepoint.attacks.ascent import ANY, SHARE, SOME, Loss, climbed, loss_name, require
from saddlepoint.attacks.protocol import Answer, Attack, Problem, Run, ranked
from saddlepoint.geometry import Region
from saddlepoint.geometry.norms import beside, spread
from saddlepoint.random import Counter
from saddlepoint.rows import where
from saddlepoint.typing import Images, Logits, Mask, PerExample

MOMENTUM = 0.75


@dataclass(frozen=True, slots=True)
class Best:
    """A point, the gradient there and the loss: (B, C, H, W), (B, C, H, W), (B,)."""

    delta: Images
    gradient: Images
    loss: PerExample


@dataclass(frozen=True, slots=True)
class StepSize:
    """What decides on the length of a step, row by row, (B,) each.

    Attributes:
        size: η in units of ε.
        window: steps between the last check and the next.
        since: steps since the last check.
        rises: of which raised the loss.
        level: the highest loss at the last check.
        halved: whether η was halved there.
    """

    size: PerExample
    window: Tensor
    since: Tensor
    rises: Tensor
    level: PerExample
    halved: Mask


@dataclass(frozen=True, slots=True)
class State:
    """Where an ascent stands: its iterate, the point before it, the loss there, the highest point, and its pace."""

    delta: Images
    previous: Images
    loss: PerExample
    peak: Best
    pace: StepSize
    step: Tensor


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class APGD(Attack):
    """Auto-PGD (Croce & Hein 2020, algorithm 1): z = P(x + η·steepest ∇ℓ), x ← P(x + ¾(z − x) + ¼(x − x_previous)).

    η begins at 2ε. At the checks w_j it is halved, and the ascent resumes from its highest point, where the loss rose
    in no more than a share ρ of the steps since the last check, or where neither η nor the highest loss has changed
    since then. Every row has checks of its own: rows at different steps share a batch.

    Attributes:
        steps: number of updates; steps + 1 points are evaluated.
        loss: "cross-entropy" (APGD-CE), "dlr" (APGD-DLR), or another of `saddlepoint.losses`.
        targets: aim at each of this many classes, the likeliest wrong ones first (9 with "dlr": APGD-T); any
            misclassification succeeds. 0 aims at none.
        restarts: independent runs, of each target.
        rho: ρ.
        reference: follow the original's code to rounding: rescale and clamp instead of project, and count a rise at
            the first check if the first loss was positive.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    paper: ClassVar[str] = "Croce & Hein 2020"

    steps: int = 100
    loss: Loss = "cross-entropy"
    targets: int = 0
    restarts: int = 1
    rho: float = 0.75
    reference: bool = False

    def __post_init__(self) -> None:
        require(self, steps=SOME, targets=ANY, restarts=SOME, rho=SHARE)

    @property
    def name(self) -> str:
        """APGD-CE, APGD-DLR or, with targets, APGD-T."""
        kind = {"cross-entropy": "CE", "dlr": "DLR"}.get(name := loss_name(self.loss), name)
        return "APGD-T" if self.targets and self.loss == "dlr" else f"APGD-{kind}" + "-T" * bool(self.targets)

    @property
    def as_given(self) -> bool:
        """As the original, which computes on the weights as they were given."""
        return self.reference

    def runs(self, logits: Logits, y: int) -> tuple[Run, ...]:
        """Return the restarts of each target, or of the one ascent without any."""
        targets = ranked(logits, y)[: self.targets] if self.targets else [None]
        return tuple(Run(restart, target) for target in targets for restart in range(self.restarts))

    def init(self, problem: Problem) -> State:
        """Begin at a random point of the ball's surface, as far as the box reaches."""
        delta = surface(problem) if problem.start is None else problem.start
        zero, count = problem.zeros, torch.zeros_like(problem.y)
        # Croce & Hein 2020, section 3.2: the first window is 0.22 of the steps; each is 0.03 shorter, 0.06 at least.
        window = count + max(int(0.22 * self.steps), 1)
        pace = StepSize(zero + 2, window, since=count - 1, rises=count, level=zero, halved=count == 0)
        peak = Best(delta, torch.zeros_like(delta), zero - torch.inf)
        return State(delta, delta, loss=zero + torch.inf, peak=peak, pace=pace, step=count)

    def ask(self, problem: Problem, state: State) -> Images:
        """Ask for the iterate."""
        return state.delta

    def objective(self, problem: Problem, state: State, logits: Logits) -> PerExample:
        """Return the named loss."""
        return climbed(self.loss, problem, logits)

    def tell(self, problem: Problem, state: State, answer: Answer) -> State:
        """Note how high the iterate is, adapt the pace, and step from it, or from the highest point if stalled."""
        if answer.gradient is None or answer.loss is None:
            return replace(state, step=state.step + 1)
        here = Best(state.delta, answer.gradient, answer.loss)
        peak = where(here.loss > state.peak.loss, here, state.peak)
        pace, stalled = self._check(state.pace, here.loss > state.loss, peak.loss)
        base = where(stalled, peak, here)
        loss = torch.where(state.step == 0, 0, here.loss) if self.reference else here.loss
        return State(self._move(problem, state, base, pace), base.delta, loss, peak, pace, state.step + 1)

    def finished(self, state: State) -> Mask:
        """Finish when the last iterate has been answered."""
        return state.step > self.steps

    def length(self, problem: Problem) -> int:
        """Return one point more than steps."""
        return self.steps + 1

    def differentiates(self, state: State) -> Mask:
        """Want a gradient at every iterate but the last."""
        return state.step < self.steps

    def _check(self, pace: StepSize, rose: Mask, height: PerExample) -> tuple[StepSize, Mask]:
        """Return the pace after another step, and which rows a check has found stalled (algorithm 1, lines 10-13)."""
        since, rises = pace.since + 1, pace.rises + rose
        due = since == pace.window
        stalled = due & ((rises <= self.rho * pace.window) | (~pace.halved & (pace.level >= height)))
        shorter = (pace.window - max(int(0.03 * self.steps), 1)).clamp(min=max(int(0.06 * self.steps), 1))
        counted = StepSize(pace.size, pace.window, since, rises, pace.level, pace.halved)
        checked = StepSize(
            torch.where(stalled, pace.size / 2, pace.size), shorter, 0 * since, 0 * rises, height, stalled
        )
        return where(due, checked, counted), stalled

    def _move(self, problem: Problem, state: State, base: Best, pace: StepSize) -> Images:
        """Return P(x + a(z − x) + (1 − a)(x − x_previous)) with z = P(x + η·steepest ∇ℓ); a = 1 for the first step."""
        project = _rescale if self.reference else Region.project
        region, x = problem.region, base.delta
        length = pace.size * region.radius
        ahead = project(region, x + spread(length, x) * region.ball.steepest(base.gradient))
        share = beside(torch.where(state.step == 0, 1, MOMENTUM).to(x.dtype), x)
        return project(region, x + share * (ahead - x) + (1 - share) * (x - state.previous))


def surface(problem: Problem, counter: Counter = 0) -> Images:
    """Return random points with ‖δ‖ = ε, before they are projected on the box: in ℓ2 uniform on the sphere."""
    region = problem.region
    u = region.ball.uniform(problem.key, counter, tuple(problem.x.shape[1:]))
    return region.project((spread(region.radius / region.ball.norm(u), u) * u).to(problem.x.dtype))


def _rescale(region: Region, delta: Images) -> Images:
    """Return a point of Δ as AutoAttack makes it: shortened to ε, then clipped to the box. Not the projection in ℓ2."""
    factor = (region.radius / region.ball.norm(delta)).clamp(max=1).nan_to_num(1)
    return torch.clamp(delta if region.ball.separable else spread(factor, delta) * delta, region.low, region.high)
