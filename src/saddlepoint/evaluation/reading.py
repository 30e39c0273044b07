"""Examples as they are read, and the records of certificates and errors."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from saddlepoint.data.datasets import Dataset, Sample
from saddlepoint.errors import InputError, ModelError
from saddlepoint.evaluation.job import Example, Job, Pixels
from saddlepoint.evaluation.records import identified, method_line
from saddlepoint.evaluation.spec import ThreatModel

Record = tuple[dict[str, Any], Pixels | None, Pixels | None]
"""A row of the run folder, x_adv, and the clean image."""
FAILURES = (ModelError, RuntimeError, ValueError, IndexError)
"""What a model may raise on inputs that it cannot take."""


def read(job: Job, place: int) -> Example | tuple[int, str]:
    """Return an example, or its place and why it cannot be read."""
    try:
        return Example(place, job.data.ids[place], job.data.read(place))
    except InputError as error:
        return place, str(error)


def readable(data: Dataset, most: int = 8) -> Iterator[Sample]:
    """Yield the first samples, but for those that cannot be read."""
    for place in range(min(most, len(data))):
        with suppress(InputError):
            yield data.read(place)


def errors(job: Job, place: int, reason: str) -> Iterator[Record]:
    """Yield the records of an example that nothing can be said of."""
    method = method_line(job.spec.suite) or job.spec.certify[-1]
    for threat in job.spec.threats:
        shared = identified(job.data.ids[place], place, None, None, method, threat.norm, threat.eps)
        yield {**shared, "error": reason}, None, None


def certificate(each: Example, threat: ThreatModel, method: str, **found: float) -> dict[str, Any]:
    """Return the record of a certificate: what is known of the clean image, and what was found."""
    sample = each.sample
    return {
        **identified(each.id, each.index, sample.digest, sample.y, method, threat.norm, threat.eps),
        "clean_label": each.clean_label,
        "clean_margin": each.clean_margin,
        "clean_correct": each.right,
        "kind": "certificate",
        **found,
    }


def failed(error: Exception) -> str:
    """Return why a model failed on one example, as one line."""
    return f"the model fails on this example: {one_line(error)}"


def one_line(error: Exception) -> str:
    """Return what an error says as one line of at most 300 characters, its type where it says nothing."""
    return f"{' '.join(str(error).split()) or type(error).__name__:.300}"
