"""Which run of which example comes next, and what an example's runs amount to.

Runs count in plan order up to the first that wins, whatever order they end in: a run that was started ahead of time, to
keep the batch full, never changes a result. What it cost is kept apart.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from saddlepoint.attacks.engine.example import OVERTAKEN, ZERO_GRADIENT, Example, Outcome, Passes
from saddlepoint.attacks.engine.oracle import Stage
from saddlepoint.attacks.protocol import Run
from saddlepoint.errors import AttackError

FURTHER = 0.02
"""By how much of the clean margin a probe without gradients must get further than gradients did, to cast doubt on them.

Random search improves on most optima by less; behind the traps of `saddlepoint.testing`, mostly by more.
"""


@dataclass(frozen=True, slots=True)
class Task:
    """One run of one example."""

    example: Example
    runs: tuple[Run, ...]
    position: int
    share: float

    @property
    def run(self) -> Run:
        """The run at this position of the plan."""
        return self.runs[self.position]


@dataclass(slots=True)
class _Open:
    """An example under way: `started` runs are, `counted` have been accounted for, and none counts from `limit` on."""

    example: Example
    runs: tuple[Run, ...]
    limit: int
    share: float
    best: Outcome | None
    probe: bool
    started: int = 0
    counted: int = 0
    waiting: dict[int, Outcome] = field(default_factory=dict)
    passes: Passes = field(default_factory=Passes)
    wasted: Passes = field(default_factory=Passes)
    zero_gradient: bool = False
    had_gradient: bool = False

    @property
    def complete(self) -> bool:
        return self.counted == self.limit

    def start(self) -> Task:
        self.started += 1
        return Task(self.example, self.runs, self.started - 1, self.share)

    def count(self) -> None:
        """Account for the runs that have ended, in plan order."""
        while not self.complete and self.counted in self.waiting:
            outcome = self.waiting.pop(self.counted)
            self.counted += 1
            self.passes += outcome.passes
            self.zero_gradient |= outcome.zero_gradient
            self.had_gradient |= not (outcome.gradient_free or outcome.zero_gradient)
            if self.best is None or outcome.better(self.best):
                self.best = outcome

    def close(self) -> Example:
        spare = sum((outcome.passes for outcome in self.waiting.values()), self.wasted)
        example, passes = self.example, self.example.passes + self.passes
        doubts = example.doubts.union(self._doubts())
        had_gradient, wasted = example.had_gradient or self.had_gradient, example.wasted + spare
        return replace(example, best=self.best, passes=passes, wasted=wasted, doubts=doubts, had_gradient=had_gradient)

    def _doubts(self) -> Iterator[str]:
        """Yield what casts doubt on gradients: one that was zero, or a black box that got further without."""
        if self.zero_gradient:
            yield ZERO_GRADIENT
        before, best = self.example.best, self.best
        if before is not None and best is not None and best.gradient_free and not before.gradient_free:
            further = before.score - best.score > FURTHER * self.example.margin
            if not before.adversarial and (best.adversarial or (self.probe and further)):
                yield OVERTAKEN


class Plan:
    """Hands out runs: first those whose predecessors have failed, then new examples, then runs ahead of time."""

    def __init__(self, stage: Stage, examples: Iterator[Example], budget: int | None) -> None:
        self._stage, self._examples, self._budget = stage, examples, budget
        self._open: dict[int, _Open] = {}
        self._ready: deque[_Open] = deque()

    def draw(self, count: int) -> Iterator[Task | Example]:
        """Yield the next `count` runs, as far as there are any, and between them the examples that need none."""
        while count > 0 and (drawn := self._next()) is not None:
            yield drawn
            count -= isinstance(drawn, Task)

    def record(self, task: Task, outcome: Outcome) -> None:
        """Take note of what a run reports."""
        entry = self._open[task.example.given.index]
        entry.waiting[task.position] = outcome
        if outcome.won:
            entry.limit = min(entry.limit, task.position + 1)
        entry.count()
        if entry.counted == entry.started and not entry.complete:
            self._ready.append(entry)

    def needs(self, task: Task) -> bool:
        """Return whether a run can still change its example's result."""
        return task.position < self._open[task.example.given.index].limit

    def discard(self, task: Task, passes: Passes) -> None:
        """Take note of what a run had cost when it was ended because it was not needed."""
        self._open[task.example.given.index].wasted += passes

    def finished(self) -> Iterator[Example]:
        """Yield the examples whose last run has been accounted for."""
        for index in [index for index, entry in self._open.items() if entry.complete]:
            yield self._open.pop(index).close()

    def _next(self) -> Task | Example | None:
        if self._ready:
            return self._ready.popleft().start()
        example = next(self._examples, None)
        if example is None:
            ahead = next((entry for entry in self._open.values() if entry.started < entry.limit), None)
            return None if ahead is None else ahead.start()
        entry = None if self._stage.skips(example) else self._admit(example)
        if entry is None:
            return example
        self._open[example.given.index] = entry
        return entry.start()

    def _admit(self, example: Example) -> _Open | None:
        """Return the example with the runs that its budget allows, each with its share; None if it allows none."""
        runs = self._runs(example)
        best = None if self._stage.resume else example.best
        probe = self._stage.probe and self._stage.draws == 1  # of means over draws, many tries find a lucky one
        if self._budget is None:
            return _Open(example, runs, len(runs), math.inf, best, probe)
        spent = example.passes.forwards - 1 + example.passes.backwards
        left = (self._budget - spent) // self._stage.left
        limit = min(len(runs), left // self._stage.least)
        return _Open(example, runs, limit, left // limit, best, probe) if limit > 0 else None

    def _runs(self, example: Example) -> tuple[Run, ...]:
        runs = self._stage.attack.runs(example.logits[None], example.given.y)
        if example.given.target is not None:
            runs = tuple(dict.fromkeys(replace(run, target=example.given.target) for run in runs))
        if len({run.target is None for run in runs}) > 1:
            raise AttackError(f"{self._stage.attack.name} has runs with and without a target; expected one kind")
        if self._stage.resume and example.best is not None:
            return (replace(example.best.run, target=_aim(runs[0], example.best.run)),)
        return runs


def _aim(own: Run, best: Run) -> int | None:
    """Return the target of a run that goes on from the best one, which another attack of the cascade may have found."""
    return own.target if own.target is None or best.target is None else best.target
