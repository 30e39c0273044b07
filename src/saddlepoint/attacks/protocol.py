"""The protocol of attacks: ask for one point per row, be told the model's answer. Only the loop calls the model."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import torch

from saddlepoint.attacks.goals import Fool, Goal
from saddlepoint.errors import AttackError
from saddlepoint.geometry import Ball, Region
from saddlepoint.typing import Images, Keys, Labels, Logits, Mask, PerExample


class Access(Enum):
    """How much of the model an attack sees; each kind also sees what those below it see."""

    GRADIENT = "gradient"
    SCORES = "scores"
    DECISION = "decision"


@dataclass(frozen=True, slots=True)
class Run:
    """One try at an example: a random start, a class to aim at, or both."""

    restart: int = 0
    target: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """The rows that an attack works on, in terms of δ: the clean image is δ = 0.

    Attributes:
        x: clean pixels, (B, C, H, W).
        y: labels, (B,).
        target: the classes that the runs aim at, (B,), or None.
        region: Δ, the ball bound to x and the box.
        logits: of the clean images, (B, K); None if they have not been evaluated.
        key: of the runs' random streams, (B,).
        start: the first δ, (B, C, H, W); None if the attack chooses its own.
        restart: number of the random start, from 0, (B,); None stands for 0.
        targeted: whether success means that the target is predicted; if not, a target only guides the run.
    """

    x: Images
    y: Labels
    target: Labels | None
    region: Region
    logits: Logits | None
    key: Keys
    start: Images | None = None
    restart: Labels | None = None
    targeted: bool = False

    @property
    def zeros(self) -> PerExample:
        """One zero per row."""
        return self.x.new_zeros(len(self.x))

    @property
    def clean_logits(self) -> Logits:
        """The logits of the clean images.

        Raises:
            AttackError: they were not given, and the attack needs them.
        """
        if self.logits is None:
            raise AttackError("the attack needs the logits of the clean images; expected pose(…, logits=model(x))")
        return self.logits


def pose(
    x: Images,
    y: Labels,
    ball: Ball,
    *,
    box: tuple[float, float] | None = (0.0, 1.0),
    key: Keys | None = None,
    logits: Logits | None = None,
    start: Images | None = None,
) -> Problem:
    """Return the problem of a whole batch, for `maximise`.

    Args:
        x: pixels, (B, C, H, W).
        y: labels, (B,).
        ball: Δ, intersected with the box.
        box: bounds of the pixels; None for none.
        key: of each row's random numbers, (B,); its position by default.
        logits: of the clean images, (B, K); Sweep and FAB need them.
        start: the first δ, (B, C, H, W); by default the attack chooses its own.
    """
    region = ball.at(x, *(box or (None, None)))
    own = torch.arange(len(x), device=x.device) if key is None else key
    return Problem(x, y, None, region, logits, own, start)


@dataclass(frozen=True, slots=True)
class Answer:
    """The model's answer at the points that were asked for; None for what the attack's `access` excludes.

    Attributes:
        delta: those points, (B, C, H, W).
        label: predicted classes, (B,).
        adversarial: whether the point reaches the goal, inside Δ or not, (B,); in low precision this is unconfirmed.
        logits: (B, K).
        loss: the attack's own objective, (B,).
        gradient: of that loss in δ, (B, C, H, W); also None if no row asked for one.
    """

    delta: Images
    label: Labels
    adversarial: Mask
    logits: Logits | None
    loss: PerExample | None
    gradient: Images | None


class Attack(ABC):
    """A search for a good δ, as a frozen dataclass of its configuration.

    The state is a dataclass of tensors with one row per run. The loop re-indexes it and never looks inside. Rows that
    have finished may still be told answers until the loop refills them; these have no effect.

    Attributes:
        access: how much of the model the attack sees.
        goal: which of its points the loop keeps, and when an example is done.
        tolerance: for linear classifiers, how far a complete run may stay from the closed-form optimum, as a share of
            the margin that Δ can take away.
        norms: of the balls that it can search.
        paper: its source.
        roams: whether it also asks for points outside Δ; the loop keeps none of those.
    """

    access: ClassVar[Access] = Access.GRADIENT
    goal: ClassVar[Goal] = Fool()
    tolerance: ClassVar[float] = 0.01
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    paper: ClassVar[str] = ""
    roams: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Name of the attack in reports."""
        return type(self).__name__

    @property
    def as_given(self) -> bool:
        """Whether the attack must reproduce a plain loop to the last bit, without faster forms of the weights."""
        return False

    def runs(self, logits: Logits, y: int) -> tuple[Run, ...]:
        """Return the ordered runs of one example, given its clean logits (1, K)."""
        return (Run(),)

    @abstractmethod
    def init(self, problem: Problem) -> Any:  # noqa: ANN401 - each attack has a state of its own
        """Return the initial state. If `problem.start` is given, it is the first point asked for."""

    @abstractmethod
    def ask(self, problem: Problem, state: Any) -> Images:  # noqa: ANN401
        """Return the δ at which each row wants the model evaluated."""

    @abstractmethod
    def tell(self, problem: Problem, state: Any, answer: Answer) -> Any:  # noqa: ANN401
        """Return the state after the answer to `ask`."""

    @abstractmethod
    def finished(self, state: Any) -> Mask:  # noqa: ANN401
        """Return which rows need no further answer."""

    @abstractmethod
    def objective(self, problem: Problem, state: Any, logits: Logits) -> PerExample:  # noqa: ANN401
        """Return the objective that the attack maximises, per row; it is differentiated for GRADIENT access."""

    @abstractmethod
    def length(self, problem: Problem) -> int:
        """Return the largest number of points that a run asks for."""

    def differentiates(self, state: Any) -> Mask:  # noqa: ANN401
        """Return which unfinished rows want a gradient with their next answer."""
        return torch.full_like(self.finished(state), self.access is Access.GRADIENT)


class LookAhead(Attack):
    """An attack without gradients whose next proposals are known as long as the model's answers are rejected.

    Rows without a run of their own then evaluate later proposals of another row's run. Results are the same; only the
    number of calls of the model falls.
    """

    @abstractmethod
    def rejects(self, state: Any, answer: Answer) -> Mask:  # noqa: ANN401
        """Return where `tell` leaves everything as it is but the number of the proposal."""

    @abstractmethod
    def skip(self, problem: Problem, state: Any, by: Labels) -> Any:  # noqa: ANN401
        """Return the states after `by` further proposals, (B,), that are all rejected."""


def ranked(logits: Logits, y: int) -> list[int]:
    """Return the classes other than y, the likeliest first, given the logits of one image, (1, K)."""
    return [label for label in logits[0].argsort(descending=True, stable=True).tolist() if label != y]
