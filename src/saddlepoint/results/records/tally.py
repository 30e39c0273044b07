"""Brackets of subsets: per class, and of the records seen so far."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from saddlepoint.results.records.bracket import Bracket, brackets
from saddlepoint.results.records.record import Attacked, Certified, Record
from saddlepoint.results.records.verdicts import Judgement, Standing, standing_of


def by_label(examples: Iterable[Judgement]) -> dict[int, Bracket]:
    """Return the bracket of each class, of verdicts under one threat; errors left out."""
    groups: dict[int, list[Judgement]] = defaultdict(list)
    for example in examples:
        if example.label is not None and example.standing is not Standing.ERROR:
            groups[example.label].append(example)
    proven = any(judgement.proof_ran for group in groups.values() for judgement in group)
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
    """The bracket under one threat while records come in.

    Args:
        norm: of the ball.
        eps: its radius.
        proven: whether certificates are asked for; an example is then done when it has one.
        searched: whether attacks are.
    """

    def __init__(self, norm: str, eps: float, *, proven: bool, searched: bool) -> None:
        self._norm, self._eps, self._proven, self._searched = norm, eps, proven, searched
        self._standing, self._done = dict[str, Standing](), set[str]()
        self._counts = Counter[Standing]()

    def add(self, record: Record) -> None:
        """Count a record: of an example with several, the most telling one counts."""
        if (record.norm, record.eps) != (self._norm, self._eps):
            return
        identity = record.id
        before = self._standing.get(identity)
        standing = min(before or Standing.ERROR, standing_of([record]), key=_TELLING.index)
        if before is not None:
            self._counts[before] -= 1
        self._counts[standing] += 1
        self._standing[identity] = standing
        last = Certified.kind if self._proven else Attacked.kind
        if standing is not Standing.UNDECIDED or record.kind == last:
            self._done.add(identity)

    @property
    def done(self) -> int:
        """How many examples need no further record."""
        return len(self._done)

    @property
    def bracket(self) -> Bracket | None:
        """The bracket; None before the first record."""
        if not self._standing:
            return None
        examples, counts = len(self._standing) - self._counts[Standing.ERROR], self._counts
        of_each: dict[str, int] = {standing: counts[standing] for standing in Standing}
        return Bracket(self._norm, self._eps, examples, of_each, {}, self._proven, self._searched)


_TELLING = (Standing.MISCLASSIFIED, Standing.BROKEN, Standing.CERTIFIED, Standing.UNDECIDED, Standing.ERROR)
