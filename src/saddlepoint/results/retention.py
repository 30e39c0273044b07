"""Which adversarial points are kept: a rule about what was found, never about when."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Literal

from saddlepoint.errors import InputError

Keep = Literal["all", "broken", "none"] | int
"""`all`, `broken` by an attack, `none`, or N: of those broken by an attack, the first N of each label by index.

An example that is wrong from the start is not broken by an attack: its point is its image.
"""


def check_keep(keep: object) -> None:
    """Raise InputError unless `keep` is a rule."""
    if keep not in ("all", "broken", "none") and not (type(keep) is int and keep >= 1):
        raise InputError(f"keep is {keep!r}; expected 'all', 'broken', 'none', or a number ≥ 1 of points per label")


class Retention:
    """The rule, applied to rows as they come.

    With N, a row that is not among the first N of its label now will not be among them when more rows are known. So its
    point can be forgotten at once, and points that later rows displace are pruned at the end: those that stay do not
    depend on the order of completion, and few are written in vain.
    """

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._first: dict[int, list[tuple[int, str]]] = defaultdict(list)

    def keeps(self, row: Mapping[str, Any]) -> bool:
        """Return whether the point of a row is kept, given it and all rows noted so far."""
        if isinstance(self._keep, int):
            return _broken(row) and bisect_left(self._first[row["label"]], _place(row)) < self._keep
        return {"all": row["error"] is None, "broken": _broken(row), "none": False}[self._keep]

    def note(self, row: Mapping[str, Any]) -> None:
        """Take notice of a row, once."""
        if isinstance(self._keep, int) and self.keeps(row):
            first = self._first[row["label"]]
            insort(first, _place(row))
            del first[self._keep :]


def _place(row: Mapping[str, Any]) -> tuple[int, str]:
    return row["index"], row["key"]


def _broken(row: Mapping[str, Any]) -> bool:
    return bool(row["success"]) and row["attack"] != "clean"
