"""Which run of which example comes next, and how the runs of an example add up to its result.

The runs of an example count in their planned order, up to the first that wins. Later runs may be started early to keep
the batch full; they never change a result, and their passes are reported separately as wasted.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from saddlepoint.attacks.engine.example import Example, Outcome, Passes
from saddlepoint.attacks.engine.oracle import Stage
from saddlepoint.attacks.engine.setting import Setting
from saddlepoint.attacks.protocol import Run
from saddlepoint.errors import AttackError
from saddlepoint.results.records.masking import OVERTAKEN, SAMPLE_BROKEN, ZERO_GRADIENT

FURTHER = 0.02
"""The share of the clean margin by which a gradient-free probe must beat the gradients' result to cast doubt on it.

On honest models random search gains less; on the traps in `saddlepoint.testing` it mostly gains more.
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
    """An example with runs under way.

    `started` of its runs have begun and `counted` have been accounted for; runs from position `limit` on do not count.
    """

    example: Example
    runs: tuple[Run, ...]
    limit: int
    share: float
    best: Outcome | None
    probe: bool
    sample: bool
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
        """Account for ended runs, in planned order."""
        while not self.complete and self.counted in self.waiting:
            outcome = self.waiting.pop(self.counted)
            self.counted += 1
            self.passes += outcome.passes
            self.zero_gradient |= outcome.zero_gradient
            self.had_gradient |= not (outcome.gradient_free or outcome.zero_gradient)
            if self.best is None or outcome.better(self.best):
                self.best = outcome

    def close(self, through: int) -> Example:
        spare = sum((outcome.passes for outcome in self.waiting.values()), self.wasted)
        example = self.example
        return replace(
            example,
            best=self.best,
            passes=example.passes + self.passes,
            wasted=example.wasted + spare,
            doubts=example.doubts.union(self._doubts()),
            had_gradient=example.had_gradient or self.had_gradient,
            through=through,
        )

    def _doubts(self) -> Iterator[str]:
        """Yield the signs that the search was misled: a zero gradient, or a later attack that got further."""
        if self.zero_gradient:
            yield ZERO_GRADIENT
        before, best = self.example.best, self.best
        if before is not None and best is not None and best.gradient_free and not before.gradient_free:
            further = before.score - best.score > FURTHER * self.example.margin
            if not before.adversarial and (best.adversarial or (self.probe and further)):
                yield OVERTAKEN
        if self.sample and best is not None and best.adversarial and not (before and before.adversarial):
            yield SAMPLE_BROKEN


class Plan:
    """Hands out runs: first those whose predecessors failed, then new examples, then runs that are started early."""

    def __init__(self, stage: Stage, examples: Iterator[Example], setting: Setting) -> None:
        self._stage, self._examples, self._budget, self._seed = stage, examples, setting.budget, setting.seed
        self._open: dict[int, _Open] = {}
        self._ready: deque[_Open] = deque()

    def draw(self, count: int) -> Iterator[Task | Example]:
        """Yield up to `count` runs and, in between, the examples that need no run."""
        while count > 0 and (drawn := self._next()) is not None:
            yield drawn
            count -= isinstance(drawn, Task)

    def record(self, task: Task, outcome: Outcome) -> None:
        """Record the outcome of a run."""
        entry = self._open[task.example.input.index]
        entry.waiting[task.position] = outcome
        # Runs behind one that won do not count, started or not: the result is as if they had never begun.
        if outcome.won:
            entry.limit = min(entry.limit, task.position + 1)
        entry.count()
        if entry.counted == entry.started and not entry.complete:
            self._ready.append(entry)

    def needs(self, task: Task) -> bool:
        """Return whether a run can still change its example's result."""
        return task.position < self._open[task.example.input.index].limit

    def discard(self, task: Task, passes: Passes) -> None:
        """Record the passes of a run that was ended because it was not needed."""
        self._open[task.example.input.index].wasted += passes

    def finished(self) -> Iterator[Example]:
        """Yield the examples whose last run has been accounted for."""
        for index in [index for index, entry in self._open.items() if entry.complete]:
            yield self._open.pop(index).close(self._stage.number + 1)

    def _next(self) -> Task | Example | None:
        # First an example that has begun: the sooner it ends, the fewer are held at once.
        if self._ready:
            return self._ready.popleft().start()
        example = next(self._examples, None)
        if example is None:
            # No example is left: runs that may turn out needless fill the batch, whose shape stays in any case.
            ahead = next((entry for entry in self._open.values() if entry.started < entry.limit), None)
            return None if ahead is None else ahead.start()
        entry = None if self._stage.skips(example, self._seed) else self._admit(example)
        if entry is None:
            return example
        self._open[example.input.index] = entry
        return entry.start()

    def _admit(self, example: Example) -> _Open | None:
        """Return the example with the runs that its budget allows, or None if it allows none."""
        runs = self._runs(example)
        best = None if self._stage.resume else example.best
        probe = self._stage.probe and self._stage.draws == 1  # with means over draws, many tries find a lucky one
        sample = self._stage.share < 1
        if self._budget is None:
            return _Open(example, runs, len(runs), math.inf, best, probe, sample)
        # The clean evaluation, one forward for each draw, is not of the search's budget.
        spent = example.passes.forwards - self._stage.draws + example.passes.backwards
        left = (self._budget - spent) // self._stage.left
        limit = min(len(runs), left // self._stage.least)
        return _Open(example, runs, limit, left // limit, best, probe, sample) if limit > 0 else None

    def _runs(self, example: Example) -> tuple[Run, ...]:
        runs = self._stage.attack.runs(example.logits[None], example.input.y)
        if example.input.target is not None:
            # Runs that differ by their targets alone become one.
            runs = tuple(dict.fromkeys(replace(run, target=example.input.target) for run in runs))
        if len({run.target is None for run in runs}) > 1:
            raise AttackError(f"{self._stage.attack.name} has runs with and without a target; expected one kind")
        if self._stage.resume and example.best is not None:
            return (replace(example.best.run, target=_aim(runs[0], example.best.run)),)
        return runs


def _aim(own: Run, best: Run) -> int | None:
    """Return the target of a run that resumes from the best point, which another attack may have found."""
    return own.target if own.target is None or best.target is None else best.target
