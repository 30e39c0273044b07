"""From a job to a run folder: what it lacks is computed and written, and a session may end at any moment."""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from saddlepoint import random
from saddlepoint.data.datasets import Dataset
from saddlepoint.errors import InputError
from saddlepoint.evaluation.cascade import SHARD
from saddlepoint.evaluation.executors import HERE, Executor
from saddlepoint.evaluation.job import Job
from saddlepoint.evaluation.provenance import provenance
from saddlepoint.evaluation.resume import Pending, complete, earlier_of
from saddlepoint.evaluation.spec import prefix
from saddlepoint.evaluation.stopping import Until
from saddlepoint.results import Attacked, Bracket, Keep, Record, RunError, Tally, Writer, writing

LOSS = 5.0
"""Seconds of work that a kill can cost, once an example is done."""
TIMED = 4
"""Batches of a shard if the evaluation may end after each."""
Observe = Callable[[int, int, Bracket | None], None]
"""Told how many examples are done, the mean over the threats, of how many, and the bracket under the last threat."""


@dataclass(frozen=True, slots=True)
class Done:
    """How far an evaluation is.

    Attributes:
        seen: examples of its order that have all their records, without a gap.
        whole: all examples.
        brackets: of those that are done, by norm and radius.
        summary: of the run folder, if it is complete.
    """

    seen: int
    whole: int
    brackets: list[Bracket]
    summary: dict[str, Any] | None = None


def run(
    job: Job,
    folder: Path,
    *,
    keep: Keep = "broken",
    seconds: float | None = None,
    until: Until | None = None,
    observe: Observe | None = None,
    warn: Callable[[str], None] = lambda line: None,
    executor: Executor = HERE,
) -> Done:
    """Write the records that a run folder lacks; return how far that came.

    What an earlier session has found of an example is taken over, record by record. Where it may be stopped, examples
    come in a random order that the seed fixes, and whole shards are finished: no hard example is left out.

    Args:
        job: what is computed.
        folder: of the run, made when missing.
        keep: which points are kept.
        seconds: after which no further shard is begun.
        until: what else ends it early.
        observe: told how far it is.
        warn: told of each shard whose points were lost.
        executor: who evaluates the examples.

    Raises:
        RunError: the folder holds something else, or the data are others than before.
    """
    with writing(folder, job.spec.plain(), provenance(job.classifier), keep, seconds=LOSS) as writer:
        for line in writer.lost:
            warn(line)
        _check_unchanged(job.data, writer)
        left = {n for n, identity in enumerate(job.data.ids) if not complete(job.spec, identity, writer.earlier)}
        pending = Pending(folder)
        job = replace(job, pending=pending, earlier=earlier_of(folder, {job.data.ids[n] for n in left}, writer.earlier))
        end = math.inf if seconds is None else time.monotonic() + seconds
        done = Done(0, len(job.data), [])
        try:
            timed = until is not None or seconds is not None
            most = SHARD if seconds is None else TIMED
            for part, tallies in _parts(job, writer, executor.workers, early=timed, most=most, until=until):
                missing = [place for place in part.places if place in left]
                # The first part is done at any rate: sessions that never end one would never get further.
                if missing and part.begin and time.monotonic() > end:
                    return done
                if missing:
                    _shard(executor, job, missing, writer, tallies, observe)
                done = Done(part.end, len(job.data), [bracket for tally in tallies if (bracket := tally.bracket)])
                if until is not None and done.seen < done.whole and until.reached(done.seen, done.whole, done.brackets):
                    return done
        finally:
            pending.write()
        return replace(done, summary=writer.finish())


@dataclass(frozen=True, slots=True)
class _Part:
    """Examples that are evaluated together, and where in the order they begin and end."""

    places: list[int]
    begin: int
    end: int


def _parts(
    job: Job, writer: Writer, workers: int, *, early: bool, most: int, until: Until | None
) -> Iterator[tuple[_Part, list[Tally]]]:
    """Yield the parts of the order, and the tallies of all records up to each, one tally per threat."""
    asked = {"proven": bool(job.spec.certify), "searched": bool(job.spec.suite)}
    tallies, known = [Tally(threat.norm, threat.eps, **asked) for threat in job.spec.threats], dict[str, list[Record]]()
    for record in writer.earlier.values():
        known.setdefault(record.id, []).append(record)
    places, size = order(job, early=early), workers * job.spec.batch_size
    ends = _ends(len(places), size * (TIMED if early else SHARD), size * most)
    for begin, end in pairwise(sorted({0, *ends} | set([] if until is None else until.times(len(places))))):
        part = _Part(places[begin:end], begin, end)
        for place in part.places:
            for record in known.get(job.data.ids[place], ()):
                for tally in tallies:
                    tally.add(record)
        yield part, tallies


def _ends(count: int, least: int, most: int) -> Iterator[int]:
    """Yield where parts end: each a quarter of what is done, for large ones keep a batch full and looks are few."""
    end = 0
    while end < count:
        end = min(count, end + min(most, max(least, end // 4 // least * least)))
        yield end


def order(job: Job, *, early: bool) -> list[int]:
    """Return the places of the examples as they are evaluated; in a random order if that may end early."""
    places = list(range(len(job.data)))
    if not early:
        return places
    return sorted(places, key=lambda place: random.key(job.spec.seed, "order", job.data.ids[place]))


def _shard(
    executor: Executor,
    job: Job,
    places: list[int],
    writer: Writer,
    tallies: list[Tally],
    observe: Observe | None,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for record, point, clean in executor.records(job, places):
            writer.add(record, point, clean, again=True)
            for tally in tallies:
                tally.add(record)
            if job.pending is not None and record.kind == Attacked.kind:
                job.pending.forget(f"{prefix(record.norm, record.eps)}{record.id}")
            if observe is not None:
                done = sum(tally.done for tally in tallies) // len(tallies)
                observe(done, len(job.data), tallies[-1].bracket)


def _check_unchanged(data: Dataset, writer: Writer) -> None:
    """Compare every example that is done with the digest in its record.

    Raises:
        RunError: an example is another one now.
    """
    for index, identity in enumerate(data.ids):
        before = writer.digests.get(identity)
        if before is not None and _digest(data, index) not in (None, before):
            raise RunError(
                f"the example {identity!r} of {data.name} is another one than the run attacked (SHA-256 "
                f"{before[:12]}… before); restore the data, or pass another folder"
            )


def _digest(data: Dataset, index: int) -> str | None:
    """Return the digest of an example, None if it can no longer be read: its record holds all the same."""
    try:
        return data.read(index).digest
    except InputError:
        return None
