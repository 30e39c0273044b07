"""Records of a smoothed classifier: one vote settles an example at every radius."""

from collections.abc import Iterator, Sequence
from time import perf_counter

import torch

from saddlepoint.certificates.smoothing import SmoothedClassifier
from saddlepoint.evaluation.job import Example, Job
from saddlepoint.evaluation.reading import FAILURES, errors, read, why
from saddlepoint.evaluation.records import WithImages, voted


def evaluate_votes(job: Job, places: Sequence[int], smoothed: SmoothedClassifier) -> Iterator[WithImages]:
    """Yield the records of the examples at these places of the data; abstaining counts as misclassified."""
    for place in places:
        example = read(job, place)
        if not isinstance(example, Example):
            yield from errors(job, *example)
            continue
        begin = perf_counter()
        try:
            vote = smoothed.certify(example.sample.x[None], ids=[example.id])
        except torch.OutOfMemoryError:
            raise
        except FAILURES as error:
            yield from errors(job, place, why(error))
            continue
        seconds, example.clean_label = perf_counter() - begin, int(vote.label)
        for threat in job.spec.threats:
            yield (
                voted(example, threat, job.spec.smoothing or {}, radius=float(vote.radius), seconds=seconds),
                None,
                None,
            )
