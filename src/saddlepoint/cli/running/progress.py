"""One line that tells how far a run is, and what its bracket is so far."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from saddlepoint.cli.printable import console as console_of
from saddlepoint.evaluation.run import Observe
from saddlepoint.results import Bracket


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
