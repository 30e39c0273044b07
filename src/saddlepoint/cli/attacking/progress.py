"""One quiet line on a terminal while the search runs; nothing elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def drawn(silent: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that replaces the line; it is erased on the way out."""
    if silent or not sys.stderr.isatty():
        yield lambda _: None
        return
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        yield lambda line: status.update(line)
