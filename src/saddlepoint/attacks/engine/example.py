"""What travels through the pipeline: one example, and what has been found out about it."""

from dataclasses import dataclass, field

from torch import Tensor

from saddlepoint.attacks.goals import Goal
from saddlepoint.attacks.protocol import Run

Id = int | str

ZERO_GRADIENT, OVERTAKEN = "zero gradient", "black box beats gradients"
"""The doubts that an example can raise: signs that gradients are masked."""


@dataclass(frozen=True, slots=True)
class Input:
    """One example to attack; its tensors have no batch axis.

    Attributes:
        index: position in the stream.
        id: stable identity, from which its random streams derive.
        x: pixels, float32 (C, H, W).
        y: label.
        eps: radius of its ball, in pixel units.
        target: class to be predicted instead, or None.
        start: δ from which the attack is to begin, or None.
    """

    index: int
    id: Id
    x: Tensor
    y: int
    eps: float
    target: int | None = None
    start: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Passes:
    """Passes through the model, for one example; `steps` are the updates of δ between them."""

    steps: int = 0
    forwards: int = 0
    backwards: int = 0

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.steps + other.steps, self.forwards + other.forwards, self.backwards + other.backwards)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run reports: its point, how good that is, and whether the example is thereby done.

    `gradient_free` tells that no gradient was used, `zero_gradient` that one was exactly zero.
    """

    delta: Tensor
    score: float
    adversarial: bool
    won: bool
    passes: Passes
    attack: str
    goal: Goal
    run: Run
    gradient_free: bool = False
    zero_gradient: bool = False

    def better(self, other: "Outcome") -> bool:
        """Whether this outcome replaces an earlier one; scores compare under one goal only.

        Between goals an adversarial point comes first, and of two such the later: who asks for the nearest point after
        any point wants the nearest.
        """
        if self.adversarial != other.adversarial:
            return self.adversarial
        return self.score < other.score if self.goal == other.goal else self.adversarial


@dataclass(frozen=True, slots=True)
class Example:
    """An input, the logits of its clean image, the best point so far and what it cost.

    Attributes:
        given: the input.
        logits: of the clean image, (K,).
        best: the best outcome so far; None before any search, unless the example is wrong from the start.
        margin: of the clean image, by which the goal is missed.
        misclassified: the goal is reached from the start.
        done: by a margin, too, at which its search stops: nothing to search.
        repeatable: whether two forwards of the first batch, in different order, agreed bit for bit on this machine.
        passes: passes that count.
        wasted: passes of runs that were started ahead of time and turned out not to be needed.
        doubts: signs that gradients are masked.
        had_gradient: whether a run has met no gradient that was zero.
    """

    given: Input
    logits: Tensor
    margin: float
    misclassified: bool
    done: bool
    repeatable: bool
    best: Outcome | None = None
    passes: Passes = field(default_factory=Passes)
    wasted: Passes = field(default_factory=Passes)
    doubts: frozenset[str] = frozenset()
    had_gradient: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """What is reported of one example, after verification.

    Attributes:
        given: the input.
        x_adv: the point, float32 (C, H, W) in Δ.
        clean: logits of the clean image, (K,), by the untouched model in float32.
        logits: of the point, likewise.
        success: whether the untouched model misclassifies it, or predicts the target when there is one; for a
            stochastic model, in more than half of the fresh draws.
        accuracy: share of fresh draws in which that is not so; 0 or 1 for a deterministic model.
        margin: z_y − max_{j≠y} z_j at the point (targeted: max_{j≠t} z_j − z_t); not above 0 on success.
        norm: ‖x_adv − x‖ in the norm of the ball, in pixel units.
        passes: passes, the clean evaluation, confirmations and verification included.
        wasted: passes of runs that were started ahead of time and turned out not to be needed.
        attack: the attack that broke the example; "clean" if it was wrong from the start; None if it stands.
        run: the run that found the point.
        repeatable: as in `Example`.
        doubts: signs that gradients are masked; one that was zero is none where another run met no such.
    """

    given: Input
    x_adv: Tensor
    clean: Tensor
    logits: Tensor
    success: bool
    accuracy: float
    margin: float
    norm: float
    passes: Passes
    wasted: Passes
    attack: str | None
    run: Run | None
    repeatable: bool
    doubts: frozenset[str]
