"""A proof of one example: hints, and the margin that follows from them.

Hints claim nothing. They say which neurons are bounded by functionals of their own, and which slopes lines have; any
that are possible give a bound that holds, good ones give one that proves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from saddlepoint_audit.enclosures import FLOAT32, REAL, Enclosure, Lines, Region
from saddlepoint_audit.files import BROKEN, Array, Refused, arrays_of
from saddlepoint_audit.operations import MOST, Network, Values

TOGETHER = 32
"""Functionals that are propagated at once."""
STEPS = 128
"""Slopes are kept in steps of 1/128: exact numbers, 0 and 1 among them."""
VERSION = "1"
LEAVES = ("margins", "ends", "literals", "multipliers", "slopes")
"""Of `Branches`, as a file names them."""
Slopes = Mapping[int, Array]
"""By the place of a ReLU among all of them, slopes of lower lines: (functionals, neurons that have some), in steps."""


@dataclass(frozen=True, eq=False)
class Branches:
    """Parts of the set on which margins are positive, and how they cover it.

    Neurons are counted through the lists of `Hints.neurons`, ReLU by ReLU. Each leaf is {x : z σ ≥ 0 for its literals}.

    Attributes:
        trees: by margin, in preorder: a neuron, its part z ≥ 0, its part z ≤ 0; or −1 − k for leaf k, whose literals
            must be among those on the way.
        margins: which is bounded on each leaf, (L,).
        ends: where the literals of each leaf end, behind a 0, (L + 1,).
        literals: 1 + the neuron, times σ.
        multipliers: β of each literal.
        slopes: of lower lines on each leaf, in steps, (L, neurons).
    """

    trees: Mapping[int, Array]
    margins: Array
    ends: Array
    literals: Array
    multipliers: Array
    slopes: Array

    def checked(self, neurons: int, margins: int) -> None:
        """Raise Refused unless everything is of its shape and within its range."""
        count, total = len(self.margins), len(self.literals)
        whole = all(a.ndim == 1 and a.dtype.kind == "i" for a in (self.margins, self.ends, self.literals))
        fits = (
            whole
            and self.slopes.dtype == np.uint8
            and self.slopes.shape == (count, neurons)
            and self.ends.shape == (count + 1,)
            and self.multipliers.shape == (total,)
            and self.multipliers.dtype.kind == "f"
            and (np.diff(self.ends) >= 0).all()
            and (int(self.ends[0]), int(self.ends[-1])) == (0, total)
            and _within(self.margins, 0, margins)
            and _within(np.abs(self.literals), 1, neurons + 1)
            and bool((self.slopes <= STEPS).all())
            and bool(((self.multipliers >= 0) & (self.multipliers < MOST)).all())
        )
        if not fits:
            raise Refused("leaves of the proof do not fit the network")

    def of(self, leaf: int) -> Array:
        """Return the literals of a leaf."""
        return self.literals[self.ends[leaf] : self.ends[leaf + 1]]

    def least(self, margin: int, bounds: Values) -> float:
        """Return the least bound of a margin over the leaves of its tree, from those of all leaves; −∞ without a tree.

        Raises:
            Refused: they do not cover the set.
        """
        if margin not in self.trees:
            return -np.inf
        steps, least = iter(self.trees[margin].tolist()), np.inf
        todo: list[frozenset[int]] = [frozenset()]
        while todo:
            path, step = todo.pop(), next(steps, None)
            if step is None:
                raise Refused("a tree of the proof ends early: its leaves do not cover the set")
            if step >= 0:
                todo += [path | {-1 - step}, path | {1 + step}]
                continue
            leaf = -1 - step
            if leaf >= len(bounds) or int(self.margins[leaf]) != margin or not path.issuperset(self.of(leaf).tolist()):
                raise Refused("a leaf of the proof is not of the part of the set at which it stands")
            least = min(least, float(bounds[leaf]))
        if next(steps, None) is not None:
            raise Refused("a tree of the proof goes on behind its end")
        return least


@dataclass(frozen=True, eq=False)
class Hints:
    """What finds the proof of one example again.

    Attributes:
        bounded: whether inputs of ReLUs whose sign is open are bounded by functionals; else by intervals.
        rows: by the place of a ReLU, the neurons whose bounds have slopes of their own; default ones for all others.
        bent: by that place, the slopes for their lower bounds, and then for their upper ones.
        neurons: by the place of a ReLU, those that slopes are of.
        slopes: for each margin, in the order of the classes; default ones if none.
        branches: for margins that the whole set leaves open.
    """

    bounded: bool = False
    rows: Mapping[int, Array] = field(default_factory=dict)
    bent: Mapping[int, Slopes] = field(default_factory=dict)
    neurons: Mapping[int, Array] = field(default_factory=dict)
    slopes: Slopes = field(default_factory=dict)
    branches: Branches | None = None

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
            return cls.of(arrays, about["bounded"] == "1")
        except BROKEN as error:
            raise Refused(f"{path.name} holds what is no hint: {error}") from None

    @classmethod
    def of(cls, arrays: Mapping[str, Array], bounded: bool) -> "Hints":
        """Return the hints of arrays, each where its name says."""
        kinds: dict[str, dict[int, Array]] = {"rows": {}, "neurons": {}, "slopes": {}, "tree": {}}
        bent, leaves = dict[int, dict[int, Array]](), dict[str, Array]()
        for name, array in arrays.items():
            match name.split("/"):
                case "leaves", part:
                    leaves[part] = array
                case "bent", place, before:
                    bent.setdefault(int(place), {})[int(before)] = array
                case kind, place:
                    kinds[kind][int(place)] = array
                case _:
                    raise ValueError(f"{name!r:.40}")
        trees = kinds.pop("tree")
        return cls(bounded, bent=bent, branches=Branches(trees, **leaves) if leaves or trees else None, **kinds)

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
    """Return the least margin that hints prove in one arithmetic; see `least_of`."""
    rows = differences(label, network.operations[-1].size)
    return least_of(network, region, rows, np.zeros(len(rows)), hints, unit)


def least_of(network: Network, region: Region, rows: Values, thresholds: Values, hints: Hints, unit: float) -> float:
    """Return the least ⟨r, h(x)⟩ − t that hints prove of some r and t in one arithmetic; −∞ where that is no number.

    Args:
        network: the operations.
        region: the set of inputs.
        rows: r, functionals of the output, (T, m).
        thresholds: t, (T,).
        hints: what finds the proof.
        unit: u of the arithmetic.

    Raises:
        Refused: the hints do not fit the network.
    """
    try:
        return _least(network, region, rows, thresholds, hints, unit)
    except BROKEN as error:
        raise Refused(f"the hints do not fit the network: {type(error).__name__} {error}") from None


def _least(network: Network, region: Region, rows: Values, thresholds: Values, hints: Hints, unit: float) -> float:
    last = len(network.operations) - 1
    enclosure = enclosed(network, region, unit, hints)
    lines, least = enclosure.lines(), np.full(len(rows), -np.inf)
    own = [hints.lines(lines, network.relus, hints.slopes, len(rows))] if hints.slopes else []
    for way in (enclosure.lines(constant=True), lines, *own):
        bound = enclosure.least(last, rows, way) - thresholds
        least = np.maximum(least, np.nan_to_num(bound, nan=-np.inf, posinf=-np.inf))
    if hints.branches is not None and not (least > 0).all():
        least = np.maximum(least, _split(enclosure, rows, thresholds, hints, least > 0))
    return float(least.min(initial=np.inf))


def _split(enclosure: Enclosure, rows: Values, thresholds: Values, hints: Hints, done: Array) -> Values:
    """Return the bounds of margins by the parts that the set is split into; −∞ of those that are done with."""
    branches, relus, lines = hints.branches, enclosure.network.relus, enclosure.lines()
    assert branches is not None  # noqa: S101 - asked for where there are some
    places = [(relus[k], _places(own, lines[relus[k]].size)) for k, own in sorted(hints.neurons.items())]
    branches.checked(sum(len(own) for _, own in places), len(rows))
    bounds = np.full(len(branches.margins), -np.inf)
    asked = np.flatnonzero(~done[branches.margins])
    for begin in range(0, len(asked), TOGETHER):
        part = asked[begin : begin + TOGETHER]
        own, whose = _on_leaves(branches, part, places, lines), branches.margins[part]
        bound = enclosure.least(len(enclosure.network.operations) - 1, rows[whose], own) - thresholds[whose]
        bounds[part] = np.nan_to_num(bound, nan=-np.inf, posinf=-np.inf)
    return np.array([-np.inf if done[m] else branches.least(m, bounds) for m in range(len(rows))])


def _on_leaves(
    branches: Branches, leaves: Array, places: list[tuple[int, Array]], lines: Mapping[int, Lines]
) -> dict[int, Lines]:
    """Return the lines of some leaves: exact where a literal gives the sign, with the multipliers of literals."""
    count = sum(len(own) for _, own in places)
    signs, multipliers = np.zeros((len(leaves), count)), np.zeros((len(leaves), count))
    for row, leaf in enumerate(leaves.tolist()):
        literals = branches.of(leaf)
        # Of a neuron that stands twice the last literal counts, sign and multiplier: each holds on the leaf.
        signs[row, np.abs(literals) - 1] = np.sign(literals)
        multipliers[row, np.abs(literals) - 1] = branches.multipliers[branches.ends[leaf] : branches.ends[leaf + 1]]
    slopes, begin, made = branches.slopes[leaves] / STEPS, 0, dict(lines)
    for i, own in places:
        columns = slice(begin, begin + len(own))
        begin += len(own)
        sign, given = signs[:, columns], signs[:, columns] != 0
        base = lines[i]
        alpha, slope, above, pushed = (
            np.broadcast_to(0.0 if part is None else part, (len(leaves), base.size)).copy()
            for part in (base.alpha, base.slope, base.above, None)
        )
        open_ = base.above[own] > 0
        alpha[:, own] = np.where(given, sign > 0, np.where(open_, slopes[:, columns], alpha[:, own]))
        slope[:, own] = np.where(given, sign > 0, slope[:, own])
        above[:, own] = np.where(given, 0.0, above[:, own])
        pushed[:, own] = multipliers[:, columns] * sign
        made[i] = Lines(alpha, slope, above, pushed)
    return made


def differences(label: int, classes: int) -> Values:
    """Return e_y − e_j for every j ≠ y."""
    if not (type(label) is int and 0 <= label < classes):
        raise Refused(f"{label!r:.20} is no class of {classes}")
    unit = np.eye(classes)
    rows: Values = unit[label] - np.delete(unit, label, axis=0)
    return rows


def enclosed(network: Network, region: Region, unit: float, hints: Hints) -> Enclosure:
    """Return the bounds of all operations, as hints say."""
    readers = {network.operations[i].parents[0]: k for k, i in reversed([*enumerate(network.relus)])}
    enclosure = Enclosure(network, region, unit)
    for i in range(1, len(network.operations)):
        enclosure.step()
        if hints.bounded and i in readers:
            _bound(enclosure, i, readers[i], hints)
    return enclosure


def _bound(enclosure: Enclosure, i: int, place: int, hints: Hints) -> None:
    """Tighten the bounds of operation i, what ReLU `place` reads, where a sign is open, by functionals of their own."""
    low, high = enclosure.lower[i].copy(), enclosure.upper[i].copy()
    open_ = (low < 0) & (high > 0)
    own = _places(hints.rows.get(place, np.zeros(0, np.int32)), len(low))
    rest = open_.copy()
    rest[own] = False
    # All that this layer reads is final, so that its neurons do not wait for one another.
    lines, count = enclosure.lines(), len(own)
    for chosen, bent in ((own, hints.bent.get(place, {})), (np.flatnonzero(rest), {})):
        # Neurons at one place of a grid read the same window.
        order = np.argsort(chosen % enclosure.network.operations[i].plane, kind="stable")
        for begin in range(0, len(chosen), TOGETHER):
            part = order[begin : begin + TOGETHER]
            slopes = {j: steps[np.r_[part, part + count]] for j, steps in bent.items()}
            unit = np.zeros((len(part), len(low)))
            unit[np.arange(len(part)), chosen[part]] = 1.0
            both = hints.lines(lines, enclosure.network.relus, slopes, 2 * len(part))
            least = enclosure.least(i, np.concatenate([unit, -unit]), both)
            low[chosen[part]], high[chosen[part]] = least[: len(part)], -least[len(part) :]
    enclosure.meet(i, np.nan_to_num(low, nan=-np.inf), np.nan_to_num(high, nan=np.inf))


def _places(rows: Array, size: int) -> Array:
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise Refused("a hint of neurons is no list of their places")
    if not _within(rows, 0, size) or len(np.unique(rows)) < len(rows):
        raise Refused("a hint is of a neuron that there is not, or twice of one")
    return rows


def _within(numbers: Array, least: int, beyond: int) -> bool:
    return not len(numbers) or (int(numbers.min()) >= least and int(numbers.max()) < beyond)
