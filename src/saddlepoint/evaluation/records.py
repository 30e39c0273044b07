"""From what was found to records."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from saddlepoint.attacks.engine.example import Row
from saddlepoint.data.datasets import Sample
from saddlepoint.evaluation.job import Example, Job
from saddlepoint.evaluation.resume import Pixels
from saddlepoint.evaluation.spec import ThreatModel
from saddlepoint.geometry.norms import lp_norm
from saddlepoint.losses import margin
from saddlepoint.results import Attacked, Certified, Failed, Record, Voted
from saddlepoint.results.records.record import SUITE, VOTES

WithImages = tuple[Record, Pixels | None, Pixels | None]
"""A record, x_adv, and the clean image."""


def attacked(row: Row, digest: str, norm: str, method: str, name: str = SUITE) -> Attacked:
    """Return the record of an example that was attacked.

    Args:
        row: the verified outcome.
        digest: of the image's bytes.
        norm: the name of the ball.
        method: the sentence that says what searched.
        name: the short name of what searched.
    """
    source = row.input
    delta = (row.x_adv.cpu().double() - source.x.cpu().double())[None]
    label = torch.tensor([source.y], device=row.clean.device)
    return Attacked(
        id=str(source.id),
        index=source.index,
        digest=digest,
        label=source.y,
        norm=norm,
        eps=source.eps,
        name=name,
        method=method,
        clean_label=int(row.clean.argmax()),
        clean_margin=margin(row.clean[None], label).item() + 0.0,
        clean_correct=int(row.clean.argmax()) == source.y,
        success=row.success,
        accuracy=row.accuracy,
        attack=row.attack,
        restart=row.run.restart if row.run else 0,
        adversarial_label=int(row.logits.argmax()),
        margin=row.margin,
        distance=row.norm,
        linf=lp_norm(delta, math.inf).item(),
        l2=lp_norm(delta, 2.0).item(),
        l1=lp_norm(delta, 1.0).item(),
        steps=row.passes.steps,
        forwards=row.passes.forwards,
        backwards=row.passes.backwards,
        doubts=tuple(sorted(row.doubts)),
    )


def certified(
    example: Example,
    threat: ThreatModel,
    name: str,
    *,
    lower_bound: float,
    tolerance: float,
    seconds: float | None = None,
    domains: int = 0,
) -> Certified:
    """Return the record of a bound on the margin; of a misclassified example −∞.

    Args:
        example: the image and what the network says of it.
        threat: the ball.
        name: the short name of the method.
        lower_bound: below every margin in the ball, in logits.
        tolerance: the allowance for rounding in it, in logits.
        seconds: how long the example took; None where it was not measured alone.
        domains: parts of the set that branch and bound has bounded.
    """
    return Certified(
        **_of(example, threat),
        name=name,
        method=bound_line(name, right=example.right),
        clean_label=example.clean_label,
        clean_margin=example.clean_margin,
        clean_correct=example.right,
        lower_bound=lower_bound,
        tolerance=tolerance,
        seconds=seconds,
        domains=domains,
    )


def failed(job: Job, place: int, threat: ThreatModel, error: str, sample: Sample | None = None) -> Failed:
    """Return the record of an example of which nothing can be said, and why.

    Args:
        job: the data and the settings.
        place: the number of the example in the data.
        threat: the ball.
        error: why, in one line.
        sample: the image, if it could be read.
    """
    return Failed(
        id=job.data.ids[place],
        index=place,
        digest=None if sample is None else sample.digest,
        label=None if sample is None else sample.y,
        norm=threat.norm,
        eps=threat.eps,
        name=SUITE if job.spec.suite else job.spec.certify[-1],
        method=method_line(job.spec.attacks(threat.norm)) or job.spec.certify[-1],
        error=error,
    )


def voted(
    example: Example, threat: ThreatModel, smoothing: Mapping[str, Any], *, radius: float, seconds: float
) -> Voted:
    """Return the record of votes under noise.

    Args:
        example: the image and what the network says of it.
        threat: the ball, whose ε the radius is compared with.
        smoothing: noise, votes and level of confidence.
        radius: the certified ℓ2 radius, in pixels.
        seconds: how long the example took.
    """
    return Voted(
        **_of(example, threat),
        name=VOTES,
        method=votes_line(smoothing),
        clean_label=example.clean_label,
        clean_correct=example.right,
        radius=radius,
        seconds=seconds,
    )


def _of(example: Example, threat: ThreatModel) -> dict[str, Any]:
    """Return which example a record is of, and under which threat."""
    sample = example.sample
    return {
        "id": example.id,
        "index": example.index,
        "digest": sample.digest,
        "label": sample.y,
        "norm": threat.norm,
        "eps": threat.eps,
    }


def bound_line(name: str, *, right: bool) -> str:
    """Return what people read of a bound: its method, and what it holds for."""
    return f"{name} (real arithmetic)" if right else f"{name} (misclassified: nothing to prove)"


def votes_line(smoothing: Mapping[str, Any]) -> str:
    """Return what people read of votes, from the fields of the smoothed classifier."""
    return (
        f"{VOTES} (σ {smoothing['sigma']:g}, {smoothing['samples']} votes, each certificate wrong with probability "
        f"{smoothing['alpha']:g} at most, real arithmetic)"
    )


def method_line(suite: Sequence[object]) -> str:
    """Return the attacks with all their settings, as one line."""
    return " → ".join(map(repr, suite))
