"""Images of one shape, attacked in one call."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from saddlepoint.attacks import AttackResult, Finding, attack
from saddlepoint.classifier.validation import check_classes
from saddlepoint.cli.attack.cases import Group, cases, failed, model_pixels
from saddlepoint.cli.attack.output import Case
from saddlepoint.cli.attack.settings import Settings
from saddlepoint.cli.attack.subjects import Subject
from saddlepoint.cli.attack.trace import Trace
from saddlepoint.cli.attack.views import look
from saddlepoint.errors import InputError


def attack_group(
    settings: Settings, subjects: Sequence[Subject], trace: Trace
) -> tuple[list[Case], float, tuple[Finding, ...]]:
    """Attack readable images of one shape; return their cases, the seconds of the search and its doubts in itself."""
    try:
        group = _look(settings, subjects)
    except InputError as error:
        return [failed(subject, str(error)) for subject in subjects], 0.0, ()
    there = group.y == (-1 if settings.target is None else settings.target)
    refused = [failed(subjects[row], _already(settings)) for row in there.nonzero().flatten().tolist()]
    group = group.select((~there).nonzero().flatten().tolist())
    if not group.subjects:
        return refused, 0.0, ()
    x, begin = model_pixels(settings, group.crops), time.perf_counter()
    result = _search(settings, group, x, trace)
    seconds = time.perf_counter() - begin
    return refused + cases(settings, group, x, result, trace), seconds, result.findings


def _look(settings: Settings, subjects: Sequence[Subject]) -> Group:
    crops = torch.stack([subject.crop for subject in subjects])
    logits = look(settings.classifier, model_pixels(settings, crops))
    y = logits.argmax(1) if settings.label is None else torch.full_like(logits.argmax(1), settings.label)
    check_classes(y, logits.shape[1], "--label")
    return Group(list(subjects), crops, logits, y)


def _search(settings: Settings, group: Group, x: Tensor, trace: Trace) -> AttackResult:
    return attack(
        settings.classifier,
        x,
        group.y,
        settings.ball,
        settings.suite,
        target=None if settings.target is None else torch.full_like(group.y, settings.target),
        seed=settings.seed,
        batch_size=min(settings.batch_size, len(group.subjects)),
        precision=settings.precision,
        stop=settings.stop,
        box=settings.bounds,
        ids=[subject.identity for subject in group.subjects],
        observe=trace,
    )


def _already(settings: Settings) -> str:
    name = settings.classifier.name_of(settings.target or 0)
    return f"the model already predicts the target {name!r}; expected another class: pass another --target"
