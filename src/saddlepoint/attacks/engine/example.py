"""The values that travel through the pipeline: an input, an example under attack, a verified row."""

from dataclasses import dataclass, field, replace

from torch import Tensor

from saddlepoint.attacks.goals import Goal
from saddlepoint.attacks.protocol import Run

Id = int | str


@dataclass(frozen=True, slots=True)
class Input:
    """One example to attack; its tensors have no batch axis.

    Attributes:
        index: position in the stream.
        id: stable identity, from which its random streams derive.
        x: pixels, float32 (C, H, W).
        y: label.
        eps: radius of its ball, in pixel units.
        target: class that must be predicted for success, or None.
        start: δ at which the attack begins, or None.
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
    """The result of one run: its best point, the score of that point, and whether the run has won.

    `gradient_free`: the attack used no gradient. `zero_gradient`: some gradient was exactly zero.
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
        """Whether this outcome replaces the earlier one.

        An adversarial point beats any other. Scores are compared only if both were measured under the same goal; of two
        adversarial points of different goals the later one is kept, since the cascade asked for it last.
        """
        if self.adversarial != other.adversarial:
            return self.adversarial
        return self.score < other.score if self.goal == other.goal else self.adversarial


@dataclass(frozen=True, slots=True)
class Settled:
    """What the first `through` stages of a cascade have found of an example; the fields are those of `Example`."""

    through: int
    best: Outcome | None
    passes: Passes
    wasted: Passes
    doubts: frozenset[str]
    had_gradient: bool


@dataclass(frozen=True, slots=True)
class Example:
    """An input, the logits of its clean image, the best point so far and the passes spent on it.

    Attributes:
        input: the input.
        logits: of the clean image, (K,).
        best: the best outcome so far; None before any search, unless the example is wrong from the start.
        margin: of the clean image; positive if the goal is not reached there.
        misclassified: the clean image already reaches the goal.
        done: it does so by the margin at which a search stops, so that there is nothing to search.
        repeatable: whether two forwards of the first batch, in different order, agreed bit for bit.
        passes: forwards, backwards and steps that count.
        wasted: passes of runs that were started early and proved unnecessary.
        doubts: signs that the search was misled.
        had_gradient: whether some run never met a zero gradient.
        through: how many stages of the cascade it has been through.
    """

    input: Input
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
    through: int = 0

    def settled(self) -> Settled:
        """Return what the stages so far have found."""
        return Settled(self.through, self.best, self.passes, self.wasted, self.doubts, self.had_gradient)

    def resumed(self, earlier: Settled | None) -> "Example":
        """Return the example as an earlier session left it."""
        if earlier is None:
            return self
        return replace(
            self,
            best=earlier.best,
            passes=earlier.passes,
            wasted=earlier.wasted,
            doubts=earlier.doubts,
            had_gradient=earlier.had_gradient,
            through=earlier.through,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """The verified result of one example.

    Attributes:
        input: the input.
        x_adv: the perturbed image, float32 (C, H, W), inside Δ.
        clean: logits of the clean image, (K,), from the unmodified model in float32.
        logits: logits of the perturbed image, likewise.
        success: whether the unmodified model misclassifies it, or predicts the target if there is one; for a stochastic
            model, in more than half of the fresh draws.
        accuracy: share of fresh draws without success; 0 or 1 for a deterministic model.
        margin: z_y − max_{j≠y} z_j at the point (targeted: max_{j≠t} z_j − z_t); not above 0 on success.
        norm: ‖x_adv − x‖ in the norm of the ball, in pixel units.
        passes: all passes, including the clean evaluation, confirmations and verification.
        wasted: passes of runs that were started early and proved unnecessary.
        attack: the attack that succeeded; "clean" if the clean image is misclassified; None without success.
        run: the run that found the point.
        repeatable: as in `Example`.
        doubts: signs that the search was misled. A zero gradient is none if another run of the example never met one.
    """

    input: Input
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
