"""A run folder, written: begun or gone on with, flushed as results come, and closed however it ends."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock, Timer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlepoint.errors import InputError, RunError
from saddlepoint.results.folder.begin import LOCK, asked, begin, claim
from saddlepoint.results.folder.canonical import canonical
from saddlepoint.results.folder.documents import remove, write_document
from saddlepoint.results.folder.finishing import settle
from saddlepoint.results.folder.lock import locked
from saddlepoint.results.folder.merged import load, records_of
from saddlepoint.results.folder.points import Pixels, image, owned
from saddlepoint.results.folder.reader import SUMMARY
from saddlepoint.results.folder.retention import Keep, Retention
from saddlepoint.results.folder.shards import fresh_name, write_shard
from saddlepoint.results.records.record import Failed, Record, to_row
from saddlepoint.results.records.schema import checked
from saddlepoint.results.records.summary import summarise

SHARD_ROWS, SHARD_BYTES, SECONDS = 1024, 64 * 2**20, 30.0


@contextmanager
def writing(
    path: str | Path,
    spec: Mapping[str, Any],
    provenance: Mapping[str, Any],
    keep: Keep = "broken",
    *,
    shard_rows: int = SHARD_ROWS,
    seconds: float = SECONDS,
) -> Iterator["Writer"]:
    """Begin a run in a folder, or go on with the one that is there; whatever ends the block, what was added is flushed.

    Args:
        path: the folder, made when missing.
        spec: everything that the rows depend on, as JSON; a run goes on only under an equal one.
        provenance: when, by which software and on which machine this session works, as JSON.
        keep: which points are kept (`Keep`); part of the specification.
        shard_rows: rows per shard at most; points fill one, too, at 64 MiB.
        seconds: how long a row waits to be written at most. A kill loses no more than what waits.

    Raises:
        InputError: the specification or the provenance is not JSON, or `keep` is no rule.
        RunError: the folder holds something else, a run of another specification or a broken file, or has a writer.
    """
    folder, whole = Path(path).absolute(), asked(spec, keep)
    canonical(provenance)
    claim(folder)
    with locked(folder / LOCK):
        lost = begin(folder, whole, provenance)
        writer = Writer(folder, Retention(keep), shard_rows, seconds)
        writer.lost = tuple(lost)
        try:
            yield writer
        finally:
            writer.close()


class Writer:
    """What adds rows to a run; made by `writing`.

    Attributes:
        earlier: the records that had a result when the run was opened, by key; those with an error are to be
            tried again.
        done: the ids of their examples.
        digests: what was attacked, by those ids.
        lost: one line for each shard whose points were gone; its examples are not done.
    """

    lost: tuple[str, ...] = ()

    def __init__(self, folder: Path, retention: Retention, shard_rows: int, seconds: float) -> None:
        self._folder, self._retention, self._shard_rows, self._seconds = folder, retention, shard_rows, seconds
        self.earlier: dict[str, Record] = {}
        for record in records_of(load(folder)):
            retention.note(record)
            if not isinstance(record, Failed):
                self.earlier[record.key] = record
        self.digests = {shard.id: str(shard.digest) for shard in self.earlier.values()}
        self.done = frozenset(self.digests)
        self._seen = set(self.earlier)
        # A timer flushes what waits while the attack is at work; the guard keeps it and the caller apart.
        self._guard, self._timer, self._open = RLock(), Timer(0, self._on_time), True
        self._empty()

    def add(
        self,
        record: Record,
        point: NDArray[Any] | None,
        clean: NDArray[Any] | None = None,
        *,
        again: bool = False,
    ) -> None:
        """Add the record of one example, its point and its clean image, float32 (C, H, W), which are copied.

        Args:
            record: what was found; `kept` is decided here.
            point: x_adv; None for an example with an error, or when no point is kept.
            clean: x, kept beside a point that is kept.
            again: whether a record whose key has one already is passed over instead of refused: it is the same.

        Raises:
            InputError: the row or point breaks the schema, the id has a row, or a point that is to be kept is missing.
            RunError: a full shard cannot be written; what was added is kept in memory for the next attempt.
        """
        row = checked({**to_row(record), "kept": False})
        key, identity = record.key, record.id
        with self._guard:
            self._check_open()
            if again and key in self._seen:
                return
            if key in self._seen:
                raise InputError(f"the record {key!r} has a row already; expected one for each")
            kept = self._retention.keeps(record)
            if kept and point is None:
                raise InputError(f"the row of {identity!r} has no point; expected one, which this run is to keep")
            if kept and point is not None:
                self._points[key] = owned(identity, point)
                self._bytes += self._points[key].nbytes
                if clean is not None:
                    self._images[key] = image(clean)
                    self._bytes += self._images[key].nbytes
            self._retention.note(record)
            self._seen.add(key)
            self._rows.append({**row, "kept": kept})
            if len(self._rows) == 1:
                self._start()
            if len(self._rows) >= self._shard_rows or self._bytes >= SHARD_BYTES or time.monotonic() >= self._due:
                self.flush()

    def flush(self) -> None:
        """Write what waits; once this returns, it outlives a kill and a power cut.

        Raises:
            RunError: it cannot be written; it waits on.
        """
        with self._guard:
            self._check_open()
            self._timer.cancel()
            if self._rows:
                remove(self._folder / SUMMARY)  # it says that nothing is missing
                write_shard(self._folder, self._name, self._rows, self._points, self._images)
                self._empty()

    def finish(self) -> dict[str, Any]:
        """Say that nothing is missing: settle the shards, write `summary.json`, and return what it says.

        Raises:
            RunError: a file cannot be read or written, or two rows of an id differ.
        """
        with self._guard:
            self.flush()
            settle(self._folder, self._retention)
            summary = summarise(load(self._folder))
            write_document(self._folder / SUMMARY, summary)
            return summary

    def close(self) -> None:
        """Write what waits, and nothing after that: the lock is about to be given back.

        Raises:
            RunError: it cannot be written, and is lost.
        """
        with self._guard:
            try:
                self.flush()
            finally:
                self._open = False

    def _check_open(self) -> None:
        if not self._open:
            raise RunError(f"{str(self._folder)!r} is closed; write to it inside of its `with writing(...)` block")

    def _empty(self) -> None:
        self._name, self._due = fresh_name(self._folder), float("inf")
        self._rows: list[dict[str, Any]] = []
        self._points: dict[str, NDArray[np.float32]] = {}
        self._images: dict[str, Pixels] = {}
        self._bytes = 0

    def _start(self) -> None:
        self._due = time.monotonic() + self._seconds
        self._timer = Timer(self._seconds, self._on_time)
        self._timer.daemon = True
        self._timer.start()

    def _on_time(self) -> None:
        # The next `add` is due, too: it tries again, where an error reaches somebody.
        with suppress(RunError):
            self.flush()
