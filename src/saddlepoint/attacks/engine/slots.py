"""The rows of a batch of fixed shape, and their update by one call of the model."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from saddlepoint import random
from saddlepoint.attacks.engine.assignment import RowAssignment, assign
from saddlepoint.attacks.engine.counts import Counts, Host, places
from saddlepoint.attacks.engine.example import Outcome, Passes
from saddlepoint.attacks.engine.oracle import Health, Oracle, Point
from saddlepoint.attacks.engine.plan import Task
from saddlepoint.attacks.engine.setting import Progress
from saddlepoint.attacks.protocol import Access, Answer, LookAhead, Problem
from saddlepoint.errors import InputError, ModelError
from saddlepoint.rows import put, take, where
from saddlepoint.typing import Images


@dataclass(frozen=True, slots=True)
class _Rows:
    """All tensors with one row per slot."""

    problem: Problem
    state: object
    best: Point


@dataclass(frozen=True, slots=True)
class _Flags:
    """What is copied to the host after a call, one value per row."""

    score: Host
    ahead: Host
    finite: Host
    zero_gradient: Host
    finished: Host
    differentiate: Host
    adversarial: Host
    sure: Host
    won: Host


class Slots:
    """A fixed number of rows, each for one run. A row without a run looks ahead for another's, or is ignored."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle, self._stage, self._setting = oracle, oracle.stage, oracle.setting
        self._counts = Counts(self._setting.batch)
        self._rows: _Rows | None = None
        self._assignment: RowAssignment | None = None

    @property
    def free(self) -> list[int]:
        """The slots without a run."""
        return places(~self._counts.busy)

    @property
    def held(self) -> bool:
        """Whether new runs, which begin with a gradient, wait until another row wants a gradient, too."""
        return self._stage.attack.access is Access.GRADIENT and bool(self._counts.busy.any()) and not self._wanted

    @property
    def tasks(self) -> list[Task]:
        """The runs that are under way."""
        return [self._counts.task(slot) for slot in self._live]

    def fill(self, tasks: list[Task]) -> None:
        """Begin these runs in free slots."""
        slots = self.free[: len(tasks)]
        for slot, task in zip(slots, tasks, strict=True):
            self._counts.begin(slot, task, wants=self._stage.attack.access is Access.GRADIENT)
        if tasks and self._rows is None:
            self._rows = take(self._pose(tasks), [min(slot, len(tasks) - 1) for slot in range(self._setting.batch)])
        elif tasks:
            self._rows = put(self._filled, slots, self._pose(tasks))
        if self._rows is not None:
            self._shadow()

    def release(self, task: Task) -> Passes:
        """End a run early; return its passes."""
        slot = next(slot for slot in self._live if self._counts.task(slot) is task)
        return self._counts.end(slot, self._stage.draws)[1]

    def step(self) -> list[tuple[Task, Outcome]]:
        """Ask, call the model once, tell; return the runs that have ended, with their outcomes."""
        flags = self._advance()
        leaving = self._ends(flags)
        claims = leaving & flags.adversarial & ~flags.sure
        if claims.any():
            flags = self._confirm(claims, flags)
            leaving &= self._ends(flags)
        return [self._outcome(slot, flags) for slot in places(leaving)]

    @property
    def _live(self) -> list[int]:
        return places(self._counts.busy)

    @property
    def _wanted(self) -> bool:
        """Whether a row wants a gradient with its next answer."""
        return bool((self._counts.busy & self._counts.wants).any())

    def _ends(self, flags: _Flags) -> Host:
        over = flags.finished | ~self._counts.affords(self._stage.draws, confirmation=not self._stage.exact)
        return self._counts.busy & (over | flags.won if self._stage.goal.early else over)

    def _advance(self) -> _Flags:
        """Ask, call, tell; keep the better points and count the passes."""
        rows, attack, differentiate = self._filled, self._stage.attack, self._wanted
        delta = attack.ask(rows.problem, rows.state)
        answer, new, health = self._oracle.answer(rows.problem, rows.state, delta, differentiate=differentiate)
        self._report(answer)
        improves = self._stage.goal.improves(new.score, rows.best.score)
        told, best = attack.tell(rows.problem, rows.state, answer), where(improves, new, rows.best)
        ahead = torch.zeros_like(rows.problem.y)
        if self._assignment is not None and self._assignment.deep:
            assert isinstance(attack, LookAhead)  # noqa: S101 - only such attacks are given rows that look ahead
            ends = improves | ~attack.rejects(rows.state, answer) | attack.finished(told) | ~health.finite
            furthest = self._assignment.furthest(ends)
            ahead = self._assignment.ahead[furthest]
            told, best, health = take((told, best, health), furthest)
        self._rows = self._skipped(_Rows(rows.problem, told, best))
        flags = self._flags(health, ahead)
        self._account(flags)
        return flags

    def _skipped(self, rows: _Rows) -> _Rows:
        """Move the rows that look ahead from their leader's state to the later proposals that they try."""
        attack = self._stage.attack
        if self._assignment is None or not self._assignment.deep or not isinstance(attack, LookAhead):
            return rows
        return replace(rows, state=attack.skip(rows.problem, rows.state, self._assignment.ahead))

    def _flags(self, health: Health, ahead: Tensor) -> _Flags:
        """Copy to the host what it must know of every row: the one synchronisation of a step."""
        rows, attack, stop = self._filled, self._stage.attack, self._setting.stop
        best = rows.best
        columns = (
            best.score,
            ahead,
            health.finite,
            health.zero_gradient,
            attack.finished(rows.state),
            attack.differentiates(rows.state),
            best.adversarial,
            best.sure,
            self._stage.goal.won(best.score, best.adversarial, stop),
        )
        score, further, *flags = torch.stack([column.float() for column in columns]).cpu().numpy()
        return _Flags(score, further.astype(np.int64), *(flag > 0 for flag in flags))

    def _account(self, flags: _Flags) -> None:
        counts = self._counts
        for slot in places(counts.busy & ~flags.finite):
            step, example = counts.queries[slot] + flags.ahead[slot], counts.task(slot).example
            error = ModelError(
                f"{self._stage.name} met a logit or a gradient that is not finite, at step {step} on "
                f"example {example.input.id!r}; expected numbers: look for overflow, or for a root, "
                "a norm or a logarithm at zero"
            )
            error.example = str(example.input.id)
            raise error
        counts.queries += 1 + flags.ahead
        counts.backwards += counts.wants
        if self._stage.precision != "bf16":
            counts.zero_gradient |= counts.wants & flags.zero_gradient & ~flags.adversarial
        counts.wants[:] = flags.differentiate

    def _confirm(self, claims: Host, flags: _Flags) -> _Flags:
        """Let the unmodified model judge the claims that may be rounding errors; a refuted row continues its search."""
        rows = self._filled
        judged = self._oracle.decide(rows.problem, rows.best.delta)
        chosen = torch.from_numpy(claims).to(judged.adversarial.device)
        best = where(chosen, judged, rows.best)
        if self._assignment is not None:
            best = take(best, self._assignment.leader)  # followers of a refuted row hold the same point
        self._rows = replace(rows, best=best)
        won = self._stage.goal.won(best.score, best.adversarial, self._setting.stop)
        score, *judgement = torch.stack([best.score.float(), best.adversarial.float(), won.float()]).cpu().numpy()
        adversarial, won = (flag > 0 for flag in judgement)
        self._counts.confirmations += claims
        return replace(flags, score=score, adversarial=adversarial, won=won, sure=flags.sure | claims)

    def _outcome(self, slot: int, flags: _Flags) -> tuple[Task, Outcome]:
        """End the run in a slot; return it and its outcome."""
        attack, delta = self._stage.attack, self._filled.best.delta[slot].clone()
        task, passes = self._counts.end(slot, self._stage.draws)
        return task, Outcome(
            delta,
            float(flags.score[slot]),
            bool(flags.adversarial[slot]),
            bool(flags.won[slot]),
            passes,
            self._stage.name,
            self._stage.goal,
            task.run,
            gradient_free=attack.access is not Access.GRADIENT,
            zero_gradient=bool(self._counts.zero_gradient[slot]),
        )

    def _report(self, answer: Answer) -> None:
        if self._setting.observe is None or answer.loss is None:
            return
        self._setting.observe(
            Progress(
                ids=tuple(task.example.input.id for task in self.tasks),
                runs=tuple(task.run for task in self.tasks),
                steps=tuple(self._counts.queries[self._live].tolist()),
                loss=answer.loss[self._live],
            )
        )

    @property
    def _filled(self) -> _Rows:
        assert self._rows is not None, "no run has been put into a slot"  # noqa: S101 - an internal invariant
        return self._rows

    def _shadow(self) -> None:
        """Let each row without a run follow one that has a run, ahead of it if no budget or observer counts calls."""
        live, idle, setting = self._live, self.free, self._setting
        self._assignment = None
        if live and idle:
            free = setting.budget is None and setting.observe is None and setting.draws == 1
            look_ahead = free and isinstance(self._stage.attack, LookAhead)
            self._assignment = assign(live, setting.batch, look_ahead=look_ahead, device=self._filled.problem.x.device)
            followed = take(self._filled, self._assignment.leader[idle])
            self._rows = self._skipped(put(self._filled, idle, followed))

    def _pose(self, tasks: list[Task]) -> _Rows:
        """Return the initial rows of these runs."""
        setting, given = self._setting, [task.example.input for task in tasks]
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
            targeted=setting.targeted,
        )
        score = x.new_full((len(tasks),), torch.inf)
        never = torch.zeros_like(score, dtype=torch.bool)
        best = Point(torch.zeros_like(x), score, never, never.clone())
        return _Rows(problem, self._stage.attack.init(problem), best)

    def _key(self, task: Task) -> int:
        given, run = task.example.input, task.run
        return random.key(self._setting.seed, given.id, self._stage.name, run.restart, run.target)

    def _starts(self, tasks: list[Task]) -> Images | None:
        starts = [start for task in tasks if (start := self._start(task)) is not None]
        if starts and len(starts) < len(tasks):
            raise InputError("some inputs have a start and others have none; expected one for all, or for none")
        return self._setting.stack(starts) if starts else None

    def _start(self, task: Task) -> Tensor | None:
        best, given = task.example.best, task.example.input
        if not (self._stage.resume or self._stage.probe):
            return given.start
        return torch.zeros_like(given.x) if best is None else best.delta
