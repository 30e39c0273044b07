"""The one way in which records come about: some examples, one threat after the other, through the cascade.

    clean prediction → the first, cheap certificate → attacks on what is left → the other certificates on what stands

What a proof settles is not attacked, but for a seeded share that is audited; what an attack breaks is not proven. What
is broken at one ε is broken at every larger one of the same norm, and its point is used again.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice

import torch

from saddlepoint import losses
from saddlepoint.attacks import Input, Row, Setting, run_attack
from saddlepoint.certificates import certify
from saddlepoint.certificates.effort import DOMAINS
from saddlepoint.errors import AttackError, CertificateError, ModelError
from saddlepoint.evaluation.claims import keep_evidence
from saddlepoint.evaluation.earlier_run import NAME, PROBE, TRY, inputs
from saddlepoint.evaluation.job import Example, Job
from saddlepoint.evaluation.reading import FAILURES, errors, one_line, read, why
from saddlepoint.evaluation.records import (
    WithImages,
    attacked,
    certified,
    failed,
    method_line,
)
from saddlepoint.evaluation.resume import audited
from saddlepoint.evaluation.spec import ThreatModel, prefix
from saddlepoint.evaluation.votes import evaluate_votes
from saddlepoint.results import spelled
from saddlepoint.results.records.record import PROBED, SUITE

READERS = 4
"""Threads that read and decode examples."""
SHARD = 16
"""Batches that are searched as one stream: rows that finish are refilled, and the batch stays full until its end."""
SYSTEMATIC = 4
"""Examples of a block that must all fail before the model is to blame."""


def evaluate_shard(job: Job, places: Sequence[int]) -> Iterator[WithImages]:
    """Yield the records of the examples at these places of the data, with their adversarial points and clean images.

    The records depend on the specification and the examples alone, not on which stand together in a shard.
    """
    if (smoothed := job.smoothed) is not None:
        yield from evaluate_votes(job, places, smoothed)
        return
    waiting, size = iter(places), job.spec.batch_size
    while part := list(islice(waiting, SHARD * size)):
        examples = list[Example]()
        with ThreadPoolExecutor(READERS) as pool:
            coming = pool.map(partial(read, job), part)  # while the model predicts, the next images are decoded
            while chunk := list(islice(coming, size)):
                for place, reason in (item for item in chunk if not isinstance(item, Example)):
                    yield from errors(job, place, reason)
                loaded = [item for item in chunk if isinstance(item, Example)]
                if loaded:
                    yield from _unpredicted(job, loaded)
                    examples += [example for example in loaded if example.finite]
        yield from _cascade(job, examples)


def _unpredicted(job: Job, examples: list[Example]) -> Iterator[WithImages]:
    """Predict; yield the records of examples on which the model fails.

    If it fails on all of several, it is not the examples' fault, and the error is raised.
    """
    try:
        _predict(job, examples)
    except torch.OutOfMemoryError:
        raise
    except FAILURES:
        reasons = {example.index: reason for example in examples if (reason := _failure(job, example))}
        if len(reasons) == len(examples) >= SYSTEMATIC:
            raise
        for index, reason in reasons.items():
            yield from errors(job, index, reason)


def _failure(job: Job, example: Example) -> str | None:
    """Return why the model fails on one example; None where it does not."""
    try:
        _predict(job, [example])
    except FAILURES as error:
        example.finite = False
        return why(error)
    return None


def _cascade(job: Job, examples: list[Example]) -> Iterator[WithImages]:
    for threat in job.spec.threats:
        for example in examples:
            example.begin(threat, job.earlier)
        first, *rest = job.spec.certify or ("",)
        if first:
            yield from _prove(job, threat, first, [example for example in examples if example.open])
        chosen = {
            example.id for example in examples if example.proven and audited(job.spec.seed, example.id, len(job.data))
        }
        if job.spec.suite:
            left = [
                example for example in examples if not example.searched and (not example.proven or example.id in chosen)
            ]
            yield from _attack(job, threat, left)
        else:
            yield from (_wrong(job, threat, example) for example in examples if not example.right)
        for method in rest:
            yield from _prove(job, threat, method, [example for example in examples if example.open])


def _predict(job: Job, examples: list[Example]) -> None:
    """Note what the untouched model says of the clean images, at the batch shape of the specification."""
    x = torch.stack([example.sample.x for example in examples])
    padded = torch.cat([x, x[-1:].expand(job.spec.batch_size - len(x), *x.shape[1:])])
    logits = job.classifier.predict(padded, box=job.spec.threats[0].box).logits[: len(x)].cpu()
    margins = losses.margin(logits, torch.tensor([example.sample.y for example in examples]))
    for example, label, margin in zip(examples, logits.argmax(1).tolist(), margins.tolist(), strict=True):
        example.clean_label, example.clean_margin = label, margin


def _prove(job: Job, threat: ThreatModel, method: str, examples: list[Example]) -> Iterator[WithImages]:
    """Try a certificate on some examples; where it fails, on each by itself, and the evaluation goes on without it."""
    if not examples:
        return
    try:
        yield from _proven(job, threat, method, examples)
    except (*FAILURES, CertificateError, MemoryError) as error:
        if not job.spec.suite:
            raise
        if len(examples) > 1:
            for example in examples:
                yield from _prove(job, threat, method, [example])
            return
        job.notes.append(f"{method} failed on {examples[0].id!r}: {one_line(error)}")
        if method == job.spec.certify[-1]:
            yield certified(examples[0], threat, method, lower_bound=-math.inf, tolerance=0.0), None, None


def _proven(job: Job, threat: ThreatModel, method: str, examples: list[Example]) -> list[WithImages]:
    x = torch.stack([example.sample.x for example in examples])
    y = torch.tensor([example.sample.y for example in examples])
    proof = certify(
        job.classifier,
        x,
        y,
        threat.ball,
        method=method,  # type: ignore[arg-type]
        box=threat.box,
        timeout=job.spec.timeout,
        domains=DOMAINS if job.spec.domains is None else job.spec.domains,
        evidence=job.evidence is not None,
        graphs=job.graphs,
    )
    if job.evidence is not None:
        keep_evidence(job.evidence, threat, [example.id for example in examples], proof)
    bounds, tolerances = proof.lower_bound.tolist(), proof.tolerance.tolist()
    rows = zip(examples, proof.verdict, bounds, tolerances, proof.seconds, proof.domains, strict=True)
    records, last = list[WithImages](), method == job.spec.certify[-1]
    for example, verdict, bound, tolerance, seconds, domains in rows:
        example.proven = verdict == "certified"
        if example.proven or last:
            effort = {"seconds": seconds, "domains": domains}
            record = certified(example, threat, method, lower_bound=bound, tolerance=tolerance, **effort)
            records.append((record, None, None))
    return records


def _wrong(job: Job, threat: ThreatModel, example: Example) -> WithImages:
    """Return the record of a misclassified example where no attack runs: there is nothing to prove."""
    return certified(example, threat, job.spec.certify[-1], lower_bound=-math.inf, tolerance=0.0), None, None


def _attack(job: Job, threat: ThreatModel, examples: list[Example]) -> Iterator[WithImages]:
    """Attack what is neither broken nor wrong; the others have their record at once."""
    for example in examples:
        if example.broken is not None:
            record, point = example.broken
            yield replace(record, eps=threat.eps), point, example.sample.x.numpy()
    open_ = {example.id: example for example in examples if example.broken is None}
    for search in (_transferred, _far, _searched):
        while open_:
            try:
                yield from search(job, threat, open_)
                break
            except ModelError as error:  # the others go on, and come to the same rows without it
                if error.example not in open_:
                    raise
                example = open_.pop(error.example)
                yield failed(job, example.index, threat, str(error), example.sample), None, None


def _transferred(job: Job, threat: ThreatModel, open_: dict[str, Example]) -> Iterator[WithImages]:
    """Try the points of an earlier run, and take from what is open what they break."""
    if job.points is None:
        return
    starts = inputs(
        job.points, [(example.index, example.sample) for example in open_.values() if example.right], threat
    )
    for row in run_attack(job.classifier, starts, (TRY,), replace(_setting(job, threat), stop=0.0)):
        if row.success:
            transferred = replace(row, attack=NAME)
            yield _broken(transferred, open_.pop(str(row.input.id)), method_line(job.spec.attacks(threat.norm)), threat)
        else:
            open_[str(row.input.id)].spent = row.passes


def _far(job: Job, threat: ThreatModel, open_: dict[str, Example]) -> Iterator[WithImages]:
    """Search those that stood far from the boundary before for a short while; that they are far still is enough."""
    if job.points is None or job.points.near is None:
        return
    bar = job.points.bars.get((threat.norm, threat.eps), math.inf)
    examples = [e for e in open_.values() if e.right and not e.probed and job.points.share(e.sample, threat) > bar]
    inputs = [Input(e.index, e.id, e.sample.x, e.sample.y, threat.eps) for e in examples]
    method = method_line((PROBE,))
    for row in run_attack(job.classifier, inputs, (PROBE,), _setting(job, threat)):
        example = open_[str(row.input.id)]
        probed = replace(row, passes=row.passes + example.spent)
        if row.success:
            yield _broken(probed, open_.pop(example.id), method_line((PROBE,)), threat, PROBED)
        elif row.margin > bar * example.clean_margin:
            told = attacked(probed, open_.pop(example.id).sample.digest, threat.norm, method, PROBED)
            yield told, row.x_adv.cpu().numpy(), example.sample.x.numpy()
        else:
            example.spent, example.probed = probed.passes, True


def _broken(row: Row, example: Example, method: str, threat: ThreatModel, name: str = SUITE) -> WithImages:
    """Return the record of a broken example, and note that it is.

    Raises:
        AttackError: the example was certified.
    """
    record, point = attacked(row, example.sample.digest, threat.norm, method, name), row.x_adv.cpu().numpy()
    example.broken = record, point
    if example.proven:
        raise AttackError(
            f"{example.id!r} was certified at {threat.norm} eps {spelled(threat.eps)} and is broken by {row.attack}; "
            "this is a defect of saddlepoint: please report it"
        )
    return record, point, example.sample.x.numpy()


def _searched(job: Job, threat: ThreatModel, open_: dict[str, Example]) -> Iterator[WithImages]:
    """Attack what is open, and take from it what has its record."""
    spec, pending, suite = job.spec, job.pending, job.spec.attacks(threat.norm)
    method, before = method_line(suite), prefix(threat.norm, threat.eps)
    inputs = [Input(e.index, e.id, e.sample.x, e.sample.y, threat.eps) for e in open_.values()]
    setting = replace(
        _setting(job, threat),
        earlier={} if pending is None else pending.of(before),
        settled=None if pending is None else lambda row: pending.note(f"{before}{row.input.id}", row.settled()),
    )
    for row in run_attack(job.classifier, inputs, suite, setting, spec.precision):  # type: ignore[arg-type]
        example = open_.pop(str(row.input.id))
        searched = replace(row, passes=row.passes + example.spent)
        if row.success:
            yield _broken(searched, example, method, threat)
        else:
            told = attacked(searched, example.sample.digest, threat.norm, method)
            yield told, row.x_adv.cpu().numpy(), example.sample.x.numpy()


def _setting(job: Job, threat: ThreatModel) -> Setting:
    return Setting(
        ball=threat.ball,
        box=threat.box,
        batch=job.spec.batch_size,
        device=job.classifier.device,
        seed=job.spec.seed,
        stop=math.inf if job.spec.stop == "never" else 0.0,
        budget=job.spec.budget,
    )
