"""What an attack is: it asks for one point per row and is told the answer. The loop alone calls models."""

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
    """How much of the model an attack sees; each kind is told what those below it are told, too."""

    GRADIENT = "gradient"
    SCORES = "scores"
    DECISION = "decision"


@dataclass(frozen=True, slots=True)
class Run:
    """One try at an example: an independent random start, or a class to aim at."""

    restart: int = 0
    target: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """The rows that an attack works on; everything is given in δ-space, where the clean image is δ = 0.

    Attributes:
        x: clean pixels, (B, C, H, W).
        y: labels, (B,).
        target: the classes that the runs aim at, (B,), or None.
        region: Δ, the ball bound to x and the box.
        logits: of the clean images, (B, K); None where nobody has evaluated them.
        key: of the runs' random streams, (B,).
        start: the first point to use, (B, C, H, W), or None where the attack chooses its own.
        restart: which of the independent tries the runs are, from 0, (B,); None for the first.
        targeted: whether success means that the target is predicted; else a target is only where a run aims.
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
        key: of each row's random numbers, (B,); its position when not given.
        logits: of the clean images, (B, K); Sweep and FAB need them.
        start: the first δ, (B, C, H, W), where the attack shall not choose its own.
    """
    region = ball.at(x, *(box or (None, None)))
    own = torch.arange(len(x), device=x.device) if key is None else key
    return Problem(x, y, None, region, logits, own, start)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said of the points that were asked for; what the attack's `access` does not cover is None.

    Attributes:
        delta: those points, (B, C, H, W).
        label: predicted classes, (B,).
        adversarial: whether the point reaches the goal, inside Δ or not, (B,); in low precision a claim, not yet
            confirmed.
        logits: (B, K).
        loss: the attack's own objective, (B,).
        gradient: of that loss in δ, (B, C, H, W); None, too, when no row asked for one.
    """

    delta: Images
    label: Labels
    adversarial: Mask
    logits: Logits | None
    loss: PerExample | None
    gradient: Images | None


class Attack(ABC):
    """A search for a good δ, as a frozen dataclass: the algorithm, its configuration and its line in the report.

    A state is a dataclass of tensors with one row per run; the loop re-indexes it and looks at nothing in it. Mask that
    have finished may be told answers until the loop refills them; they are ignored.

    Attributes:
        access: how much of the model the attack sees.
        goal: which of its points the loop keeps, and when an example is done.
        tolerance: declared for linear classifiers: how far, as a share of the margin that Δ can take away, the attack
            stays from the closed-form optimum when it runs to the end.
        norms: of the balls that it can search.
        paper: where it comes from.
        roams: whether the attack asks for points outside Δ, too; the loop keeps none of those.
        foresees: whether the attack, which needs no gradient, knows what it will ask after answers that it refuses
            (`ahead`, `refuses`): rows for which no run is left then try that ahead of time.
    """

    access: ClassVar[Access] = Access.GRADIENT
    goal: ClassVar[Goal] = Fool()
    tolerance: ClassVar[float] = 0.01
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    paper: ClassVar[str] = ""
    roams: ClassVar[bool] = False
    foresees: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """How reports call the attack."""
        return type(self).__name__

    @property
    def plain(self) -> bool:
        """Whether the attack must reproduce a plain loop to the last bit, and forgoes the fastest form of weights."""
        return False

    def runs(self, logits: Logits, y: int) -> tuple[Run, ...]:
        """Return the ordered runs of one example, given its clean logits (1, K)."""
        return (Run(),)

    @abstractmethod
    def init(self, problem: Problem) -> Any:  # noqa: ANN401 - each attack has a state of its own
        """Return the state of fresh rows. If `problem.start` is given, the first point asked for is that one."""

    @abstractmethod
    def ask(self, problem: Problem, state: Any) -> Images:  # noqa: ANN401
        """Return the point δ that each row wants to know about."""

    @abstractmethod
    def tell(self, problem: Problem, state: Any, answer: Answer) -> Any:  # noqa: ANN401
        """Return the state after the answer to `ask`."""

    @abstractmethod
    def finished(self, state: Any) -> Mask:  # noqa: ANN401
        """Return which rows have asked for all they want."""

    @abstractmethod
    def objective(self, problem: Problem, state: Any, logits: Logits) -> PerExample:  # noqa: ANN401
        """Return the objective that this attack ascends, per row; differentiated when it needs gradients."""

    @abstractmethod
    def length(self, problem: Problem) -> int:
        """Return how many points a run asks for, at most."""

    def differentiates(self, state: Any) -> Mask:  # noqa: ANN401
        """Return which unfinished rows want a gradient with their next answer."""
        return torch.full_like(self.finished(state), self.access is Access.GRADIENT)

    def refuses(self, state: Any, answer: Answer) -> Mask:  # noqa: ANN401
        """Return where `tell` will change nothing but that one more point was tried; of an attack that foresees."""
        raise NotImplementedError

    def ahead(self, problem: Problem, state: Any, by: Labels) -> Any:  # noqa: ANN401
        """Return the states after `by` more answers, (B,), that are all refused; of an attack that foresees."""
        raise NotImplementedError

    def polish(self) -> "Attack | None":
        """Return the shorter attack that searches on, in float32, from the best point that low precision found.

        None if there is none: the attack then searches in float32, whatever the precision.
        """
        return None


def ranked(logits: Logits, y: int) -> list[int]:
    """Return the classes other than y, the likeliest first, given the logits of one image, (1, K)."""
    return [label for label in logits[0].argsort(descending=True, stable=True).tolist() if label != y]
