"""One line that tells how far a run is."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[bool | None], None]
"""Told of each example whether it was broken; None if it could not be read."""


@contextmanager
def progress(total: int, done: int, *, silent: bool) -> Iterator[Advance]:
    """Yield what counts an example; a bar is drawn on a terminal only, and erased on the way out."""
    if silent or not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[broken]} broken"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, broken = bar.add_task("", total=total, completed=done, broken=0), 0

        def advance(success: bool | None) -> None:
            nonlocal broken
            broken += bool(success)
            bar.update(task, advance=1, broken=broken)

        yield advance
