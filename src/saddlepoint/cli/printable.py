"""What reaches a terminal: no control characters of files, which could write over what was said."""

import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""All but tab and newline; those that turn the direction of writing, too."""


class Printable:
    """A stream that shows control characters as escapes; everything else is the stream's own."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - whatever is written to
        self.stream = stream

    def write(self, text: str) -> int:
        """Write text, control characters as escapes."""
        written: int = self.stream.write(escaped(text))
        return written

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a stream has
        return getattr(self.stream, name)


def escaped(text: str) -> str:
    """Return text with control characters as escapes."""
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def console(*, stderr: bool = False, **options: Any) -> "Console":  # noqa: ANN401 - those of rich
    """Return a console of rich that draws with control characters of its own, and shows those of texts as escapes."""
    from rich.console import Console
    from rich.segment import Segment

    class Escaping(Console):
        def render(self, *segments: Any, **named: Any) -> Iterable[Segment]:  # noqa: ANN401
            for part in super().render(*segments, **named):
                yield part if part.control else Segment(escaped(part.text), part.style)

    stream = sys.stderr if stderr else sys.stdout
    return Escaping(file=stream.stream if isinstance(stream, Printable) else stream, **options)
