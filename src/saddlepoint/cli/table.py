"""Rows as a quiet table."""

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from saddlepoint.cli.printable import console as console_of


def table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows under the names of their columns; on a pipe nothing is cut or folded."""
    console = console_of(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console = console_of(highlight=False, width=10_000)
    drawn = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name, value in rows[0].items():
        number = isinstance(value, int | float)
        drawn.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
    console.print(drawn)
