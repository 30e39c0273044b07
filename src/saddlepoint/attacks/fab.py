"""FAB and FAB-T: step onto the linearised decision boundary, with a pull towards the clean image."""

from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from saddlepoint import losses
from saddlepoint.attacks.ascent import ANY, SHARE, SOME, require
from saddlepoint.attacks.protocol import Answer, Attack, Problem, Run, ranked
from saddlepoint.geometry import Ball, Region
from saddlepoint.geometry.maximisers import inner
from saddlepoint.geometry.norms import spread, wide
from saddlepoint.rows import renew, where
from saddlepoint.typing import Images, Labels, Logits, Mask, PerExample


@dataclass(frozen=True, slots=True)
class Boundary:
    """The linearised boundary with one class, {z : f(δ) + ⟨∇f(δ), z − δ⟩ = 0}, for f = z_t − z_y.

    Attributes:
        normal: ∇f(δ), (B, C, H, W).
        value: f(δ), (B,).
        offset: b in ⟨∇f, z⟩ = b, (B,).
        distance: |f(δ)|/‖∇f(δ)‖_*, from δ and without a box, (B,).
    """

    normal: Images
    value: PerExample
    offset: PerExample
    distance: PerExample


@dataclass(frozen=True, slots=True)
class State:
    """State of a run.

    Attributes:
        delta: the point, (B, C, H, W).
        step: how many linearised steps led there, (B,).
        fresh: whether the point has not been checked for success yet, (B,).
        aim: how many of the other classes have been linearised at this point, (B,).
        boundary: the nearest boundary among those.
        box: the bounds of δ that keep x + δ in the pixel box.
    """

    delta: Images
    step: Tensor
    fresh: Mask
    aim: Tensor
    boundary: Boundary
    box: tuple[Images, Images]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FAB(Attack):
    """The Fast Adaptive Boundary attack (Croce & Hein 2020, algorithm 1): it looks for the nearest adversarial point.

    Each step projects δ and the clean image, in the norm of the ball, onto the linearised boundary inside the pixel
    box, overshoots both by η and mixes them (`approach`). The point is then checked; from an adversarial one the search
    goes back to βδ. Points may lie outside the ball; the loop keeps those inside.

    A step costs two forwards and one backward. Checks compute no gradient: on robust models half to three quarters of
    them succeed, and a gradient computed there would be discarded.

    FAB-T aims at one class per run. FAB linearises the boundaries with all K − 1 other classes before each step, at one
    forward and one backward each, and steps to the nearest.

    Attributes:
        steps: linearised steps of each run.
        targets: how many of the other classes are aimed at, by decreasing clean logit (FAB-T); 0 for FAB.
        restarts: runs per target; the first begins at δ = 0, the others at distance ε/2 in a random direction.
        alpha_max: the largest weight of the clean image's projection.
        eta: η ≥ 1, how far a step goes, in units of the way to the boundary.
        beta: β ∈ (0, 1), the share of δ that is left after a step back.
    """

    paper: ClassVar[str] = "Croce & Hein 2020"
    tolerance: ClassVar[float] = 1.0  # it minimises the distance, not the margin
    roams: ClassVar[bool] = True

    steps: int = 100
    targets: int = 9
    restarts: int = 1
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9

    def __post_init__(self) -> None:
        require(self, steps=SOME, targets=ANY, restarts=SOME, eta=SOME, beta=SHARE, alpha_max=SHARE)

    @property
    def name(self) -> str:
        """FAB-T if runs aim at single classes, else FAB."""
        return "FAB-T" if self.targets else "FAB"

    def runs(self, logits: Logits, y: int) -> tuple[Run, ...]:
        """Return all restarts for the likeliest other class, then for the second, and so on."""
        targets = ranked(logits, y)[: self.targets] if self.targets else [None]
        return tuple(Run(restart, target) for target in targets for restart in range(self.restarts))

    def init(self, problem: Problem) -> State:
        """Start at the clean image, at a random point near it, or at the point that was given."""
        none, delta = torch.zeros_like(problem.y), begin(problem) if problem.start is None else problem.start
        nowhere = torch.full_like(problem.region.radius, torch.inf)
        boundary = Boundary(torch.zeros_like(delta), nowhere, nowhere, nowhere)
        return State(delta, none, none > 0, none, boundary, problem.region.box)

    def ask(self, problem: Problem, state: State) -> Images:
        """Ask for the current point, once per class to linearise and once to check; at last for the nearest one in Δ.

        A point outside is worth nothing there; the nearest one inside is what a run without success has to show.
        """
        last = state.fresh & (state.step >= self.steps)
        return renew(last, _brought, (problem.region, state.delta), state.delta)

    def objective(self, problem: Problem, state: State, logits: Logits) -> PerExample:
        """Return f = z_t − z_y; for a targeted problem, z_t − max_{j≠t} z_j."""
        aim = aimed(problem, state.aim)
        if problem.targeted:
            return losses.targeted_margin(logits, aim)
        return (logits.gather(1, aim[:, None]) - logits.gather(1, problem.y[:, None])).squeeze(1)

    def tell(self, problem: Problem, state: State, answer: Answer) -> State:
        """Pull a new adversarial point back to βδ; otherwise linearise the next class and, after the last, step."""
        back = state.fresh & answer.adversarial
        delta = renew(back, lambda delta: self.beta * delta, state.delta, state.delta)
        checked = replace(state, delta=delta, fresh=torch.zeros_like(state.fresh))
        if answer.gradient is None:
            return checked
        return renew(~state.fresh, self._looked, (problem, state, answer), checked)

    def _looked(self, told: tuple[Problem, State, Answer]) -> State:
        """Keep the nearest boundary so far; step if it was the last."""
        problem, state, answer = told
        assert answer.loss is not None and answer.gradient is not None  # noqa: S101, PT018 - rows that wanted a gradient got one
        new = linearise(problem.region.ball, state.delta, answer.loss, answer.gradient)
        boundary = where((state.aim == 0) | (new.distance < state.boundary.distance), new, state.boundary)
        looked = replace(state, aim=state.aim + 1, boundary=boundary)
        return renew(looked.aim >= others(problem), self._stepped, (problem.region.ball, looked), looked)

    def _stepped(self, moved: tuple[Ball, State]) -> State:
        """Step to a new point, to be checked next."""
        ball, state = moved
        delta = approach(ball, state.delta, state.boundary, *state.box, self.alpha_max, self.eta)
        return replace(state, delta=delta, step=state.step + 1, fresh=~state.fresh, aim=torch.zeros_like(state.aim))

    def finished(self, state: State) -> Mask:
        """Finish when the last step's point has been checked."""
        return (state.step >= self.steps) & ~state.fresh

    def length(self, problem: Problem) -> int:
        """Return, for every step, one point per class and one check."""
        return self.steps * (others(problem) + 1)

    def differentiates(self, state: State) -> Mask:
        """Ask for no gradient with a check."""
        return ~state.fresh


def _brought(outside: tuple[Region, Images]) -> Images:
    """Return δ, projected onto Δ."""
    region, delta = outside
    return region.project(delta)


def begin(problem: Problem) -> Images:
    """Return δ = 0 for a first run; ‖δ‖ = ε/2 in a random direction, before clipping to the box, for the others."""
    if problem.restart is None:
        return torch.zeros_like(problem.x)
    ball, (low, high) = problem.region.ball, problem.region.box
    u = ball.uniform(problem.key, 0, tuple(problem.x.shape[1:]))
    length = problem.region.radius / 2 / ball.norm(u) * (problem.restart > 0)
    return torch.clamp((spread(length, u) * u).to(problem.x.dtype), low, high)


def others(problem: Problem) -> int:
    """Return how many classes are linearised before a step."""
    return problem.clean_logits.shape[1] - 1 if problem.target is None else 1


def aimed(problem: Problem, aim: Tensor) -> Labels:
    """Return the target or, without one, the class in place `aim` among those other than y."""
    return aim + (aim >= problem.y) if problem.target is None else problem.target


def linearise(ball: Ball, delta: Images, value: PerExample, gradient: Images) -> Boundary:
    """Return the boundary of f linearised at δ, given f(δ) and ∇f(δ).

    Args:
        ball: whose dual norm turns |f| into a distance.
        delta: the points δ, (B, C, H, W).
        value: f(δ), (B,).
        gradient: ∇f(δ), (B, C, H, W).
    """
    value, steepness = wide(value), ball.dual_norm(gradient)
    distance = value.abs() / steepness.clamp(min=torch.finfo(gradient.dtype).tiny)
    return Boundary(gradient, value, inner(gradient, delta) - value, distance)


def approach(
    ball: Ball, delta: Images, boundary: Boundary, low: Images, high: Images, alpha_max: float, eta: float
) -> Images:
    """Return clip((1 − α)(δ + η(p − δ)) + αηq), with p and q the projections of δ and of the clean image.

    Both are onto boundary ∩ box, and α = min(‖p − δ‖ / (‖p − δ‖ + ‖q‖), α_max).

    Args:
        ball: whose norm measures the distances.
        delta: the points δ, (B, C, H, W).
        boundary: the linearised boundary at δ.
        low: the least δ that the box allows, (B, C, H, W).
        high: the largest.
        alpha_max: the largest share α of the clean image's projection.
        eta: the overshoot η ≥ 1 beyond the boundary.
    """
    move = ball.toward(boundary.normal, -boundary.value, low - delta, high - delta)
    far = ball.toward(boundary.normal, boundary.offset, low, high)
    near = ball.norm(move).clamp(min=1e-8)
    alpha = spread((near / (near + ball.norm(far).clamp(min=1e-8))).clamp(max=alpha_max), delta)
    return torch.clamp((1 - alpha) * (delta + eta * move) + alpha * eta * far, low, high)
