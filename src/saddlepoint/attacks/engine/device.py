"""The tensors of a batch, one row per slot: how runs enter them, and what the host is told of them after a call."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from saddlepoint import random
from saddlepoint.attacks.engine.host import Flags
from saddlepoint.attacks.engine.lookahead import RowAssignment
from saddlepoint.attacks.engine.oracle import Health, Point, Stage
from saddlepoint.attacks.engine.plan import Task
from saddlepoint.attacks.engine.setting import Setting
from saddlepoint.attacks.protocol import Attack, LookAhead, Problem
from saddlepoint.errors import InputError
from saddlepoint.typing import Images


@dataclass(frozen=True, slots=True)
class Rows:
    """All tensors with one row per slot."""

    problem: Problem
    state: object
    best: Point


def copied(rows: Rows, stage: Stage, health: Health, ahead: Tensor, stop: float) -> Flags:
    """Copy to the host what it must know of every row: the one synchronisation of a step.

    Args:
        rows: the runs, one per row of the batch.
        stage: the attack, its goal and its arithmetic.
        health: whether a row's numbers are finite, and whether its gradient is zero.
        ahead: how many rejected proposals each row assumed, (B,).
        stop: the margin τ at which a row has won.
    """
    best = rows.best
    columns = (
        best.score,
        ahead,
        health.finite,
        health.zero_gradient,
        stage.attack.finished(rows.state),
        stage.attack.differentiates(rows.state),
        best.adversarial,
        best.certain,
        stage.goal.won(best.score, best.adversarial, stop),
    )
    # One tensor and one copy: each of nine would wait for the device.
    score, further, *flags = torch.stack([column.float() for column in columns]).cpu().numpy()
    return Flags(score, further.astype(np.int64), *(flag > 0 for flag in flags))


def skipped(rows: Rows, attack: Attack, assignment: RowAssignment | None) -> Rows:
    """Move the rows that look ahead from their leader's state to the later proposals that they try."""
    if assignment is None or not assignment.deep or not isinstance(attack, LookAhead):
        return rows
    return replace(rows, state=attack.skip(rows.problem, rows.state, assignment.ahead))


def pose_rows(stage: Stage, setting: Setting, tasks: list[Task]) -> Rows:
    """Return the initial rows of these runs."""
    inputs = [task.example.input for task in tasks]
    x = setting.stack([one.x for one in inputs])
    targets = [task.run.target for task in tasks]
    problem = Problem(
        x=x,
        y=setting.integers([one.y for one in inputs]),
        target=None if targets[0] is None else setting.integers([t for t in targets if t is not None]),
        region=setting.region(inputs, x),
        logits=setting.stack([task.example.logits for task in tasks]),
        key=setting.integers([_key(stage, setting, task) for task in tasks]),
        restart=setting.integers([task.run.restart for task in tasks]),
        start=_starts(stage, setting, tasks),
        targeted=setting.targeted,
    )
    score = x.new_full((len(tasks),), torch.inf)
    never = torch.zeros_like(score, dtype=torch.bool)
    best = Point(torch.zeros_like(x), score, never, never.clone())
    return Rows(problem, stage.attack.init(problem), best)


def _key(stage: Stage, setting: Setting, task: Task) -> int:
    return random.key(setting.seed, task.example.input.id, stage.name, task.run.restart, task.run.target)


def _starts(stage: Stage, setting: Setting, tasks: list[Task]) -> Images | None:
    starts = [start for task in tasks if (start := _start(stage, task)) is not None]
    if starts and len(starts) < len(tasks):
        raise InputError("some inputs have a start and others have none; expected one for all, or for none")
    return setting.stack(starts) if starts else None


def _start(stage: Stage, task: Task) -> Tensor | None:
    best, own = task.example.best, task.example.input
    if not (stage.resume or stage.probe):
        return own.start
    return torch.zeros_like(own.x) if best is None else best.delta
