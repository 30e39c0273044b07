"""Brackets of parts: of each class, and of the records so far."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from saddlepoint.results.bracket import Bracket, brackets
from saddlepoint.results.verdicts import Judged, Standing, standing_of


def by_label(examples: Iterable[Judged]) -> dict[int, Bracket]:
    """Return the bracket of each class, of verdicts under one threat; errors left out."""
    groups: dict[int, list[Judged]] = defaultdict(list)
    for each in examples:
        if each.label is not None and each.standing is not Standing.ERROR:
            groups[each.label].append(each)
    proven = any(each.lower_bound is not None for group in groups.values() for each in group)
    return {label: replace(brackets(group)[0], proven=proven) for label, group in sorted(groups.items())}


def namer(spec: Mapping[str, Any]) -> Callable[[int | None], str]:
    """Return what names a class: the model's names, else those of the data, else its index."""
    names: Sequence[str] = spec["model"].get("names") or ()
    classes = {label: name for name, label in (spec["data"].get("classes") or {}).items()}

    def name(label: int | None) -> str:
        if label is None:
            return "?"
        return names[label] if 0 <= label < len(names) else classes.get(label, str(label))

    return name


class Tally:
    """The bracket at one radius while records come in; where two records of an example differ, the more telling one."""

    def __init__(self, eps: float, records: Iterable[Mapping[str, Any]]) -> None:
        self._eps = eps
        self._standing: dict[str, Standing] = {}
        self._threat = ""
        for row in records:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a record."""
        if row["eps"] == self._eps:
            self._threat = row["norm"]
            before = self._standing.get(row["id"], Standing.ERROR)
            self._standing[row["id"]] = min(before, standing_of(row), key=_TELLING.index)

    @property
    def bracket(self) -> Bracket | None:
        """The bracket; None before the first record."""
        if not self._standing:
            return None
        counts = Counter(self._standing.values())
        examples = counts.total() - counts[Standing.ERROR]
        return Bracket(self._threat, self._eps, examples, {kind: counts[kind] for kind in Standing}, {}, True, True)


_TELLING = (Standing.MISCLASSIFIED, Standing.BROKEN, Standing.CERTIFIED, Standing.UNDECIDED, Standing.ERROR)
