"""What holds for every example of one call."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from saddlepoint.attacks.engine.example import Example, Id, Input, Settled
from saddlepoint.attacks.goals import Goal
from saddlepoint.attacks.maximise import judge
from saddlepoint.attacks.protocol import Run
from saddlepoint.geometry import Ball, Region
from saddlepoint.typing import Images, Labels, Logits, PerExample


def average(draws: list[Tensor]) -> Tensor:
    """Return the mean over draws; a single draw is returned as it is."""
    return draws[0] if len(draws) == 1 else torch.stack(draws).mean(0)


@dataclass(frozen=True, slots=True)
class Progress:
    """One call of the model, as passed to an observer.

    Attributes:
        ids: of the examples, N of them.
        runs: their runs.
        steps: how many updates of δ each run has made.
        loss: the attack's objective, (N,), on the device.
    """

    ids: tuple[Id, ...]
    runs: tuple[Run, ...]
    steps: tuple[int, ...]
    loss: Tensor


@dataclass(frozen=True, slots=True)
class Setting:
    """What holds for every example of one call.

    Attributes:
        ball: the norm; each input carries its own radius.
        box: bounds of the pixels, or None.
        batch: rows of every call of the model. Part of the specification, because rounding depends on it.
        seed: of all random streams.
        targeted: whether success means that the target is predicted.
        stop: a row stops once its margin is below −`stop`; 0 stops at the first success, infinity never.
        budget: forwards plus backwards that the search may spend on an example, shared evenly among its remaining
            stages and runs.
        observe: called once per call of the model; switches look-ahead off.
        draws: forwards that judge the clean image of a stochastic model; 1 for a deterministic one.
        goal: which points are kept, if the caller has chosen; otherwise each attack's own goal.
        earlier: what an earlier session has settled, by id as text.
        settled: told of each example after each stage, so that an interrupted session loses no finished stage.
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
    goal: Goal | None = None
    earlier: Mapping[str, Settled] = field(default_factory=dict)
    settled: Callable[[Example], None] | None = None

    def stack(self, tensors: list[Tensor]) -> Tensor:
        """Return single rows as a batch on the device."""
        return torch.stack(tensors).to(self.device)

    def integers(self, values: list[int]) -> Tensor:
        """Return host integers as an int64 tensor on the device."""
        return torch.tensor(values, dtype=torch.int64, device=self.device)

    def region(self, inputs: list[Input], x: Images) -> Region:
        """Return Δ for these inputs."""
        lower, upper = self.box or (None, None)
        eps = torch.tensor([source.eps for source in inputs], dtype=torch.float64)
        return replace(self.ball, eps=eps).at(x, lower, upper)

    def judge_draws(self, draws: list[Logits], y: Labels, target: Labels | None) -> tuple[PerExample, PerExample]:
        """Return the mean margin over draws of the logits, and the share of draws that reach the goal."""
        margins, reached = zip(*(judge(logits, y, target if self.targeted else None) for logits in draws), strict=True)
        return average(list(margins)), average([hits.to(margins[0].dtype) for hits in reached])
