"""Gradient ascent on the loss, as the attacks of the lesson share it: they differ in how a gradient moves δ."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from saddlepoint import losses
from saddlepoint.attacks.protocol import Answer, Attack, Problem
from saddlepoint.errors import InputError
from saddlepoint.typing import Images, Logits, Mask, PerExample

LossName = Literal["cross-entropy", "margin", "difference", "dlr", "softmax-margin", "rescaled-cross-entropy"]
"""A name in `saddlepoint.losses`; with a target, its targeted form."""
Loss = LossName | Callable[[Logits, Problem], PerExample]
"""A name, or one's own objective: a function of logits (B, K) and the problem, which returns one number per row, (B,).

The larger, the more adversarial: an adaptive attack against a new defence is one such function.
"""

SOME, ANY, POSITIVE, SHARE = "[1, ∞)", "[0, ∞)", "(0, ∞)", "(0, 1]"
"""Intervals that `require` knows how to read, as it does others."""


@dataclass(frozen=True, slots=True)
class Iterate:
    """δ after `step` updates, (B, C, H, W) and (B,)."""

    delta: Images
    step: Tensor


def climbed(name: Loss, problem: Problem, logits: Logits) -> PerExample:
    """Return the named loss, (B,); where nothing but the target will do, DLR looks at the class that is in its way."""
    if callable(name):
        return _own(name, problem, logits)
    y = problem.y
    if problem.targeted and problem.target is not None and name == "dlr":
        y = logits.detach().scatter(1, problem.target[:, None], -torch.inf).argmax(1)
    return losses.named(name, logits, y, problem.target)


def _own(objective: Callable[[Logits, Problem], PerExample], problem: Problem, logits: Logits) -> PerExample:
    value = objective(logits, problem)
    if not isinstance(value, Tensor) or value.shape != problem.y.shape:
        what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise InputError(
            f"the objective {loss_name(objective)} returned {what}; expected a tensor of one number per example, "
            f"({len(problem.y)},)"
        )
    return value


def loss_name(loss: Loss) -> str:
    """Return how reports call a loss."""
    return str(getattr(loss, "__name__", loss)) if callable(loss) else loss


class Ascent(Attack):
    """Evaluate δ, move along the gradient, and so on; after the last of `steps` moves, evaluate once more."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """Number of moves."""

    @property
    @abstractmethod
    def loss(self) -> Loss:
        """What is ascended."""

    @abstractmethod
    def move(self, problem: Problem, delta: Images, gradient: Images) -> Images:
        """Return the next δ ∈ Δ, given ∇ℓ at this one."""

    def begin(self, problem: Problem) -> Images:
        """Return the first δ: the clean image, unless an attack begins elsewhere."""
        return torch.zeros_like(problem.x)

    def init(self, problem: Problem) -> Iterate:
        """Stand at the first δ, or at the one that was given."""
        delta = self.begin(problem) if problem.start is None else problem.start
        return Iterate(delta, torch.zeros_like(problem.y))

    def ask(self, problem: Problem, state: Iterate) -> Images:
        """Ask for the iterate."""
        return state.delta

    def objective(self, problem: Problem, state: Iterate, logits: Logits) -> PerExample:
        """Return the named loss."""
        return climbed(self.loss, problem, logits)

    def tell(self, problem: Problem, state: Iterate, answer: Answer) -> Iterate:
        """Move along the gradient."""
        delta = state.delta if answer.gradient is None else self.move(problem, state.delta, answer.gradient)
        return Iterate(delta, state.step + 1)

    def finished(self, state: Iterate) -> Mask:
        """Finish when the last iterate has been answered."""
        return state.step > self.steps

    def length(self, problem: Problem) -> int:
        """Return one point more than moves."""
        return self.steps + 1

    def differentiates(self, state: Iterate) -> Mask:
        """Want a gradient at every iterate but the last."""
        return state.step < self.steps


def require(attack: Any, **within: str) -> None:  # noqa: ANN401 - an attack, which is a dataclass
    """Raise InputError unless each named field of the attack is a number in its interval, such as "(0, 1]".

    None is a value where it is declared. Fields declared as whole numbers or truth values must be such, and a loss must
    have its name in `saddlepoint.losses`.
    """
    if not callable(loss := getattr(attack, "loss", "margin")):
        losses.check(loss)
    for field in fields(attack):
        value, interval = getattr(attack, field.name), within.get(field.name, "(-∞, ∞)")
        whole = field.type is int
        if field.type is bool and not isinstance(value, bool):
            raise InputError(f"{type(attack).__name__} got {field.name}={value!r}; expected True or False")
        optional = type(None) in get_args(field.type)
        if (value is None and optional) or not (whole or field.name in within):
            continue
        number = not isinstance(value, bool) and isinstance(value, int if whole else (int, float))
        if not number or not _lies(value, interval):
            kind = "a whole number" if whole else "a number"
            raise InputError(f"{type(attack).__name__} got {field.name}={value!r}; expected {kind} in {interval}")


def _lies(value: float, interval: str) -> bool:
    """Return whether a number lies in an interval; infinity does in none."""
    low, high = (float(bound.replace("∞", "inf")) for bound in interval[1:-1].split(","))
    above = low < value or (interval[0] == "[" and value == low)
    return above and (value < high or (interval[-1] == "]" and value == high))
