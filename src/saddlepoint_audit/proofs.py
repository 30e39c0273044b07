"""A proof of one example: hints, and the margin that follows from them.

Hints claim nothing. They say which neurons are bounded by functionals of their own, and which slopes lines have; any
that are possible give a bound that holds, good ones give one that proves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from saddlepoint_audit.enclosures import FLOAT32, REAL, Enclosure, Lines, Region
from saddlepoint_audit.files import Array, Refused, arrays_of
from saddlepoint_audit.operations import Network, Values

TOGETHER = 64
"""Functionals that are propagated at once."""
STEPS = 128
"""Slopes are kept in steps of 1/128: exact numbers, 0 and 1 among them."""
VERSION = "1"
Slopes = Mapping[int, Array]
"""By the place of a ReLU among all of them, slopes of lower lines: (functionals, neurons that have some), in steps."""


@dataclass(frozen=True, eq=False)
class Pass:
    """One look at the inputs of the ReLUs, in the order of computation, each bounded with those before it.

    Attributes:
        rows: by the place of a ReLU, the neurons that are bounded; None for all whose sign is open.
        slopes: by that place, the slopes for their lower bounds, and then for their upper ones; default ones if none.
    """

    rows: Mapping[int, Array] | None = None
    slopes: Mapping[int, Slopes] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Hints:
    """What finds the proof of one example again.

    Attributes:
        passes: each tightens the bounds of the one before; without any, they are intervals.
        neurons: by the place of a ReLU, those that slopes are of.
        slopes: for each margin, in the order of the classes; default ones if none.
    """

    passes: tuple[Pass, ...] = ()
    neurons: Mapping[int, Array] = field(default_factory=dict)
    slopes: Slopes = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Hints":
        """Return the hints of a file.

        Raises:
            Refused: it holds something else.
        """
        arrays, about = arrays_of(path)
        if about.get("saddlepoint-proof") != VERSION:
            raise Refused(f"{path.name} holds no hints of this version")
        try:
            passes = [Pass(slopes={}) for _ in range(min(int(about["passes"]), 8))]
            neurons, slopes = dict[int, Array](), dict[int, Array]()
            for name, array in arrays.items():
                kind, *places = name.split("/")
                _enter(passes, neurons, slopes, kind, tuple(map(int, places)), array)
        except (KeyError, ValueError, IndexError) as error:
            raise Refused(f"{path.name} holds what is no hint: {error}") from None
        return cls(tuple(passes), neurons, slopes)

    def lines(self, lines: Mapping[int, Lines], relus: list[int], slopes: Slopes, count: int) -> dict[int, Lines]:
        """Return lines whose lower slopes are these, for each of `count` functionals, where a sign is open."""
        own = dict(lines)
        for place, steps in slopes.items():
            i = relus[place]
            if i not in lines:
                continue
            chosen = _places(self.neurons[place], lines[i].size)
            if steps.dtype != np.uint8 or steps.shape != (count, len(chosen)) or (steps > STEPS).any():
                raise Refused(f"the slopes at ReLU {place} are no slopes of {count} functionals")
            alpha = np.broadcast_to(lines[i].alpha, (count, lines[i].size)).copy()
            alpha[:, chosen] = np.where((lines[i].above > 0)[chosen], steps / STEPS, alpha[:, chosen])
            own[i] = replace(lines[i], alpha=alpha)
        return own


def _enter(
    passes: list[Pass],
    neurons: dict[int, Array],
    slopes: dict[int, Array],
    kind: str,
    places: tuple[int, ...],
    array: Array,
) -> None:
    """Put one array of a file where its name says."""
    match kind, places:
        case "neurons", (place,):
            neurons[place] = array
        case "slopes", (place,):
            slopes[place] = array
        case "rows", (k, place):
            passes[k] = replace(passes[k], rows={**(passes[k].rows or {}), place: array})
        case "slopes", (k, place, before):
            own = dict(passes[k].slopes)
            own[place] = {**own.get(place, {}), before: array}
            passes[k] = replace(passes[k], slopes=own)
        case _:
            raise ValueError(f"{kind!r:.40} of {places}")


@dataclass(frozen=True)
class Proven:
    """What hints prove: the least margin over the set, and in which arithmetic; −∞ where nothing is."""

    margin: float
    arithmetic: str

    @property
    def holds(self) -> bool:
        """Whether no point of the set is misclassified."""
        return 0 < self.margin < np.inf


def prove(network: Network, region: Region, label: int, hints: Hints) -> Proven:
    """Return the least margin z_y − max_{j≠y} z_j that hints prove: of float32 executions, else of real arithmetic.

    Args:
        network: the operations.
        region: the set of inputs.
        label: y.
        hints: what finds the proof.

    Raises:
        Refused: the hints do not fit the network.
    """
    proven = Proven(-np.inf, "real")
    for arithmetic, unit in (("float32", FLOAT32), ("real", REAL)):
        proven = Proven(margin_of(network, region, label, hints, unit), arithmetic)
        if proven.holds:
            break
    return proven


def margin_of(network: Network, region: Region, label: int, hints: Hints, unit: float) -> float:
    """Return the least margin that hints prove in one arithmetic; −∞ where that is no number.

    Args:
        network: the operations.
        region: the set of inputs.
        label: y.
        hints: what finds the proof.
        unit: u of the arithmetic.
    """
    last = len(network.operations) - 1
    rows = differences(label, network.operations[last].size)
    enclosure = _enclosed(network, region, unit, hints)
    lines = enclosure.lines()
    bounds = [enclosure.least(last, rows, enclosure.lines(constant=True)), enclosure.least(last, rows, lines)]
    if hints.slopes:
        own = hints.lines(lines, network.relus, hints.slopes, len(rows))
        bounds.append(enclosure.least(last, rows, own))
    least = np.nan_to_num(np.array(bounds), nan=-np.inf, posinf=-np.inf).max(0)
    return float(least.min(initial=np.inf))


def differences(label: int, classes: int) -> Values:
    """Return e_y − e_j for every j ≠ y."""
    if not (type(label) is int and 0 <= label < classes):
        raise Refused(f"{label!r:.20} is no class of {classes}")
    unit = np.eye(classes)
    rows: Values = unit[label] - np.delete(unit, label, axis=0)
    return rows


def _enclosed(network: Network, region: Region, unit: float, hints: Hints) -> Enclosure:
    """Return the bounds of all operations: by intervals, and what each pass tightens."""
    readers = {network.operations[i].parents[0]: k for k, i in reversed([*enumerate(network.relus)])}
    before: Enclosure | None = None
    for own in hints.passes or (None,):
        enclosure = Enclosure(network, region, unit)
        for i in range(1, len(network.operations)):
            enclosure.step()
            if before is not None:
                enclosure.meet(i, before.lower[i], before.upper[i])
            if own is not None and i in readers:
                _bound(enclosure, i, readers[i], own, hints)
        before = enclosure
    assert before is not None  # noqa: S101 - there is one pass at least
    return before


def _bound(enclosure: Enclosure, i: int, place: int, own: Pass, hints: Hints) -> None:
    """Tighten the bounds of operation i, what ReLU `place` reads, of some neurons by functionals of their own."""
    low, high = enclosure.lower[i].copy(), enclosure.upper[i].copy()
    if own.rows is None:
        chosen = np.flatnonzero((low < 0) & (high > 0))
    else:
        chosen = _places(own.rows.get(place, np.zeros(0, np.int32)), len(low))
    lines, count = enclosure.lines(), len(chosen)
    for begin in range(0, count, TOGETHER):
        part = np.arange(begin, min(begin + TOGETHER, count))
        unit = np.zeros((len(part), len(low)))
        unit[np.arange(len(part)), chosen[part]] = 1.0
        slopes = {j: steps[np.r_[part, part + count]] for j, steps in own.slopes.get(place, {}).items()}
        bent = hints.lines(lines, enclosure.network.relus, slopes, 2 * len(part))
        least = enclosure.least(i, np.concatenate([unit, -unit]), bent)
        low[chosen[part]], high[chosen[part]] = least[: len(part)], -least[len(part) :]
    enclosure.meet(i, np.nan_to_num(low, nan=-np.inf), np.nan_to_num(high, nan=np.inf))


def _places(rows: Array, size: int) -> Array:
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise Refused("a hint of neurons is no list of their places")
    if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= size):
        raise Refused("a hint is of a neuron that there is not")
    return rows
