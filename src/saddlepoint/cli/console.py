"""What the commands that compute share: progress, warnings, interruptions, findings, and memory that runs out."""

import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from saddlepoint.cli.printable import console as console_of
from saddlepoint.errors import InputError, InputWarning
from saddlepoint.evaluation.escalation import samples_of
from saddlepoint.evaluation.session import Observe
from saddlepoint.results import Attacked, Bracket, Failed, RunFolder
from saddlepoint.results.records.masking import of_summary


@contextmanager
def progress(*, silent: bool) -> Iterator[Observe | None]:
    """Yield what is told of progress: a bar on a terminal, erased on the way out, else a line now and then."""
    console = console_of(stderr=True)
    if silent:
        yield None
        return
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[bracket]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, bracket="")

        def observe(done: int, total: int, now: Bracket | None) -> None:
            bar.update(task, completed=done, total=total, bracket=now.in_short() if now else "")

        yield observe


class _Lines:
    """Lines on standard error: the first once something is done after some seconds, the others ever more rarely."""

    FIRST, FACTOR = 10.0, 2.0

    def __init__(self) -> None:
        self._began, self._next = time.monotonic(), self.FIRST

    def __call__(self, done: int, total: int, now: Bracket | None) -> None:
        passed = time.monotonic() - self._began
        if passed < self._next or not done:
            return
        self._next = self.FACTOR * passed
        left = passed / done * (total - done)
        print(
            f"saddlepoint: {done} of {total} in {passed:.0f} s, {left:.0f} s to go: {now.in_short() if now else ''}",
            file=sys.stderr,
        )


@contextmanager
def warned() -> Iterator[None]:
    """Print each `InputWarning` once on standard error; ignore other warnings, which models and libraries emit."""
    printed = set[str]()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in printed:
            printed.add(str(message))
            print(f"saddlepoint: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", InputWarning)
        warnings.showwarning = show
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a polite request to end be as Ctrl-C: what was computed is written before the process goes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def bounded() -> Iterator[None]:
    """Turn the errors by which memory runs out into one that says what to do.

    Raises:
        InputError: there was not enough memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not known:
            raise
        raise InputError(
            "out of memory; expected smaller batches: pass a smaller --batch-size, or fewer images"
        ) from None


def told_errors(run: RunFolder) -> int:
    """Print on standard error how many examples have an error, and the first; return how many."""
    failed = {record.id: record.error for record in run.records() if isinstance(record, Failed)}
    if failed:
        identity, error = next(iter(failed.items()))
        count = f"{len(failed)} example{'s' if len(failed) > 1 else ''}"
        print(f"saddlepoint: {count} could not be read or attacked; the first, {identity}: {error}", file=sys.stderr)
    return len(failed)


def told_findings(run: RunFolder) -> bool:
    """Print the signs of a misled search on standard error; return whether there are any."""
    signs = of_summary(run.summary(), sum(sample.met for sample in samples_of(run).values()))
    for finding in signs:
        print(f"saddlepoint: {finding.text}: {', '.join(_showing(run, finding.name))}", file=sys.stderr)
    return bool(signs)


def _showing(run: RunFolder, sign: str, most: int = 3) -> list[str]:
    """Return the ids of some examples that show a sign."""
    showing = dict.fromkeys(
        record.id for record in run.records() if isinstance(record, Attacked) and sign in record.doubts
    )
    return [*islice(showing, most), *(["…"] if len(showing) > most else [])]
