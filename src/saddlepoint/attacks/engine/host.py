"""What the host knows of the rows of a batch: their runs, and what each has cost."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from saddlepoint.attacks.engine.example import Outcome, Passes
from saddlepoint.attacks.engine.oracle import Stage
from saddlepoint.attacks.engine.plan import Task
from saddlepoint.attacks.protocol import Access
from saddlepoint.errors import ModelError

Host = NDArray[Any]
"""One value per slot, on the host."""

STUCK = 0.25
"""The share of a run's gradients above which zero ones are a sign: runs leave the flat spots of a ReLU network."""


@dataclass(frozen=True, slots=True)
class Flags:
    """What is copied to the host after a call, one value per row."""

    score: Host
    ahead: Host
    finite: Host
    zero_gradient: Host
    finished: Host
    differentiate: Host
    adversarial: Host
    certain: Host
    won: Host


class Counts:
    """The host's record of every slot: its run, whether that wants a gradient next, and its calls so far.

    A call at one point is `draws` passes.
    """

    def __init__(self, size: int) -> None:
        self.tasks: list[Task | None] = [None] * size
        self.busy, self.wants = (np.zeros(size, dtype=bool) for _ in range(2))
        self.queries, self.backwards, self.confirmations, self.zeros = (np.zeros(size, np.int64) for _ in range(4))
        self.share = np.zeros(size)

    def begin(self, slot: int, task: Task, *, wants: bool) -> None:
        """Put a run into a free slot."""
        self.tasks[slot], self.share[slot] = task, task.share
        self.busy[slot], self.wants[slot] = True, wants
        for count in (self.queries, self.backwards, self.confirmations, self.zeros):
            count[slot] = 0

    def end(self, slot: int, draws: int) -> tuple[Task, Passes]:
        """Free a slot; return its run and the passes of that run."""
        task, self.tasks[slot], self.busy[slot] = self.task(slot), None, False
        queries, backwards = int(self.queries[slot]), int(self.backwards[slot])
        return task, Passes(max(queries - 1, 0), draws * (queries + int(self.confirmations[slot])), draws * backwards)

    def account(self, stage: Stage, flags: Flags) -> None:
        """Count one call for every row; raise ModelError where its numbers are not finite."""
        for slot in places(self.busy & ~flags.finite):
            example, step = self.task(slot).example, self.queries[slot] + flags.ahead[slot]
            error = ModelError(
                f"{stage.name} met a logit or a gradient that is not finite, at step {step} on "
                f"example {example.input.id!r}; expected numbers: look for overflow, or for a root, "
                "a norm or a logarithm at zero"
            )
            error.example = str(example.input.id)
            raise error
        self.queries += 1 + flags.ahead
        self.backwards += self.wants
        if not stage.arithmetic.low:
            self.zeros += self.wants & flags.zero_gradient & ~flags.adversarial
        self.wants[:] = flags.differentiate

    def outcome(self, slot: int, stage: Stage, flags: Flags, delta: Tensor) -> tuple[Task, Outcome]:
        """End the run in a slot; return it and its outcome at its best point.

        Args:
            slot: the row of the batch.
            stage: the attack that ran, with its goal.
            flags: what was copied to the host after the last call.
            delta: the best point of the run, (C, H, W).
        """
        zero_gradient = bool(self.zeros[slot] > STUCK * self.backwards[slot])
        task, passes = self.end(slot, stage.draws)
        return task, Outcome(
            delta,
            float(flags.score[slot]),
            bool(flags.adversarial[slot]),
            bool(flags.won[slot]),
            passes,
            stage.name,
            stage.goal,
            task.run,
            gradient_free=stage.attack.access is not Access.GRADIENT,
            zero_gradient=zero_gradient,
        )

    def task(self, slot: int) -> Task:
        """Return the run in a slot."""
        task = self.tasks[slot]
        assert task is not None, "an empty slot has no run"  # noqa: S101 - an internal invariant
        return task

    def affords(self, draws: int, confirmation: int) -> Host:
        """Return whether each run's share of the budget allows another call and the confirmation of its claim."""
        spent = self.queries + self.backwards + self.confirmations
        return draws * (spent + 1 + self.wants + confirmation) <= self.share


def places(flags: Host) -> list[int]:
    """Return where the flags hold."""
    return np.flatnonzero(flags).tolist()
