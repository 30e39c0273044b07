"""What holds for every example of one call."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saddlepoint.attacks.engine.example import Id, Input
from saddlepoint.attacks.goals import Goal
from saddlepoint.attacks.maximise import judge
from saddlepoint.attacks.protocol import Run
from saddlepoint.geometry import Ball, Region
from saddlepoint.typing import Images, Labels, Logits, PerExample


def average(draws: list[Tensor]) -> Tensor:
    """Return the mean over draws; of one, that very draw."""
    return draws[0] if len(draws) == 1 else torch.stack(draws).mean(0)


@dataclass(frozen=True, slots=True)
class Progress:
    """One call of the model, as an observer sees it: which runs it served, at which step, and their objective.

    Attributes:
        ids: of the examples, N of them.
        runs: their runs.
        steps: how often δ had been updated.
        loss: the attack's objective at that point, (N,), still on the device.
    """

    ids: tuple[Id, ...]
    runs: tuple[Run, ...]
    steps: tuple[int, ...]
    loss: Tensor


@dataclass(frozen=True, slots=True)
class Setting:
    """What holds for every example of one call.

    Attributes:
        ball: the norm; each input has a radius of its own.
        box: bounds of the pixels, or None.
        batch: rows of every call of the model, always; part of the specification, since rounding depends on it.
        seed: of all random streams.
        targeted: whether success means that the target is predicted.
        stop: margin τ below zero at which a row stops; 0 for the first success, infinity for never.
        budget: passes, forward plus backward, that the search may spend on an example; shared evenly by what is left
            of its stages and runs.
        observe: called once per call of the model, of which none is then used to look ahead.
        draws: of a stochastic model, by which the clean image is judged; 1 for a deterministic one.
        keep: which points are kept, where the caller has chosen; else each attack's own goal.
    """

    ball: Ball
    box: tuple[float, float] | None
    batch: int
    device: torch.device
    seed: int = 0
    targeted: bool = False
    stop: float = 0.0
    budget: int | None = None
    observe: Callable[[Progress], None] | None = None
    draws: int = 1
    keep: Goal | None = None

    def stack(self, tensors: list[Tensor]) -> Tensor:
        """Return single rows as a batch on the device."""
        return torch.stack(tensors).to(self.device)

    def integers(self, values: list[int]) -> Tensor:
        """Return host integers as an int64 tensor on the device."""
        return torch.tensor(values, dtype=torch.int64, device=self.device)

    def region(self, inputs: list[Input], x: Images) -> Region:
        """Return Δ for these inputs: their balls, bound to their pixels and the box."""
        lower, upper = self.box or (None, None)
        eps = torch.tensor([given.eps for given in inputs], dtype=torch.float64)
        return replace(self.ball, eps=eps).at(x, lower, upper)

    def judge_draws(self, draws: list[Logits], y: Labels, target: Labels | None) -> tuple[PerExample, PerExample]:
        """Return the mean margin over draws of the logits, and the share of draws that reach the goal."""
        margins, reached = zip(*(judge(logits, y, target if self.targeted else None) for logits in draws), strict=True)
        return average(list(margins)), average([hits.to(margins[0].dtype) for hits in reached])
