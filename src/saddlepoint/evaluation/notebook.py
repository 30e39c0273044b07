"""A bar in a notebook that tells how far an evaluation is, and what its bracket is so far."""

import sys
import time
from typing import Any

from saddlepoint.evaluation.session import Observe
from saddlepoint.results import Bracket


def notebook() -> Observe | None:
    """Return what draws the bar below the cell that runs; None outside a notebook."""
    ipython = sys.modules.get("IPython")  # whoever runs in a notebook has imported it
    shell = None if ipython is None else ipython.get_ipython()
    return _Bar() if hasattr(shell, "kernel") else None


class _Bar:
    """HTML that each call replaces."""

    def __init__(self) -> None:
        self._shown: Any = None
        self._began = time.monotonic()

    def __call__(self, done: int, total: int, now: Bracket | None) -> None:
        from IPython.display import HTML, display  # type: ignore[import-not-found,unused-ignore]

        left = (time.monotonic() - self._began) / max(1, done) * (total - done)
        words = [f"{done} of {total}", *([f"{left:.0f} s to go"] if 0 < done < total else [])]
        words += [] if now is None else [now.in_short()]
        page = HTML(f'<progress max="{total}" value="{done}"></progress> {" · ".join(words)}')
        if self._shown is None:
            self._shown = display(page, display_id=True)
        else:
            self._shown.update(page)
