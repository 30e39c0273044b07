"""When an evaluation may stop before its last example, and what may then be said of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isclose

from saddlepoint.results import Bracket
from saddlepoint.results.records.bracket import LEVEL, largest
from saddlepoint.results.records.sequences import planned, sequence

Ends = dict[str, tuple[float, float]]
"""For clean, certified and attacked accuracy of all examples: between which two shares it lies."""


@dataclass(frozen=True, slots=True)
class Rule:
    """An accuracy of all examples that must not be lower.

    Attributes:
        kind: clean, certified or attacked.
        least: the share.
        eps: at this radius; None for the largest of each norm.
        norm: in this one; None for each.
    """

    kind: str
    least: float
    eps: float | None = None
    norm: str | None = None

    def of(self, brackets: Sequence[Bracket]) -> list[Bracket]:
        """Return the brackets that the rule is about; it is met when each of them meets it."""
        of_norm = [bracket for bracket in brackets if self.norm in (None, bracket.norm)]
        if self.eps is None:
            return largest(of_norm)
        return [bracket for bracket in of_norm if isclose(bracket.eps, self.eps)]


@dataclass(frozen=True, slots=True)
class Until:
    """Examples come in a random order that a seed fixes before any is seen; those that are done are the first of it.

    Attributes:
        width: stop when attacked and certified accuracy of all examples are each known to within so much.
        rules: stop when each is decided.
        looks: how often one looks, at times that are planned; None for after each shard, at whichever time.
    """

    width: float | None = None
    rules: tuple[Rule, ...] = ()
    looks: int | None = None

    def due(self, seen: int, whole: int) -> bool:
        """Whether one may look now."""
        return self.looks is None or seen == whole or seen in self.times(whole)

    def times(self, whole: int) -> list[int]:
        """Return after how many examples one looks, if looks are planned."""
        looks = self.looks or 0
        return [ceil(whole * look / looks) for look in range(1, looks + 1)]

    def reached(self, seen: int, whole: int, brackets: Sequence[Bracket]) -> bool:
        """Whether no further example is needed."""
        if not self.due(seen, whole) or not brackets:
            return False
        narrow = self.width is not None and self._narrow(seen, whole, brackets)
        decided = bool(self.rules) and all(self.decided(rule, seen, whole, brackets) is not None for rule in self.rules)
        return narrow or decided

    def decided(self, rule: Rule, seen: int, whole: int, brackets: Sequence[Bracket]) -> bool | None:
        """Return whether a rule holds for all examples; None while that is open.

        Args:
            rule: the requirement, such as robust ≥ 40 %.
            seen: how many examples have been settled.
            whole: how many there are.
            brackets: the counts so far, one for each threat.
        """
        ends = [self.ends(seen, whole, bracket, len(brackets))[rule.kind] for bracket in rule.of(brackets)]
        if any(high < rule.least for _, high in ends):
            return False
        return True if ends and all(low >= rule.least for low, _ in ends) else None

    def ends(self, seen: int, whole: int, bracket: Bracket, threats: int = 1) -> Ends:
        """Return between which shares the accuracies of all examples lie, jointly at the level of intervals.

        An example with an error counts as right for the upper end and as wrong for the lower. Between planned looks
        nothing is concluded: the ends are what the examples that were seen say of themselves.

        Args:
            seen: how many are done, the first of the order.
            whole: how many there are.
            bracket: of those that are done.
            threats: under how many one looks.
        """
        errors = seen - bracket.examples
        kinds = {
            "clean": bracket.clean,
            "certified": bracket.certified,
            "attacked": bracket.attacked,
        }
        alpha = (1 - LEVEL) / len(kinds) / threats
        ends = {}
        for kind, count in kinds.items():
            spare = 0 if kind == "certified" else errors
            if not self.due(seen, whole):
                low, high = count, whole - (seen - count - spare)
            elif self.looks is None:
                low, high = sequence(count + spare, seen, whole, alpha, count)
            else:
                low, high = planned(count + spare, seen, whole, alpha / self.looks, count)
            ends[kind] = (low / whole, high / whole)
        return ends

    def _narrow(self, seen: int, whole: int, brackets: Sequence[Bracket]) -> bool:
        """Whether the accuracies at the largest ε of each norm are known to within the width."""
        for bracket in largest(brackets):
            ends = self.ends(seen, whole, bracket, len(brackets))
            asked = (*(("attacked",) if bracket.searched else ()), *(("certified",) if bracket.proven else ()))
            if any(ends[kind][1] - ends[kind][0] > (self.width or 0.0) for kind in asked):
                return False
        return True
