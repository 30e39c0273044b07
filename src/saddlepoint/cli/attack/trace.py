"""The loss of every run at every step, as the attack's loop reports them; and one quiet line while it does."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from saddlepoint.attacks import Progress
from saddlepoint.cli.attack.output import Traced
from saddlepoint.cli.printable import console as console_of


@contextmanager
def drawn(silent: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that replaces the line; it is erased on the way out."""
    if silent or not sys.stderr.isatty():
        yield lambda _: None
        return
    console = console_of(stderr=True, highlight=False)
    with console.status("") as status:
        yield lambda line: status.update(line)


class Trace:
    """An observer that keeps the attack's own objective per example, restart and step.

    Args:
        draw: called with a line on how far the search is.
    """

    def __init__(self, draw: Callable[[str], None]) -> None:
        self._runs: dict[tuple[str | int, int], _Run] = {}
        self._draw = draw

    def __call__(self, progress: Progress) -> None:
        """Note what one call of the model served."""
        losses = progress.loss.tolist()
        for identity, run, step, loss in zip(progress.ids, progress.runs, progress.steps, losses, strict=True):
            self._runs.setdefault((identity, run.restart), _Run()).add(step, loss)
        if losses:
            self._draw(f"step {max(progress.steps)} · loss {sum(losses) / len(losses):.4g}")

    def of(self, identity: str | int, restart: int) -> tuple[Traced, ...]:
        """Return the objective of one run, in the order of its steps; empty when the run took none."""
        run = self._runs.get((identity, restart))
        return tuple(run.points) if run else ()


class _Run:
    """The points of one run; a search that goes on in float32 after low precision counts its steps on."""

    def __init__(self) -> None:
        self.points: list[Traced] = []
        self._base = 0
        self._step = -1

    def add(self, step: int, loss: float) -> None:
        if step <= self._step:
            self._base = self.points[-1].step
        self._step = step
        # A search that goes on begins at the best point so far, which has its entry already.
        if step > 0 or not self.points:
            self.points.append(Traced(self._base + step, loss))
