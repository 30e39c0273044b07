"""`saddlepoint.attack`: the public entry, where what was given is checked and the rows are gathered."""

import math
import operator
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from saddlepoint.attacks.engine.example import Id, Input, Row
from saddlepoint.attacks.engine.pipeline import run_attack
from saddlepoint.attacks.engine.setting import Progress, Setting
from saddlepoint.attacks.goals import Goal
from saddlepoint.attacks.linearity import MOST, misled, slope_ratios
from saddlepoint.attacks.wrappers import Step, attack_of, doubted_only, escalation, sampled
from saddlepoint.classifier import DECISION, PRECISIONS, Classifier, Precision, check_images, check_labels
from saddlepoint.classifier.questions import question
from saddlepoint.errors import InputError, MaskingWarning
from saddlepoint.geometry import Ball
from saddlepoint.geometry.binding import check_radius
from saddlepoint.geometry.norms import widest
from saddlepoint.results.records.masking import SAMPLE_BROKEN, Finding, findings, mispredicted
from saddlepoint.typing import Images, Labels, Mask, PerExample

Stop = Literal["fooled", "never"] | float


@dataclass(frozen=True, slots=True, repr=False)
class AttackResult:
    """What an attack found, one entry per example, in the order of x.

    Attributes:
        x_adv: float32 (B, C, H, W), inside Δ without tolerance. A failed example has its best point, never silently x.
        success: misclassified in float32 by the unmodified model; with a target, the target is predicted. For a
            stochastic model: in more than half of the fresh draws.
        margin: z_y − max_{j≠y} z_j at x_adv; with a target max_{j≠t} z_j − z_t. Not above 0 on success.
        norm: ‖x_adv − x‖ in the norm of the ball, float64, pixel units.
        steps: updates of δ, over all runs that count; 0 where the clean image already succeeds.
        forwards: passes through the model, clean evaluation, confirmations and verification included.
        backwards: passes back to the pixels.
        speculative: forward passes of runs that were started early, to fill the batch, and proved unnecessary. They
            change no other entry and, unlike the other counts, depend on the neighbours.
        attack: the attack that broke the example ("PGD#2" is the second PGD of a cascade); "clean" if its clean image
            is misclassified, None if it is not broken. If several succeeded, the one that found x_adv.
        restart: the restart that found x_adv.
        repeatable: whether two forwards of one batch, in different order, agreed bit for bit on this machine.
        accuracy: share of fresh draws of the model, at x_adv, in which the label is predicted (with a target: in which
            the target is not). Robust accuracy is its mean. 0 or 1 for a deterministic model, 1 − success.
        findings: signs that the search was misled, and that robust accuracy is overestimated; also warned of.
        targeted: whether success means that the target is predicted.
    """

    x_adv: Images
    success: Mask
    margin: PerExample
    norm: PerExample
    steps: Tensor
    forwards: Tensor
    backwards: Tensor
    speculative: Tensor
    attack: list[str | None]
    restart: list[int]
    repeatable: bool
    accuracy: PerExample
    findings: tuple[Finding, ...]
    targeted: bool = False

    def __repr__(self) -> str:
        """Return a short table: how many examples each attack broke, and the passes."""
        count, broken = len(self.attack), Counter(name for name in self.attack if name is not None)
        left = float(self.accuracy.double().mean())
        width = max(map(len, ("not broken", *broken)))
        robust = "right under attack, an upper bound on robust accuracy"
        told = "never predicted as their targets, an upper bound of that" if self.targeted else robust
        lines = [f"{count} examples: {left:.1%} {told}"]
        lines += [f"  {name:{width}}  {number}" for name, number in sorted(broken.items())]
        lines += [f"  {'not broken':{width}}  {count - broken.total()}"]
        passes = (self.forwards.double().mean(), self.backwards.double().mean())
        lines += ["passes per example: {:.1f} forward, {:.1f} backward".format(*passes)]
        return "\n".join([*lines, *(finding.text for finding in self.findings)])


def attack(
    classifier: Classifier,
    x: Images,
    y: Labels,
    ball: Ball,
    attack: Step | Sequence[Step],
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
    goal: Goal | None = None,
    observe: Callable[[Progress], None] | None = None,
) -> AttackResult:
    """Search for max_{δ∈Δ} ℓ(h(x + δ), y), per example, and report verified points.

    On a CPU a row's result depends, bit for bit, on (seed, id, attack, restart), the batch size and the number of
    threads, and on nothing else: not on order, neighbours or refill.

    Args:
        classifier: the model, with its normalisation inside.
        x: pixels in [0, 1], float32 (B, C, H, W).
        y: labels, int64 (B,).
        ball: `Linf(eps)`, `L2(eps)` or `L1(eps)`; eps in pixel units, one for all or one per example.
        attack: one attack, or several in cascade, such as `STANDARD`: each sees only what those before it did not
            break. Of several, those run that search this ball.
        target: classes to be predicted instead, (B,); success then means just that.
        seed: of all random streams.
        batch_size: rows of every call of the model; min(B, 64) when not given.
        precision: of the search; success is always decided in float32, and what low precision fails to break gets
            float32 steps.
        stop: an example stops when it is "fooled", "never", or when its margin is at most −stop. One that is wrong from
            the start is then not searched; under "never" it is searched like any other.
        box: bounds of the pixels, or None for none.
        ids: stable identities of the examples, which the random streams derive from; positions when not given.
        budget: passes, forward plus backward, that the search may spend on an example, shared evenly by the attacks of
            the cascade and their runs; at least 3. Runs that cannot pay for one call are left out.
        start: δ to begin from, (B, C, H, W); attacks then use no start of their own.
        goal: which of its points an attack reports: `Fool()`, the one of least margin; `Last()`, its last iterate;
            `Nearest()`, the adversarial one of least norm. Each attack's own goal when not given.
        observe: called once per call of the model, of which none is then used to look ahead; see `Progress`.

    Raises:
        InputError: an argument cannot be used.
        ModelError: the model returns no finite logits, returns probabilities, or is stochastic.
    """
    if not isinstance(classifier, Classifier):
        raise InputError(
            f"classifier is a {type(classifier).__name__}; expected sp.Classifier(module, mean=…, std=…), "
            "which takes pixels in [0, 1]"
        )
    _check_modes()
    x = check_images(x, _box(box), channels=classifier.channels).detach()
    y = check_labels(y, len(x))
    target = None if target is None else _target(check_labels(target, len(x), "target"), y)
    ball = _ball(ball, len(x), box)
    setting = Setting(
        ball=ball,
        box=box,
        batch=_whole("batch_size", batch_size, 1) or min(len(x), 64),
        device=classifier.device,
        seed=_index("seed", seed),
        targeted=target is not None,
        stop=_threshold(stop),
        budget=_whole("budget", budget, 3),
        observe=observe,
        goal=_goal(goal),
    )
    inputs = _inputs(x, y, ball, target, _ids(ids, len(x)), _start(start, x, ball, box))
    suite, how = able(attack, ball), _precision(precision, classifier.device)
    rows = sorted(run_attack(classifier, inputs, suite, setting, how), key=lambda row: row.input.index)
    question(torch.stack([row.clean for row in rows]).cpu(), y.cpu())
    met, fell = sum(_met(row, suite, setting.seed) for row in rows), None
    if further := escalation(suite) if any(SAMPLE_BROKEN in row.doubts for row in rows) else ():
        standing = [row.input for row in rows if not row.success]
        after = {row.input.index: row for row in run_attack(classifier, standing, further, setting, how)}
        fell = sum(row.success for row in after.values())
        rows = [_further(row, after.get(row.input.index)) for row in rows]
    result = gather(rows, x.device, met, fell)
    if any(map(doubted_only, suite)) and setting.draws == 1 and not bool(result.success.all()):
        result = replace(result, findings=(*result.findings, *_slopes(classifier, rows, setting)))
    result = replace(result, targeted=setting.targeted)
    for finding in result.findings:
        warnings.warn(finding.text, MaskingWarning, stacklevel=2)
    return result


def _slopes(classifier: Classifier, rows: Sequence[Row], setting: Setting) -> Iterator[Finding]:
    """Yield the finding that gradients say little about the margin, of the first examples that are right."""
    right = [row.input for row in rows if row.input.y == int(row.clean.argmax())][: min(MOST, setting.batch)]
    if not right:
        return
    x, y = setting.stack([source.x for source in right]), setting.integers([source.y for source in right])
    with classifier.frozen() as model:
        ratios = slope_ratios(partial(model.logits, arithmetic=DECISION), x, y, setting.box)
    if (ratio := misled(ratios)) is not None:
        yield mispredicted(ratio, len(right))


def _met(row: Row, suite: Sequence[Step], seed: int) -> bool:
    """Return whether the row was in a sample that met a longer attack."""
    return SAMPLE_BROKEN in row.doubts or (not row.success and sampled(suite, seed, row.input.id))


def _further(row: Row, after: Row | None) -> Row:
    """Return the row as the attacks left it that it met after all others."""
    if after is None:
        return row
    passes, doubts = row.passes + after.passes, row.doubts | after.doubts
    kept = after if after.success or after.margin < row.margin else row
    return replace(kept, passes=passes, wasted=row.wasted + after.wasted, doubts=doubts)


def gather(rows: Sequence[Row], device: torch.device, met: int = 0, fell: int | None = None) -> AttackResult:
    """Return verified rows, in their order, as tensors; `met` and `fell` as in `findings`.

    Args:
        rows: the verified rows.
        device: where the tensors go.
        met: rows that another attack had already won, as in `findings`.
        fell: rows that fell to the second look, as in `findings`; None where none was taken.
    """
    return AttackResult(
        x_adv=torch.stack([row.x_adv for row in rows]).to(device),
        success=torch.tensor([row.success for row in rows], device=device),
        margin=torch.tensor([row.margin for row in rows], device=device),
        norm=torch.tensor([row.norm for row in rows], dtype=widest(device), device=device),
        steps=torch.tensor([row.passes.steps for row in rows], device=device),
        forwards=torch.tensor([row.passes.forwards for row in rows], device=device),
        backwards=torch.tensor([row.passes.backwards for row in rows], device=device),
        speculative=torch.tensor([row.wasted.forwards for row in rows], device=device),
        attack=[row.attack for row in rows],
        restart=[row.run.restart if row.run else 0 for row in rows],
        repeatable=all(row.repeatable for row in rows),
        accuracy=torch.tensor([row.accuracy for row in rows], device=device),
        findings=findings(
            Counter(doubt for row in rows for doubt in row.doubts),
            len(rows),
            sum(not row.success for row in rows),
            met=met,
            fell=fell,
        ),
    )


def _inputs(
    x: Images, y: Labels, ball: Ball, target: Labels | None, ids: Sequence[Id], start: Images | None
) -> Iterator[Input]:
    eps = torch.as_tensor(ball.eps, dtype=torch.float64).expand(len(x)).tolist()
    targets = [None] * len(x) if target is None else target.tolist()
    for index, (label, goal) in enumerate(zip(y.tolist(), targets, strict=True)):
        first = None if start is None else start[index]
        yield Input(index, ids[index], x[index], label, eps[index], goal, first)


def able(attack: object, ball: Ball) -> tuple[Step, ...]:
    """Return the steps whose attacks search this ball; one alone must."""
    suite = attack if isinstance(attack, tuple | list) else (attack,)
    if any(isinstance(step, tuple | list) for step in suite):
        raise InputError("attack holds a suite inside a suite; expected one tuple: (*sp.STANDARD, sp.PGD())")
    if not suite or not all(isinstance(step, Step) for step in suite):
        raise InputError(f"attack is {attack!r}; expected an attack such as sp.PGD(steps=40), or several")
    searching = tuple(step for step in suite if ball.name in attack_of(step).norms)
    if not searching:
        norms = ", ".join(sorted({norm for step in suite for norm in attack_of(step).norms}))
        raise InputError(f"{attack_of(suite[0]).name} does not search {ball.name} balls; expected a ball of {norms}")
    return searching


def _ball(ball: object, count: int, box: tuple[float, float] | None) -> Ball:
    if not isinstance(ball, Ball):
        raise InputError(f"ball is {ball!r}; expected sp.Linf(eps), sp.L2(eps) or sp.L1(eps)")
    if isinstance(ball.eps, Tensor) and len(ball.eps) != count:
        raise InputError(f"eps holds {len(ball.eps)} radii for {count} examples; expected one for each, or a number")
    largest = float(torch.as_tensor(ball.eps).max())
    if box is not None:
        check_radius(ball.name, largest, width=box[1] - box[0])
    return ball


def _box(box: object) -> tuple[float, float] | None:
    if box is None:
        return None
    numbers = isinstance(box, tuple | list) and len(box) == 2 and all(isinstance(b, int | float) for b in box)
    if not (numbers and box[0] < box[1]):  # type: ignore[index]
        raise InputError(f"box is {box!r}; expected two bounds such as (0.0, 1.0), or None")
    return float(box[0]), float(box[1])  # type: ignore[index]


def _whole(name: str, number: object, least: int) -> int | None:
    whole = number if number is None else _index(name, number)
    if whole is not None and whole < least:
        raise InputError(f"{name} is {number!r}; expected a whole number of at least {least}")
    return whole


def _index(name: str, number: object) -> int:
    try:
        if not isinstance(number, bool):
            return operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise InputError(f"{name} is {number!r}; expected a whole number")


def _target(target: Labels, y: Labels) -> Labels:
    if bool((target == y).any()):
        raise InputError(f"target equals y in row {int((target == y).nonzero()[0])}; expected another class")
    return target


def _check_modes() -> None:
    if torch.is_inference_mode_enabled():
        raise InputError("attack was called inside torch.inference_mode(), which forbids gradients; call it outside")


def _goal(goal: object) -> Goal | None:
    if goal is None or isinstance(goal, Goal):
        return goal
    raise InputError(f"goal is {goal!r}; expected sp.Fool(), sp.Last(), sp.Nearest() or None")


def _threshold(stop: object) -> float:
    value = {"fooled": 0.0, "never": math.inf}.get(stop) if isinstance(stop, str) else stop
    if not isinstance(value, int | float) or not value >= 0:
        raise InputError(f"stop is {stop!r}; expected 'fooled', 'never' or a margin ≥ 0")
    return float(value)


def _precision(precision: object, device: torch.device) -> Precision:
    for known in PRECISIONS:
        if precision == known:
            return "fp32" if known == "tf32" and device.type != "cuda" else known
    raise InputError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")


def _ids(ids: Any, count: int) -> Sequence[Id]:  # noqa: ANN401 - arrays are welcome
    if ids is None:
        return range(count)
    if not isinstance(ids, Iterable) or isinstance(ids, str):
        raise InputError(f"ids is {ids!r}; expected {count} different integers or strings")
    plain: list[Id] = [identity.item() if hasattr(identity, "item") else identity for identity in ids]
    if not all(isinstance(part, int | str) for part in plain):
        raise InputError(f"ids holds {next(e for e in plain if not isinstance(e, int | str))!r}; expected int or str")
    if len(plain) != count or len(set(plain)) != count:
        raise InputError(f"ids has {len(plain)} entries, {len(set(plain))} different; expected {count} different ones")
    return plain


def _start(start: object, x: Tensor, ball: Ball, box: tuple[float, float] | None) -> Tensor | None:
    if start is None:
        return None
    if not isinstance(start, Tensor):
        raise InputError(f"start is a {type(start).__name__}; expected a tensor in the shape of x")
    if start.shape != x.shape or start.dtype != x.dtype:
        what = f"shape {tuple(start.shape)} and dtype {start.dtype}"
        raise InputError(f"start has {what}; expected those of x, {tuple(x.shape)} and {x.dtype}")
    inside = ball.at(x, *(box or (None, None))).contains(start.detach().to(x.device))
    if not bool(inside.all()):
        raise InputError(f"start leaves Δ in row {int((~inside).nonzero()[0])}; expected δ inside: use region.project")
    return start.detach()
