"""Records of a smoothed classifier: one vote settles an example at every radius."""

import math
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

import torch

from saddlepoint.certificates.smoothing import SmoothedClassifier
from saddlepoint.evaluation.job import Example, Job
from saddlepoint.evaluation.reading import FAILURES, Record, errors, failed, read
from saddlepoint.evaluation.records import identified
from saddlepoint.evaluation.spec import ThreatModel

METHOD = "smoothing"


def evaluate_votes(job: Job, places: Sequence[int], smoothed: SmoothedClassifier) -> Iterator[Record]:
    """Yield the certificate records of the examples at these places of the data; abstaining counts as misclassified.

    The margin of an example is p_A − 1/2, the bound of its margin over a ball R − ε.
    """
    method = (
        f"{METHOD} (σ {smoothed.sigma:g}, {smoothed.samples} votes, each certificate wrong with probability "
        f"{smoothed.alpha:g} at most, real arithmetic)"
    )
    for place in places:
        each = read(job, place)
        if not isinstance(each, Example):
            yield from errors(job, *each)
            continue
        begin = perf_counter()
        try:
            found = smoothed.certify(each.sample.x[None], ids=[each.id])
        except torch.OutOfMemoryError:
            raise
        except FAILURES as error:
            yield from errors(job, place, failed(error))
            continue
        each.clean_label, each.clean_margin = int(found.label), float(found.probability) - 0.5
        seconds = perf_counter() - begin
        for threat in job.spec.threats:
            yield _record(each, threat, method, float(found.radius), seconds), None, None


def _record(each: Example, threat: ThreatModel, method: str, radius: float, seconds: float) -> dict[str, Any]:
    sample = each.sample
    return {
        **identified(each.id, each.index, sample.digest, sample.y, method, threat.norm, threat.eps),
        "clean_label": each.clean_label,
        "clean_margin": each.clean_margin if each.right else -abs(each.clean_margin),
        "clean_correct": each.right,
        "kind": "certificate",
        "lower_bound": radius - threat.eps if each.right else -math.inf,
        "tolerance": 0.0,
        "seconds": seconds,
    }
