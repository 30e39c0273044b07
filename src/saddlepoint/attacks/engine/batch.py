"""The rows of a batch of fixed shape, and their update by one call of the model."""

from dataclasses import replace

import torch

from saddlepoint.attacks.engine.device import Rows, copied, pose_rows, skipped
from saddlepoint.attacks.engine.example import Outcome, Passes
from saddlepoint.attacks.engine.host import Counts, Flags, Host, places
from saddlepoint.attacks.engine.lookahead import RowAssignment, assign
from saddlepoint.attacks.engine.oracle import Oracle
from saddlepoint.attacks.engine.plan import Task
from saddlepoint.attacks.engine.setting import Progress
from saddlepoint.attacks.protocol import Access, Answer, LookAhead
from saddlepoint.rows import put, take, where


class Slots:
    """A fixed number of rows, each for one run. A row without a run looks ahead for another's, or is ignored."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle, self._stage, self._setting = oracle, oracle.stage, oracle.setting
        self._counts = Counts(self._setting.batch)
        self._rows: Rows | None = None
        self._assignment: RowAssignment | None = None

    @property
    def free(self) -> list[int]:
        """The slots without a run."""
        return places(~self._counts.busy)

    @property
    def held(self) -> bool:
        """Whether new runs, which begin with a gradient, wait until another row wants a gradient, too."""
        # A gradient for one row costs a backward pass of the whole batch.
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
        if tasks:
            new, last = pose_rows(self._stage, self._setting, tasks), len(tasks) - 1
            spread = [min(slot, last) for slot in range(self._setting.batch)]
            self._rows = take(new, spread) if self._rows is None else put(self._rows, slots, new)
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
        claims = leaving & flags.adversarial & ~flags.certain
        if claims.any():
            flags = self._confirm(claims, flags)
            leaving &= self._ends(flags)
        slots = places(leaving)
        # One copy for all: what leaves together shares its memory, and the batch's own is free to change.
        points = take(self._filled.best.delta, slots).unbind() if slots else ()
        return [
            self._counts.outcome(slot, self._stage, flags, point) for slot, point in zip(slots, points, strict=True)
        ]

    @property
    def _live(self) -> list[int]:
        return places(self._counts.busy)

    @property
    def _wanted(self) -> bool:
        """Whether a row wants a gradient with its next answer."""
        return bool((self._counts.busy & self._counts.wants).any())

    def _ends(self, flags: Flags) -> Host:
        over = flags.finished | ~self._counts.affords(self._stage.draws, confirmation=not self._stage.decides)
        return self._counts.busy & (over | flags.won if self._stage.goal.early else over)

    def _advance(self) -> Flags:
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
        self._rows = skipped(Rows(rows.problem, told, best), attack, self._assignment)
        flags = copied(self._filled, self._stage, health, ahead, self._setting.stop)
        self._counts.account(self._stage, flags)
        return flags

    def _confirm(self, claims: Host, flags: Flags) -> Flags:
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
        return replace(flags, score=score, adversarial=adversarial, won=won, certain=flags.certain | claims)

    def _report(self, answer: Answer) -> None:
        observe, live = self._setting.observe, self._live
        if observe is not None and answer.loss is not None:
            ids, runs = zip(*((task.example.input.id, task.run) for task in self.tasks), strict=True)
            observe(Progress(ids, runs, tuple(self._counts.queries[live].tolist()), answer.loss[live]))

    @property
    def _filled(self) -> Rows:
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
            self._rows = skipped(put(self._filled, idle, followed), self._stage.attack, self._assignment)
