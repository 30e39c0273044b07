"""The rows of a batch of one fixed shape, and what one call of the model does to them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saddlepoint import random
from saddlepoint.attacks.example import Effort, Outcome
from saddlepoint.attacks.oracle import Oracle, Point
from saddlepoint.attacks.plan import Task
from saddlepoint.attacks.protocol import Answer, Need, Problem
from saddlepoint.attacks.rows import put, take, where
from saddlepoint.attacks.setting import Progress
from saddlepoint.errors import InputError, ModelError
from saddlepoint.typing import Images, Rows


@dataclass(frozen=True, slots=True)
class _Rows:
    """Everything that has one row per slot."""

    problem: Problem
    state: object
    best: Point


@dataclass(slots=True)
class _Count:
    """A run in its slot and what it has cost; `differentiate` tells whether it wants a gradient next.

    Calls are counted; each is `draws` passes.
    """

    task: Task
    draws: int
    differentiate: bool
    flat: bool = False
    queries: int = 0
    backwards: int = 0
    confirmations: int = 0

    @property
    def effort(self) -> Effort:
        forwards = self.draws * (self.queries + self.confirmations)
        return Effort(max(self.queries - 1, 0), forwards, self.draws * self.backwards)

    def affords(self, confirmation: int) -> bool:
        """Whether another call, and the confirmation of its claim, fit into the run's share of the budget."""
        spent = self.queries + self.backwards + self.confirmations
        return self.draws * (spent + 1 + self.differentiate + confirmation) <= self.task.share


@dataclass(frozen=True, slots=True)
class _Flags:
    """What the host learns of a row after a call."""

    score: float
    finite: bool
    flat: bool
    finished: bool
    differentiate: bool
    adversarial: bool
    sure: bool
    won: bool


class Slots:
    """A fixed number of rows. Each serves one run; a row without one shadows a row that has, and is ignored."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle, self._stage, self._setting = oracle, oracle.stage, oracle.setting
        self._counts: list[_Count | None] = [None] * self._setting.batch
        self._rows: _Rows | None = None

    @property
    def free(self) -> list[int]:
        """The slots without a run."""
        return [slot for slot, count in enumerate(self._counts) if count is None]

    @property
    def held(self) -> bool:
        """Whether new runs, which begin with a gradient, wait for a call that another row wants one of."""
        live = self._live()
        return bool(live) and self._stage.attack.needs is Need.GRADIENT and not any(c.differentiate for _, c in live)

    @property
    def tasks(self) -> list[Task]:
        """The runs under way."""
        return [count.task for count in self._counts if count is not None]

    def fill(self, tasks: list[Task]) -> None:
        """Begin these runs in free slots."""
        slots = self.free[: len(tasks)]
        for slot, task in zip(slots, tasks, strict=True):
            self._counts[slot] = _Count(task, self._stage.draws, self._stage.attack.needs is Need.GRADIENT)
        if tasks and self._rows is None:
            self._rows = take(self._pose(tasks), [min(slot, len(tasks) - 1) for slot in range(self._setting.batch)])
        elif tasks:
            self._rows = put(self._filled, slots, self._pose(tasks))
        if self._rows is not None:
            self._shadow()

    def release(self, task: Task) -> Effort:
        """End a run before its time; return what it has cost."""
        slot, count = next((s, c) for s, c in enumerate(self._counts) if c is not None and c.task is task)
        self._counts[slot] = None
        return count.effort

    def step(self) -> list[tuple[Task, Outcome]]:
        """Ask, call the model once, tell; return the runs that have ended and what they report."""
        flags = self._advance()
        leaving = {slot: count for slot, count in self._live() if self._ends(count, flags[slot])}
        claims = [slot for slot in leaving if flags[slot].adversarial and not flags[slot].sure]
        if claims:
            flags = self._confirm(claims, flags)
            leaving = {slot: count for slot, count in leaving.items() if self._ends(count, flags[slot])}
        for slot in leaving:
            self._counts[slot] = None
        return [(count.task, self._outcome(slot, count, flags[slot])) for slot, count in leaving.items()]

    def _live(self) -> list[tuple[int, _Count]]:
        return [(slot, count) for slot, count in enumerate(self._counts) if count is not None]

    def _ends(self, count: _Count, flags: _Flags) -> bool:
        early = flags.won and self._stage.attack.goal.early
        return early or flags.finished or not count.affords(confirmation=not self._stage.exact)

    def _advance(self) -> list[_Flags]:
        """Ask, call, tell; keep the better points and account for the passes."""
        rows, attack = self._filled, self._stage.attack
        delta = attack.ask(rows.problem, rows.state)
        differentiate = any(count.differentiate for _, count in self._live())
        answer, new, finite = self._oracle.answer(rows.problem, rows.state, delta, differentiate=differentiate)
        self._report(answer)
        best = where(attack.goal.improves(new.score, rows.best.score), new, rows.best)
        self._rows = _Rows(rows.problem, attack.tell(rows.problem, rows.state, answer), best)
        flags = self._flags(finite, answer)
        for slot, count in self._live():
            self._account(count, flags[slot])
        return flags

    def _flags(self, finite: Rows, answer: Answer) -> list[_Flags]:
        """Bring to the host what it must know of every row: the one synchronisation of a step."""
        rows, attack, stop = self._filled, self._stage.attack, self._setting.stop
        best = rows.best
        columns = (
            best.score,
            finite,
            _flat(answer),
            attack.finished(rows.state),
            attack.differentiates(rows.state),
            best.adversarial,
            best.sure,
            attack.goal.won(best.score, best.adversarial, stop),
        )
        table = torch.stack([column.float() for column in columns], dim=1)
        return [_Flags(score, *map(bool, flags)) for score, *flags in table.tolist()]

    def _account(self, count: _Count, flags: _Flags) -> None:
        if not flags.finite:
            raise ModelError(
                f"{self._stage.name} met a logit or a gradient that is not finite, at step {count.queries} on example "
                f"{count.task.example.given.id!r}; expected numbers: look for overflow, or for a root or a norm at zero"
            )
        count.queries += 1
        count.backwards += count.differentiate
        count.flat |= count.differentiate and flags.flat and self._stage.precision != "bf16"
        count.differentiate = flags.differentiate

    def _confirm(self, claims: list[int], flags: list[_Flags]) -> list[_Flags]:
        """Let the untouched model judge the claims that rounding may have made; a refuted row searches on."""
        rows = self._filled
        judged = self._oracle.decide(rows.problem, rows.best.delta)
        chosen = torch.zeros_like(judged.adversarial).index_fill(0, self._setting.integers(claims), value=True)
        self._rows = replace(rows, best=where(chosen, judged, rows.best))
        won = self._stage.attack.goal.won(judged.score, judged.adversarial, self._setting.stop)
        table = torch.stack([judged.adversarial.float(), won.float(), judged.score.float()], dim=1).tolist()
        for slot, count in self._live():
            count.confirmations += slot in claims
        return [
            replace(old, adversarial=bool(row[0]), won=bool(row[1]), score=row[2], sure=True) if slot in claims else old
            for slot, (old, row) in enumerate(zip(flags, table, strict=True))
        ]

    def _outcome(self, slot: int, count: _Count, flags: _Flags) -> Outcome:
        delta = self._filled.best.delta[slot].clone()
        attack, run = self._stage.attack, count.task.run
        return Outcome(
            delta,
            flags.score,
            flags.adversarial,
            flags.won,
            count.effort,
            self._stage.name,
            attack.goal,
            run,
            blind=attack.needs is not Need.GRADIENT,
            flat=count.flat,
        )

    def _report(self, answer: Answer) -> None:
        if self._setting.observe is None or answer.loss is None:
            return
        live = self._live()
        self._setting.observe(
            Progress(
                ids=tuple(count.task.example.given.id for _, count in live),
                runs=tuple(count.task.run for _, count in live),
                steps=tuple(count.queries for _, count in live),
                loss=answer.loss[[slot for slot, _ in live]],
            )
        )

    @property
    def _filled(self) -> _Rows:
        assert self._rows is not None, "no run has been put into a slot"  # noqa: S101 - an internal invariant
        return self._rows

    def _shadow(self) -> None:
        live, idle = self._live(), self.free
        if live and idle:
            self._rows = put(self._filled, idle, take(self._filled, [live[0][0]] * len(idle)))

    def _pose(self, tasks: list[Task]) -> _Rows:
        """Return the rows with which these runs begin."""
        setting, given = self._setting, [task.example.given for task in tasks]
        x = setting.stack([one.x for one in given])
        targets = [task.run.target for task in tasks]
        problem = Problem(
            x=x,
            y=setting.integers([one.y for one in given]),
            target=None if targets[0] is None else setting.integers([t for t in targets if t is not None]),
            region=setting.region(given, x),
            logits=setting.stack([task.example.logits for task in tasks]),
            key=setting.integers([self._key(task) for task in tasks]),
            restart=setting.integers([task.run.restart for task in tasks]),
            start=self._starts(tasks),
        )
        score = x.new_full((len(tasks),), torch.inf)
        never = torch.zeros_like(score, dtype=torch.bool)
        best = Point(torch.zeros_like(x), score, never, never.clone())
        return _Rows(problem, self._stage.attack.init(problem), best)

    def _key(self, task: Task) -> int:
        given, run = task.example.given, task.run
        return random.key(self._setting.seed, given.id, self._stage.name, run.restart, run.target)

    def _starts(self, tasks: list[Task]) -> Images | None:
        starts = [start for task in tasks if (start := self._start(task)) is not None]
        if starts and len(starts) < len(tasks):
            raise InputError("some inputs have a start and others have none; expected one for all, or for none")
        return self._setting.stack(starts) if starts else None

    def _start(self, task: Task) -> Tensor | None:
        best, given = task.example.best, task.example.given
        if not (self._stage.resume or self._stage.probe):
            return given.start
        return torch.zeros_like(given.x) if best is None else best.delta


def _flat(answer: Answer) -> Rows:
    """Return which rows have a gradient that is zero everywhere."""
    if answer.gradient is None:
        return torch.zeros_like(answer.adversarial)
    return (answer.gradient == 0).flatten(1).all(1)
