"""`saddlepoint.attack`: the public entry, where what was given is checked and the rows are gathered."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from saddlepoint.attacks.example import Id, Input, Row
from saddlepoint.attacks.pipeline import run_attack
from saddlepoint.attacks.protocol import Attack
from saddlepoint.attacks.setting import Progress, Setting
from saddlepoint.classifier import PRECISIONS, Classifier, Precision, check_images, check_labels
from saddlepoint.errors import InputError
from saddlepoint.geometry import Ball
from saddlepoint.typing import Images, Labels, PerExample, Rows

Stop = Literal["fooled", "never"] | float


@dataclass(frozen=True, slots=True)
class AttackResult:
    """What an attack found, one entry per example, in the order of x.

    Attributes:
        x_adv: float32 (B, C, H, W), inside Δ without tolerance. A failed example has its best point, never silently x.
        success: misclassified in float32 by the untouched model; with a target, the target is predicted.
        margin: z_y − max_{j≠y} z_j at x_adv; with a target max_{j≠t} z_j − z_t. Not above 0 on success.
        norm: ‖x_adv − x‖ in the norm of the ball, float64, pixel units.
        steps: updates of δ, over all runs that count; 0 where the clean image already succeeds.
        forwards: passes through the model, clean evaluation, confirmations and verification included.
        backwards: passes back to the pixels.
        speculative: forward passes of runs that were started to fill the batch and turned out not to be needed; they
            change no other entry, and unlike all of those they depend on the neighbours.
        attack: the attack that broke the example, "clean" if it was wrong from the start, None if it stands.
        restart: the restart that found x_adv.
        repeatable: whether two forwards of one batch, in different order, agreed bit for bit on this machine.
    """

    x_adv: Images
    success: Rows
    margin: PerExample
    norm: PerExample
    steps: Tensor
    forwards: Tensor
    backwards: Tensor
    speculative: Tensor
    attack: list[str | None]
    restart: list[int]
    repeatable: bool


def attack(
    classifier: Classifier,
    x: Images,
    y: Labels,
    ball: Ball,
    attack: Attack | Sequence[Attack],
    *,
    target: Labels | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    precision: Precision = "fp32",
    stop: Stop = "fooled",
    box: tuple[float, float] | None = (0.0, 1.0),
    ids: Sequence[Id] | None = None,
    budget: int | None = None,
    start: Images | None = None,
    observe: Callable[[Progress], None] | None = None,
) -> AttackResult:
    """Search for max_{δ∈Δ} ℓ(h(x + δ), y), per example, and report verified points.

    A row's result depends on (seed, id, attack, restart) and the batch size, and on nothing else.

    Args:
        classifier: the model, with its normalisation inside.
        x: pixels in [0, 1], float32 (B, C, H, W).
        y: labels, int64 (B,).
        ball: `Linf(eps)`, `L2(eps)` or `L1(eps)`; eps in pixel units, one for all or one per example.
        attack: one attack, or several in cascade: each sees only what those before it did not break.
        target: classes to be predicted instead, (B,); success then means just that.
        seed: of all random streams.
        batch_size: rows of every call of the model; min(B, 64) when not given.
        precision: of the search; success is always decided in float32, and what low precision fails to break gets
            float32 steps.
        stop: an example stops when it is "fooled", "never", or when its margin is at most −stop.
        box: bounds of the pixels, or None for none.
        ids: stable identities of the examples, which the random streams derive from; positions when not given.
        budget: passes, forward plus backward, that the search may spend on an example, shared evenly by its runs.
        start: δ to begin from, (B, C, H, W); attacks then use no start of their own.
        observe: called once per call of the model; see `Progress`.

    Raises:
        InputError: an argument cannot be used.
        ModelError: the model returns no finite logits, returns probabilities, or is stochastic.
    """
    if not isinstance(classifier, Classifier):
        raise InputError(
            f"classifier is a {type(classifier).__name__}; expected sp.Classifier(module, mean=…, std=…), "
            "which takes pixels in [0, 1]"
        )
    x = check_images(x, box)
    y = check_labels(y, len(x))
    target = None if target is None else check_labels(target, len(x), "target")
    setting = Setting(
        ball=_ball(ball),
        box=box,
        batch=_positive("batch_size", batch_size, "rows") or min(len(x), 64),
        device=classifier.device,
        seed=seed,
        targeted=target is not None,
        stop=_threshold(stop),
        budget=_positive("budget", budget, "passes"),
        observe=observe,
    )
    inputs = _inputs(x, y, ball, target, _ids(ids, len(x)), _start(start, x))
    rows = run_attack(classifier, inputs, _suite(attack), setting, _precision(precision))
    return gather(sorted(rows, key=lambda row: row.given.index), x.device)


def gather(rows: Sequence[Row], device: torch.device) -> AttackResult:
    """Return verified rows, in their order, as tensors."""
    return AttackResult(
        x_adv=torch.stack([row.x_adv for row in rows]).to(device),
        success=torch.tensor([row.success for row in rows], device=device),
        margin=torch.tensor([row.margin for row in rows], device=device),
        norm=torch.tensor([row.norm for row in rows], dtype=torch.float64, device=device),
        steps=torch.tensor([row.effort.steps for row in rows], device=device),
        forwards=torch.tensor([row.effort.forwards for row in rows], device=device),
        backwards=torch.tensor([row.effort.backwards for row in rows], device=device),
        speculative=torch.tensor([row.wasted.forwards for row in rows], device=device),
        attack=[row.attack for row in rows],
        restart=[row.run.restart if row.run else 0 for row in rows],
        repeatable=all(row.repeatable for row in rows),
    )


def _inputs(
    x: Images, y: Labels, ball: Ball, target: Labels | None, ids: Sequence[Id], start: Images | None
) -> Iterator[Input]:
    eps = torch.as_tensor(ball.eps, dtype=torch.float64).expand(len(x)).tolist()
    targets = [None] * len(x) if target is None else target.tolist()
    for index, (label, goal) in enumerate(zip(y.tolist(), targets, strict=True)):
        first = None if start is None else start[index]
        yield Input(index, ids[index], x[index], label, eps[index], goal, first)


def _suite(attack: object) -> tuple[Attack, ...]:
    suite = (attack,) if isinstance(attack, Attack) else attack
    if not isinstance(suite, tuple | list) or not suite or not all(isinstance(each, Attack) for each in suite):
        raise InputError(f"attack is {attack!r}; expected an attack such as sp.PGD(steps=40), or several")
    return tuple(suite)


def _ball(ball: object) -> Ball:
    if not isinstance(ball, Ball):
        raise InputError(f"ball is {ball!r}; expected sp.Linf(eps), sp.L2(eps) or sp.L1(eps)")
    return ball


def _positive(name: str, number: int | None, unit: str) -> int | None:
    if number is not None and number < 1:
        raise InputError(f"{name} is {number}; expected a positive number of {unit}")
    return number


def _threshold(stop: object) -> float:
    value = {"fooled": 0.0, "never": math.inf}.get(stop) if isinstance(stop, str) else stop
    if not isinstance(value, int | float) or not value >= 0:
        raise InputError(f"stop is {stop!r}; expected 'fooled', 'never' or a margin ≥ 0")
    return float(value)


def _precision(precision: object) -> Precision:
    for known in PRECISIONS:
        if precision == known:
            return known
    raise InputError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")


def _ids(ids: Sequence[Id] | None, count: int) -> Sequence[Id]:
    if ids is None:
        return range(count)
    if len(ids) != count or len(set(ids)) != count:
        raise InputError(f"ids has {len(ids)} entries, {len(set(ids))} different; expected {count} different ones")
    return ids


def _start(start: Tensor | None, x: Tensor) -> Tensor | None:
    if start is not None and start.shape != x.shape:
        raise InputError(f"start has shape {tuple(start.shape)}; expected that of x, {tuple(x.shape)}")
    return start
