"""Warnings on the command line: those of saddlepoint as one line each, all others not at all."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from saddlepoint.errors import InputWarning


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
