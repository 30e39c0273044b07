"""Examples as they are read, and what stands for those that cannot be."""

from collections.abc import Iterator
from contextlib import suppress

from saddlepoint.data.datasets import Dataset, Sample
from saddlepoint.errors import InputError, ModelError
from saddlepoint.evaluation.job import Example, Job
from saddlepoint.evaluation.records import WithImages, failed

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


def errors(job: Job, place: int, reason: str) -> Iterator[WithImages]:
    """Yield the records of an example that nothing can be said of."""
    yield from ((failed(job, place, threat, reason), None, None) for threat in job.spec.threats)


def why(error: Exception) -> str:
    """Return why a model failed on one example, as one line."""
    return f"the model fails on this example: {one_line(error)}"


def one_line(error: Exception) -> str:
    """Return what an error says as one line of at most 300 characters, its type where it says nothing."""
    return f"{' '.join(str(error).split()) or type(error).__name__:.300}"
