"""Which adversarial points are kept: a rule about what was found, never about when."""

from bisect import bisect_left, insort
from collections import defaultdict
from typing import Literal

from saddlepoint.errors import InputError
from saddlepoint.results.records.record import Attacked, Record

Keep = Literal["all", "broken", "none"] | int
"""`all`, `broken` by an attack, `none`, or N: of those broken by an attack, the first N of each label by index.

An example that is wrong from the start is not broken by an attack: its point is its image.
"""


def check_keep(keep: object) -> None:
    """Raise InputError unless `keep` is a rule."""
    if keep not in ("all", "broken", "none") and not (type(keep) is int and keep >= 1):
        raise InputError(f"keep is {keep!r}; expected 'all', 'broken', 'none', or a number ≥ 1 of points per label")


class Retention:
    """The rule, applied to records as they come.

    With N, a record that is not among the first N of its label now will not be among them when more are known. So its
    point can be forgotten at once, and points that later records displace are pruned at the end: those that stay do
    not depend on the order of completion, and few are written in vain.
    """

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._first: dict[int | None, list[tuple[int, str]]] = defaultdict(list)

    def keeps(self, record: Record) -> bool:
        """Return whether the point of a record is kept, given it and all records noted so far."""
        if not isinstance(record, Attacked):
            return False
        if isinstance(self._keep, int):
            return record.broken and bisect_left(self._first[record.label], _place(record)) < self._keep
        return {"all": True, "broken": record.broken, "none": False}[self._keep]

    def note(self, record: Record) -> None:
        """Take notice of a record, once."""
        if isinstance(self._keep, int) and self.keeps(record):
            first = self._first[record.label]
            insort(first, _place(record))
            del first[self._keep :]


def _place(record: Record) -> tuple[int, str]:
    return record.index, record.key
