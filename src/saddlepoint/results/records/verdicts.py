"""Verdicts: what was shown of an example and a set, and what records come to, example by example."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from saddlepoint.errors import RunError
from saddlepoint.results.records.record import Attacked, Certified, Failed, Record, Voted


class Verdict(StrEnum):
    """One word for what a certificate has shown, and never more than that.

    CERTIFIED: no point of the set is misclassified: the proven margin is finite and positive.
    FALSIFIED: a point of the set is misclassified, as the untouched model said of it.
    UNKNOWN: neither was shown.
    TIMEOUT: neither was shown, and the time was over.
    """

    CERTIFIED = "certified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"
    TIMEOUT = "timeout"


class Standing(StrEnum):
    """What all records together say of one example under one threat; each is in one of these, or has an error.

    MISCLASSIFIED: the clean image is.
    BROKEN: the clean image is right, and a point of the set was found that is not.
    CERTIFIED: it is proven that there is no such point.
    UNDECIDED: neither.
    """

    MISCLASSIFIED = "misclassified"
    BROKEN = "broken"
    CERTIFIED = "certified"
    UNDECIDED = "undecided"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Judgement:
    """One example under one threat.

    Attributes:
        standing: what its records say.
        attack: which attack broke it.
        margin: the least margin that an attack has found; None where none ran.
        lower_bound: the best that a bound has proven of the margin, in logits; None where no bound was computed.
        radius: of the ℓ2 ball that votes have certified, for pixels in [0, 1]; None where none was taken.
        error: why there is no verdict.
        passes: forwards and backwards that the attacks had spent when the example was broken.
    """

    id: str
    index: int
    norm: str
    eps: float
    label: int | None
    standing: Standing
    attack: str | None = None
    margin: float | None = None
    lower_bound: float | None = None
    radius: float | None = None
    error: str | None = None
    passes: int | None = None

    @property
    def proof_ran(self) -> bool:
        """Whether a certificate was tried."""
        return self.lower_bound is not None or self.radius is not None


def judgements(records: Iterable[Record]) -> list[Judgement]:
    """Return the verdict of every (norm, ε, example) of the records, in that order.

    Raises:
        RunError: an example is broken and certified at once, which is a defect of an attack or of a certificate.
    """
    by_example = sorted(records, key=lambda record: (record.index, record.id))
    return sorted(standings(by_example), key=lambda judged: (judged.norm, judged.eps, judged.index, judged.id))


def standings(records: Iterable[Record]) -> Iterator[Judgement]:
    """Yield the verdicts of records that are sorted by example, holding those of one example at a time.

    Raises:
        RunError: as `judgements`.
    """
    for _, of_one in groupby(records, key=lambda record: record.index):
        threats: dict[tuple[str, str, float], list[Record]] = {}
        for record in of_one:
            threats.setdefault((record.id, record.norm, record.eps), []).append(record)
        yield from (_judged(threats[key]) for key in sorted(threats))


def standing_of(records: Sequence[Record]) -> Standing:
    """Return what the records of one example under one threat say together: errors count where there is nothing else.

    Raises:
        RunError: it is broken and certified at once.
    """
    said = [record for record in records if not isinstance(record, Failed)]
    if not said:
        return Standing.ERROR
    if not all(record.clean_correct for record in said):
        return Standing.MISCLASSIFIED
    broken = next((record for record in said if isinstance(record, Attacked) and record.success), None)
    proven = any(record.proven for record in said if not isinstance(record, Attacked))
    if broken is not None and proven:
        raise RunError(
            f"{broken.id!r} is broken by {broken.attack} and certified at once, at {broken.norm} eps {broken.eps:g}; "
            "this is a defect of saddlepoint: please report it"
        )
    return Standing.BROKEN if broken is not None else Standing.CERTIFIED if proven else Standing.UNDECIDED


def _judged(records: Sequence[Record]) -> Judgement:
    standing, first = standing_of(records), records[0]
    attacks = [record for record in records if isinstance(record, Attacked)]
    bounds = [record.lower_bound for record in records if isinstance(record, Certified)]
    labels = [record.label for record in records if not isinstance(record, Failed)]
    broken = next((attacked for attacked in attacks if attacked.success), None) if standing is Standing.BROKEN else None
    return Judgement(
        first.id,
        first.index,
        first.norm,
        first.eps,
        labels[0] if labels else first.label,
        standing,
        attack=None if broken is None else broken.attack,
        margin=min((attacked.margin for attacked in attacks), default=None),
        lower_bound=max(bounds, default=None),
        radius=max((record.radius for record in records if isinstance(record, Voted)), default=None),
        error=first.error if isinstance(first, Failed) and standing is Standing.ERROR else None,
        passes=None if broken is None else broken.forwards + broken.backwards,
    )
