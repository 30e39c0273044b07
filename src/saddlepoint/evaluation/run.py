"""From a job to a run folder: what it lacks is computed and written, and a session may end at any moment."""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from saddlepoint.data.datasets import Dataset
from saddlepoint.errors import InputError
from saddlepoint.evaluation.job import Earlier, Job, Row
from saddlepoint.evaluation.pending import Pending
from saddlepoint.evaluation.provenance import provenance
from saddlepoint.evaluation.shard import SHARD, complete, evaluate_shard
from saddlepoint.evaluation.spec import prefix
from saddlepoint.results import Bracket, Keep, RunError, Tally, Writer, open_run, writing

LOSS = 5.0
"""Seconds of work that a kill can cost, once an example is done."""
TIMED = 2
"""Batches of a shard when a clock may end the session after each."""
Observe = Callable[[int, int, Bracket | None], None]
"""Told how many examples are done, of how many, and the bracket of those at the largest ε."""


def run(
    job: Job,
    folder: Path,
    *,
    keep: Keep = "broken",
    seconds: float | None = None,
    observe: Observe | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> dict[str, Any] | None:
    """Write the records that a run folder lacks; return its summary, or None if the time was over before.

    What an earlier session has found of an example is taken over, record by record.

    Args:
        job: what is computed.
        folder: of the run, made when missing.
        keep: which points are kept.
        seconds: after which no further shard is begun.
        observe: told how far it is.
        warn: told of each shard whose points were lost.

    Raises:
        RunError: the folder holds something else, or the data are others than before.
    """
    with writing(folder, job.spec.plain(), provenance(job.classifier), keep, seconds=LOSS) as writer:
        for line in writer.lost:
            warn(line)
        _check_unchanged(job.data, writer)
        left = [n for n, identity in enumerate(job.data.ids) if not complete(job, identity, writer.earlier)]
        pending = Pending(folder)
        job = replace(job, pending=pending, earlier=_earlier(folder, {job.data.ids[n] for n in left}, writer))
        tally = Tally(
            job.spec.threats[-1].eps, writer.earlier.values(), "certificate" if job.spec.certify else "attack"
        )
        end = math.inf if seconds is None else time.monotonic() + seconds
        size = job.spec.batch_size * (SHARD if seconds is None else TIMED)
        try:
            for start in range(0, len(left), size):
                if start and time.monotonic() > end:
                    return None
                _shard(job, left[start : start + size], writer, tally, observe)
        finally:
            pending.write()
        return writer.finish()


def _shard(job: Job, places: list[int], writer: Writer, tally: Tally, observe: Observe | None) -> None:
    _told(observe, tally, job)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row, point, clean in evaluate_shard(job, places):
            writer.add(row, point, clean, again=True)
            tally.add(row)
            if job.pending is not None and row.get("kind", "attack") == "attack":
                job.pending.forget(f"{prefix(row['norm'], row['eps'])}{row['id']}")
            _told(observe, tally, job)


def _told(observe: Observe | None, tally: Tally, job: Job) -> None:
    if observe is not None:
        observe(tally.done, len(job.data), tally.bracket)


def _earlier(folder: Path, identities: set[str], writer: Writer) -> Earlier:
    """Return the records of examples that are not finished."""
    if not any(row["id"] in identities for row in writer.earlier.values()):
        return Earlier()
    found, rows = open_run(folder), dict[str, list[Row]]()
    for row in found.rows().to_pylist():
        if row["id"] in identities:
            rows.setdefault(row["id"], []).append(row)
    return Earlier(rows, found.point)


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
