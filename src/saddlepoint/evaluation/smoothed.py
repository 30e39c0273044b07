"""Records of a smoothed classifier: one vote settles an example at every radius."""

import math
from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any

import torch

from saddlepoint.certificates.smoothing import SmoothedClassifier
from saddlepoint.evaluation.job import Example, Job
from saddlepoint.evaluation.reading import FAILURES, Record, certificate, errors, failed, read

METHOD = "smoothing"


def method_of(smoothing: Mapping[str, Any]) -> str:
    """Return what records call the method, from the fields of the smoothed classifier."""
    return (
        f"{METHOD} (σ {smoothing['sigma']:g}, {smoothing['samples']} votes, each certificate wrong with probability "
        f"{smoothing['alpha']:g} at most, real arithmetic)"
    )


def evaluate_votes(job: Job, places: Sequence[int], smoothed: SmoothedClassifier) -> Iterator[Record]:
    """Yield the certificate records of the examples at these places of the data; abstaining counts as misclassified.

    The margin of an example is p_A − 1/2, the bound of its margin over a ball R − ε.
    """
    method = method_of(job.spec.smoothing or {})
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
        seconds, bound = perf_counter() - begin, float(found.probability) - 0.5
        each.clean_label = int(found.label)
        each.clean_margin = bound if each.right else -abs(bound)
        for threat in job.spec.threats:
            beyond = float(found.radius) - threat.eps if each.right else -math.inf
            yield certificate(each, threat, method, lower_bound=beyond, tolerance=0.0, seconds=seconds), None, None
