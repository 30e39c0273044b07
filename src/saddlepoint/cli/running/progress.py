"""One line that tells how far a run is, and what its bracket is so far."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from saddlepoint.cli.printable import console as console_of
from saddlepoint.evaluation.run import Observe
from saddlepoint.results import Bracket, percent


@contextmanager
def progress(*, silent: bool) -> Iterator[Observe | None]:
    """Yield what is told of progress; a bar is drawn on a terminal only, and erased on the way out."""
    console = console_of(stderr=True)
    if silent or not console.is_terminal:
        yield None
        return
    columns = (MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[bracket]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, bracket="")

        def observe(done: int, total: int, now: Bracket | None) -> None:
            bar.update(task, completed=done, total=total, bracket=in_short(now))

        yield observe


def in_short(now: Bracket | None) -> str:
    """Return a bracket in a few characters: certified … attacked."""
    if now is None:
        return ""
    low = [percent(now.share(now.certified))] if now.proven else []
    return " … ".join([*low, percent(now.share(now.attacked))])
