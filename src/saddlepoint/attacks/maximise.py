"""max_{δ∈Δ} ℓ(h(x + δ), y) for a whole batch: the loop as the tutorial writes it."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from saddlepoint import losses
from saddlepoint.attacks.goals import Goal, Last
from saddlepoint.attacks.protocol import Access, Answer, Attack, Problem
from saddlepoint.classifier import PassingClamps
from saddlepoint.errors import ModelError
from saddlepoint.rows import where
from saddlepoint.typing import Images, Labels, Logits, Mask, PerExample

Model = Callable[[Images], Logits]
"""Logits of pixels: an `sp.Classifier` in whatever mode its caller has put it, or a function."""

_DETACHED = (
    "no gradient reaches the pixels: the model detaches them; bridge what does so with sp.BPDA(function, substitute), "
    "or attack with sp.Square(), which needs no gradient"
)


def maximise(attack: Attack, problem: Problem, model: Model, goal: Goal | None = None) -> Images:
    """Return a δ ∈ Δ per row at which the attack's objective is high.

    The attack asks for one point per row and is told the answer, until all rows are done. Every row is searched to the
    end, a misclassified one, too. Nothing waits for the device, and nobody verifies: `sp.attack` is the same search for
    a stream of examples, and reports verified rows. This one serves training, where δ is evaluated again anyway.

    Args:
        attack: the algorithm; its runs beyond the first are not made.
        problem: the rows, made by `pose`.
        model: h; parameters that require no gradient make it twice as fast.
        goal: which of its points to return: `Fool()`, the one of least margin; `Last()`, the last iterate, which then
            is not evaluated; `Nearest()`, the adversarial one of least norm. The attack's own goal when not given.

    Returns:
        δ, (B, C, H, W), without a graph.
    """
    goal = attack.goal if goal is None else goal
    last = isinstance(goal, Last)
    state, best, length = attack.init(problem), nothing(problem), attack.length(problem)
    for asked in range(1, length + 1):
        delta = attack.ask(problem, state)
        if last and asked == length:
            return problem.region.project(delta) if attack.as_given else delta
        answer = evaluate(attack, problem, state, delta, model, differentiate=asked < length)
        margin, adversarial = margin_of(problem, answer.logits)
        if not last:
            new = worth(attack, goal, problem, delta, margin, adversarial)
            best = where(goal.improves(new.score, best.score) & ~attack.finished(state), new, best)
        state = attack.tell(problem, state, told(attack, answer, adversarial))
    return best.delta


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What the model says at x + δ: logits (B, K), the objective (B,), and its gradient in δ, if it was asked for."""

    delta: Images
    logits: Logits
    objective: PerExample
    gradient: Images | None


@dataclass(frozen=True, slots=True)
class Kept:
    """A point of each row, its score under a goal, and whether it is adversarial."""

    delta: Images
    score: PerExample
    adversarial: Mask


def evaluate(
    attack: Attack, problem: Problem, state: object, delta: Images, model: Model, *, differentiate: bool
) -> Evaluated:
    """Call the model once, at one point per row, and differentiate the attack's objective in δ.

    Whether a graph is recorded depends on the attack alone: some layers compute otherwise without one. A clamp has a
    gradient at its bounds, where torch gives it none (`PassingClamps`), but for attacks that reproduce a plain loop.

    Args:
        attack: whose objective it is.
        problem: the rows.
        state: of the attack, for objectives that change in its course.
        delta: the points, (B, C, H, W).
        model: h.
        differentiate: whether the gradient is wanted.
    """
    recorded = attack.access is Access.GRADIENT
    passing = recorded and not attack.as_given
    with torch.set_grad_enabled(recorded), PassingClamps() if passing else nullcontext():
        delta = delta.detach().requires_grad_(recorded)
        logits = _called(model, problem.x + delta)
        scored = attack.access is not Access.DECISION
        value = attack.objective(problem, state, logits) if scored else torch.zeros_like(logits[:, 0])
        gradient = _gradient(value, delta) if differentiate and recorded else None
    return Evaluated(delta.detach(), logits.detach(), value.detach(), gradient)


def _called(model: Model, pixels: Images) -> Logits:
    try:
        return model(pixels)
    except RuntimeError as error:
        if "call numpy() on" not in str(error):
            raise
        raise ModelError(
            "the module calls numpy() on its pixels, through which nothing can be differentiated; expected torch "
            "functions, or sp.BPDA around it, or an attack that needs no gradient, such as sp.Square"
        ) from None


def _gradient(value: PerExample, delta: Images) -> Images:
    if not value.requires_grad:
        raise ModelError(_DETACHED)
    try:
        gradient = torch.autograd.grad(value.sum(), delta, allow_unused=True)[0]
    except RuntimeError as error:
        if "use_reentrant" not in str(error):
            raise
        raise ModelError(
            "the module calls torch.utils.checkpoint with use_reentrant=True, through which pixels cannot be "
            "differentiated; expected use_reentrant=False"
        ) from None
    if gradient is None:
        raise ModelError(_DETACHED)
    return gradient.contiguous()


def told(attack: Attack, answer: Evaluated, adversarial: Mask) -> Answer:
    """Return what the attack may see of an evaluation."""
    scored = attack.access is not Access.DECISION
    return Answer(
        delta=answer.delta,
        label=answer.logits.argmax(1),
        adversarial=adversarial,
        logits=answer.logits if scored else None,
        loss=answer.objective if scored else None,
        gradient=answer.gradient,
    )


def margin_of(problem: Problem, logits: Logits) -> tuple[PerExample, Mask]:
    """Return by how much the aim of the problem is missed, and whether it is reached; see `judge`."""
    return judge(logits, problem.y, problem.target if problem.targeted else None)


def judge(logits: Logits, y: Labels, target: Labels | None) -> tuple[PerExample, Mask]:
    """Return the margin by which success is missed, ≤ 0 on success, and whether it is reached.

    Untargeted z_y − max_{j≠y} z_j and misclassification; targeted max_{j≠t} z_j − z_t and the target predicted.
    The predicted class is the first of the largest logits. A NaN is no success.
    """
    finite = torch.isfinite(logits).all(1)
    if target is None:
        return losses.margin(logits, y), (logits.argmax(1) != y) & finite
    return -losses.margin(logits, target), (logits.argmax(1) == target) & finite


def worth(attack: Attack, goal: Goal, problem: Problem, delta: Images, margin: PerExample, adversarial: Mask) -> Kept:
    """Return the points and their scores; of an attack that leaves Δ, a point outside is worth nothing.

    Args:
        attack: that found the points.
        goal: which of its points are kept.
        problem: the rows.
        delta: the points, (B, C, H, W).
        margin: by which each misses the aim, (B,).
        adversarial: where it is reached, (B,).
    """
    if attack.as_given:
        delta = problem.region.project(delta)  # a plain clamp may miss Δ by a last bit; what is kept may not
    score = goal.score(problem.region, delta, margin, adversarial)
    if not attack.roams:
        return Kept(delta, score, adversarial)
    inside = problem.region.contains(delta)
    return Kept(delta, score.masked_fill(~inside, torch.inf), adversarial & inside)


def nothing(problem: Problem) -> Kept:
    """Return the clean images, which any point improves on."""
    score = torch.full_like(problem.x.flatten(1)[:, 0], torch.inf)
    return Kept(torch.zeros_like(problem.x), score, torch.zeros_like(score, dtype=torch.bool))
