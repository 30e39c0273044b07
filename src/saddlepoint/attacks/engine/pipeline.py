"""The path from inputs to verified rows, as generators that each hold at most a batch or two.

inputs → clean → search (once per attack of the cascade) → verify → rows
"""

import math
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from saddlepoint.attacks.engine.batch import Slots
from saddlepoint.attacks.engine.example import Example, Input, Outcome, Passes, Row
from saddlepoint.attacks.engine.oracle import Oracle, Stage
from saddlepoint.attacks.engine.plan import Plan, Task
from saddlepoint.attacks.engine.setting import Setting, average
from saddlepoint.attacks.engine.stages import stages
from saddlepoint.attacks.goals import Fool
from saddlepoint.attacks.protocol import Run
from saddlepoint.attacks.wrappers import Step, check_suite, draws_of
from saddlepoint.classifier import Classifier, Frozen, Precision, Randomness, check_logits, check_repeatable
from saddlepoint.classifier.randomness import random_state
from saddlepoint.classifier.validation import check_classes
from saddlepoint.errors import AttackError, ModelError
from saddlepoint.results.records.masking import OVERTAKEN, ZERO_GRADIENT

Item = TypeVar("Item")

FRESH = 5
"""A stochastic model is judged by this many times the draws that the search averages over."""

PATIENCE = 5.0
"""Seconds that a finished example waits for others before it is verified: finished work soon reaches the disk."""

ASTRAY = 0.25
"""A difference of the search's and the decision's margin, as a share of the largest logit, beyond any rounding."""


def run_attack(
    classifier: Classifier,
    inputs: Iterable[Input],
    suite: Sequence[Step],
    setting: Setting,
    precision: Precision = "fp32",
) -> Iterator[Row]:
    """Attack a stream of inputs; yield a verified row for each, in the order in which they finish.

    Memory is bounded by the batch, not by the length of the stream. The classifier is frozen while the stream is open
    and restored when it is exhausted or closed; two open streams must be closed in reverse order. The stream leaves the
    caller's global random generators alone.

    Args:
        classifier: the model.
        inputs: what to attack; read as rows of the batch become free.
        suite: the attacks, each of which sees what those before it did not break.
        setting: what holds for every input.
        precision: of the search; success is decided in float32.
    """
    check_suite(suite)
    setting = replace(setting, draws=draws_of(suite[0]))
    rows, randomness = _stream(classifier, inputs, suite, setting, precision), Randomness(setting.seed)
    try:
        while True:
            with randomness.drawn():
                chunk = next(rows, None)
            if chunk is None:
                return
            yield from chunk
    finally:
        with random_state():
            rows.close()


def _stream(
    classifier: Classifier, inputs: Iterable[Input], suite: Sequence[Step], setting: Setting, precision: Precision
) -> Generator[list[Row], None, None]:
    with classifier.frozen() as model:
        examples = clean(model, inputs, setting)
        # Generators that read each other: what one attack has broken passes the others by at once.
        for stage in stages(suite, precision, setting.goal):
            examples = search(model, stage, examples, setting)
        yield from verify(model, examples, setting)


def clean(model: Frozen, inputs: Iterable[Input], setting: Setting) -> Iterator[Example]:
    """Evaluate the clean images.

    The first batch is evaluated again in another order, to check that results do not depend on it. An image that a
    stochastic model classifies correctly in any draw is attacked.
    """
    repeatable: bool | None = None
    for chunk in _batched(inputs, setting.batch):
        x = setting.stack([source.x for source in _padded(chunk, setting.batch)])
        draws = [check_logits(model.decide(x)) for _ in range(setting.draws)]
        y, classes = setting.integers([source.y for source in chunk]), draws[0].shape[1]
        check_classes(y, classes)
        # Once: it takes a forward, and a model that mixes rows mixes them in any batch.
        if repeatable is None:
            repeatable = check_repeatable(model.decide, x, draws[0], deterministic=setting.draws == 1)
        targets = _targets(chunk, setting, classes)
        margin, share = setting.judge_draws([logits[: len(chunk)] for logits in draws], y, targets)
        logits = average(draws).clone()  # a compiled module may write its next answer into this one's memory
        for source, row, gap, wrong in zip(chunk, logits.unbind(), margin.tolist(), share.tolist(), strict=False):
            hit, spent = wrong == 1, Passes(forwards=setting.draws)
            best = (
                Outcome(torch.zeros_like(source.x), gap, hit, False, Passes(), "clean", Fool(), Run()) if hit else None
            )
            done = hit and gap <= -setting.stop
            example = Example(source, row, gap, hit, done, repeatable, best, spent)
            yield example.resumed(setting.earlier.get(str(source.id)))


def search(model: Frozen, stage: Stage, examples: Iterator[Example], setting: Setting) -> Iterator[Example]:
    """Run one attack on a stream of examples; rows that become free are refilled, so that the batch keeps its shape.

    Args:
        model: the frozen network.
        stage: the attack, its goal and its restarts.
        examples: the stream; it is read only as far as rows become free.
        setting: batch size, seed, and what a user may interrupt or limit.
    """
    plan, slots = Plan(stage, examples, setting), Slots(Oracle(model, stage, setting))
    while True:
        tasks: list[Task] = []
        for drawn in plan.draw(0 if slots.held else len(slots.free)):
            if isinstance(drawn, Example):
                yield _passed(drawn, stage, setting)
            else:
                tasks.append(drawn)
        slots.fill(tasks)
        if not slots.tasks:
            return
        _advance(plan, slots)
        # Record all before yielding any: the consumer may be interrupted.
        yield from [_noted(example, setting) for example in plan.finished()]


def _passed(example: Example, stage: Stage, setting: Setting) -> Example:
    """Return an example that a stage has nothing to do for, as it leaves it."""
    if example.through > stage.number:
        return example
    return _noted(replace(example, through=stage.number + 1), setting)


def _noted(example: Example, setting: Setting) -> Example:
    """Tell what is settled of an example that leaves a stage."""
    if setting.settled is not None:
        setting.settled(example)
    return example


def _advance(plan: Plan, slots: Slots) -> None:
    """Step until a run ends or a new one may begin; then end the runs that can no longer change a result."""
    held = slots.held
    while not (ended := slots.step()) and not held:
        pass
    for task, outcome in ended:
        plan.record(task, outcome)
    for task in slots.tasks:
        if not plan.needs(task):
            plan.discard(task, slots.release(task))


def verify(model: Frozen, examples: Iterator[Example], setting: Setting) -> Iterator[list[Row]]:
    """Yield verified rows, batch by batch, as judged by one float32 forward of the unmodified model.

    A stochastic model is judged by the majority of fresh draws, so that a lucky draw of the search does not count.

    Raises:
        AttackError: an attack returned a point outside Δ.
    """
    count = 1 if setting.draws == 1 else FRESH * setting.draws
    patience = PATIENCE if setting.draws == 1 else math.inf  # fresh draws must not depend on a clock
    for chunk in _batched(examples, setting.batch, patience):
        padded = _padded(chunk, setting.batch)
        inputs = [example.input for example in padded]
        x = setting.stack([one.x for one in inputs])
        delta = setting.stack([_delta(example) for example in padded])
        region = setting.region(inputs, x)
        inside = region.contains(delta).tolist()
        points = x + delta
        draws = [model.decide(points) for _ in range(count)]
        labels, targets = setting.integers([one.y for one in inputs]), _targets(inputs, setting)
        margin, share = setting.judge_draws(draws, labels, targets)
        # Of x + δ as it is stored, in float64: what a reader of the files computes.
        norm = region.ball.norm(points.cpu().double() - x.cpu().double())
        logits = average(draws).clone()
        columns = zip(
            chunk,
            points.unbind(),
            logits.unbind(),
            inside,
            share.tolist(),
            margin.tolist(),
            norm.tolist(),
            strict=False,
        )
        yield [_verified(*row, draws=count) for row in columns]


def _verified(
    example: Example,
    point: Tensor,
    logits: Tensor,
    inside: bool,
    hits: float,
    margin: float,
    norm: float,
    *,
    draws: int,
) -> Row:
    """Return the row of one example from the unmodified model's logits at its point."""
    name = example.best.attack if example.best else None
    if not inside:
        raise AttackError(f"{name} left Δ on example {example.input.id!r}: its point has norm {norm:.9g}")
    if draws == 1:
        _agree(example, margin, logits)
    hit = hits > 0.5
    return Row(
        input=example.input,
        x_adv=point,
        clean=example.logits,
        logits=logits,
        success=hit,
        accuracy=1 - hits,
        margin=margin + 0.0,  # not −0
        norm=norm,
        passes=example.passes + Passes(forwards=draws),
        wasted=example.wasted,
        attack=("clean" if example.misclassified else name) if hit else None,
        run=example.best.run if example.best else None,
        repeatable=example.repeatable,
        doubts=_lasting(example),
    )


def _lasting(example: Example) -> frozenset[str]:
    """Return the doubts that later attacks have not cleared.

    A zero gradient is none if another run never met one, and a black box that got further is none if an attack with
    gradients went on from there to a better point.
    """
    cleared = {ZERO_GRADIENT} if example.had_gradient else set[str]()
    if example.best is not None and not example.best.gradient_free:
        cleared.add(OVERTAKEN)
    return example.doubts - cleared


def _agree(example: Example, margin: float, logits: Tensor) -> None:
    """Raise ModelError if the margin that the search saw is far from the unmodified module's at the same point."""
    best = example.best
    if best is None or best.goal.as_given or math.isinf(best.score):
        return
    if abs(best.score - margin) > ASTRAY * logits.abs().max().item():
        raise ModelError(
            f"{best.attack} saw the margin {best.score:.4g} on example {example.input.id!r}, where the module itself "
            f"has {margin:.4g}: either its fastest form computes something else "
            "(wrap it in torch.compile(…, backend='eager')), or its forwards are random (attack it through sp.EOT)"
        )


def _delta(example: Example) -> Tensor:
    return torch.zeros_like(example.input.x) if example.best is None else example.best.delta.to(example.input.x.device)


def _targets(inputs: Sequence[Input], setting: Setting, classes: int | None = None) -> Tensor | None:
    if not setting.targeted:
        return None
    target = setting.integers([-1 if one.target is None else one.target for one in inputs])
    if classes is not None:
        check_classes(target, classes, "target")
    return target


def _batched(items: Iterable[Item], size: int, patience: float = math.inf) -> Iterator[list[Item]]:
    """Yield lists of `size` items, or fewer once the first has waited longer than `patience` seconds."""
    chunk, since = list[Item](), 0.0
    for item in items:
        since = since if chunk else time.monotonic()
        chunk.append(item)
        if len(chunk) == size or time.monotonic() - since > patience:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _padded(items: list[Item], size: int) -> list[Item]:
    """Return the items, the last repeated up to the size of a batch."""
    return items + items[-1:] * (size - len(items))
