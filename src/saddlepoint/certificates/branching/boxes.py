"""Branch and bound over the input itself: for networks of few inputs, thousands of boxes at once.

Each box is bounded by CROWN. What is left of it is cut by the bound's own form: a point that meets the constraint
⟨r, h(x)⟩ ≤ t lies where its lower bound ⟨a, x⟩ + c ≤ t does, and that half-space narrows every side of the box
(Zhou et al. 2025, "Clip-and-Verify"). The rest is halved where the form changes most.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional

from saddlepoint.certificates import bounds, crown
from saddlepoint.certificates.branching.splitting import Look, Searched, Targets
from saddlepoint.certificates.effort import Effort
from saddlepoint.certificates.functionals import Dense
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.lines import Lines
from saddlepoint.certificates.lipschitz import steepness
from saddlepoint.certificates.rounding import outward
from saddlepoint.certificates.sets import Box
from saddlepoint.certificates.slopes import Slopes, ascend

BATCH = 1024
"""Boxes that are bounded together."""
_STEPS = 5
"""Of ascent for the slopes of each target's bound on each box."""
_SMALLEST = 2.0**-30
"""The share of every side below which a box that is still open is given up: its bound stays within rounding of 0."""
_CLIPS = 2
"""Times that a box is narrowed by its forms: the second finds what the first made possible."""


@final
@dataclass(frozen=True, eq=False)
class Forms:
    """What is known of N boxes and T targets.

    Attributes:
        least: the proven least value of each target, less its threshold, (N, T), float64.
        slope: a, the linear lower bound's, (N, T, n), float64.
        constant: c − t, rounded down, (N, T), float64.
    """

    least: Tensor
    slope: Tensor
    constant: Tensor

    def take(self, rows: Tensor) -> "Forms":
        """Return those of some boxes."""
        return Forms(self.least[rows], self.slope[rows], self.constant[rows])


@final
@dataclass(eq=False)
class Halvings:
    """How a box was split: of each part, its slopes and its halves.

    Attributes:
        slopes: α of each target, by the activation's position, (T, *shape); of no target that default ones refute.
        halved: the side, and the numbers of both halves; not of a part of which nothing was left.
    """

    slopes: dict[int, Slopes] = field(default_factory=dict)
    halved: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def among(self, rows: Tensor, count: int) -> "Halvings":
        """Return the same with slopes of all `count` targets, of which these are `rows`."""

        def wide(slopes: Slopes) -> Slopes:
            return {i: s.new_zeros(count, *s.shape[1:]).index_copy(0, rows, s) for i, s in slopes.items()}

        return Halvings({number: wide(slopes) for number, slopes in self.slopes.items()}, self.halved)

    def take(self, halves: "Boxes", parents: Tensor, sides: Tensor) -> None:
        """Note how parts were halved: all lower halves, then all upper ones."""
        lower, upper = halves.numbers.chunk(2)
        whole = zip(*(column.tolist() for column in (parents, sides, lower, upper)), strict=True)
        self.halved |= {parent: (side, low, high) for parent, side, low, high in whole}


def split_boxes(
    graph: Graph, region: Box, targets: Targets, effort: Effort, look: Look, halvings: Halvings | None = None
) -> Searched:
    """Halve boxes until every target is positive on each, a counterexample is found, or the effort is spent.

    Args:
        graph: of the network.
        region: the box, one set.
        targets: what has to be positive, in the graph's type.
        effort: whose deadline and number of domains, here boxes, end the search.
        look: for counterexamples.
        halvings: where to note how the box was split.
    """
    boxes, widths = Boxes.of(graph, region), (region.upper - region.lower).flatten(1)
    done, rounds, took, least, made = 0, 0, 0.0, math.inf, 1
    while len(boxes):
        began = time.monotonic()
        if effort.left <= took or done >= effort.domains:
            return Searched(-math.inf, done, expired=effort.left <= took)
        # The last are the smallest: depth first keeps few boxes open.
        own, boxes = boxes.take(slice(-BATCH, None)), boxes.take(slice(None, -BATCH))
        own, forms, slopes = _bounded(graph, targets, own)
        if halvings is not None:
            halvings.slopes |= slopes.by_box(own.numbers, len(targets.thresholds))
        live = ~(forms.least > 0)  # NaN is open
        open_ = live.any(1)
        least = min([least, *forms.least[~open_].amin(1).tolist()])
        done += len(own)
        if bool(open_.any()):
            own, forms, live = own.take(open_), forms.take(open_), live[open_]
            if _met(graph, targets, forms, live, own, look, rounds):
                return Searched(-math.inf, done, falsified=True)
            if bool(((own.high - own.low) <= _SMALLEST * widths).all(1).any()):
                return Searched(-math.inf, done)
            halves, sides = _halved(graph, targets, live, _clipped(forms, live, own))
            parents = halves.numbers[: len(sides)]
            halves = replace(halves, numbers=made + torch.arange(len(halves)))
            if halvings is not None:
                halvings.take(halves, parents, sides)
            made, boxes = made + len(halves), boxes.joined(halves)
        rounds, took = rounds + 1, time.monotonic() - began
    return Searched(least, done)


@final
@dataclass(frozen=True, eq=False)
class Boxes:
    """N boxes of n inputs, and what is known of the neurons on them.

    Attributes:
        low: (N, n), float64.
        high: likewise.
        known: by the position of each node that an activation reads, its bounds, (N, *shape): of a box that held this
            one, so that a neuron whose sign is given there needs no new bound.
        numbers: what they are called, (N,).
    """

    low: Tensor
    high: Tensor
    known: Mapping[int, tuple[Tensor, Tensor]]
    numbers: Tensor

    @staticmethod
    def of(graph: Graph, region: Box) -> "Boxes":
        """Return one box of which nothing is known."""
        some = torch.full((1,), torch.inf, dtype=graph.dtype)
        ends = {
            i: some.reshape(1, *(1 for _ in graph.nodes[i].shape)).expand(1, *graph.nodes[i].shape)
            for i in graph.inputs
        }
        known = {i: (-end, end) for i, end in ends.items()}
        return Boxes(region.lower.flatten(1), region.upper.flatten(1), known, torch.zeros(1, dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.low)

    def take(self, rows: Tensor | slice) -> "Boxes":
        """Return some of them."""
        known = {i: (a[rows], b[rows]) for i, (a, b) in self.known.items()}
        return Boxes(self.low[rows], self.high[rows], known, self.numbers[rows])

    def joined(self, other: "Boxes") -> "Boxes":
        """Return these and others."""
        known = {i: tuple(map(torch.cat, zip(both, other.known[i], strict=True))) for i, both in self.known.items()}
        low, high = torch.cat([self.low, other.low]), torch.cat([self.high, other.high])
        return Boxes(low, high, known, torch.cat([self.numbers, other.numbers]))  # type: ignore[arg-type]

    def region(self, graph: Graph) -> Box:
        """Return them as sets of inputs."""
        return Box(self.low.reshape(-1, *graph.shape), self.high.reshape(-1, *graph.shape))


@torch.no_grad()
def _bounded(graph: Graph, targets: Targets, boxes: Boxes) -> tuple[Boxes, Forms, "_Ascended"]:
    """Bound every neuron and every target on every box by CROWN."""
    region = boxes.region(graph)
    known, lines = _ranges(graph, region, boxes.known)
    rows = Dense(targets.rows.unsqueeze(0).expand(len(boxes), *targets.rows.shape))
    form = crown.backward(graph, lines, len(graph.nodes) - 1, rows, rounding=bounds.sizes(graph, known))
    constant = _sure(form, targets.thresholds)
    forms = Forms(form.least(region).double() - targets.thresholds, form.slope(graph).flatten(2).double(), constant)
    with torch.enable_grad():
        slopes = _ascended(graph, targets, region, known, forms)
    return replace(boxes, known={i: known[i] for i in graph.inputs}), forms, slopes


@final
@dataclass(frozen=True, eq=False)
class _Ascended:
    """Slopes of P pairs of a box and a target, by the activation's position, (P, *shape)."""

    box: Tensor
    target: Tensor
    slopes: Slopes

    def by_box(self, numbers: Tensor, count: int) -> dict[int, Slopes]:
        """Return the slopes of all targets of each box that has some; 0 of those that need none."""
        made: dict[int, Slopes] = {}
        for box in self.box.unique().tolist():  # type: ignore[no-untyped-call]
            own = self.box == box
            whole = {i: slope.new_zeros(count, *slope.shape[1:]) for i, slope in self.slopes.items()}
            made[int(numbers[box])] = {
                i: zeros.index_copy(0, self.target[own], self.slopes[i][own]) for i, zeros in whole.items()
            }
        return made


def _ascended(graph: Graph, targets: Targets, region: Box, known: bounds.Bounds, forms: Forms) -> _Ascended:
    """Raise the open bounds by slopes of their own: few functionals, beside those of the neurons."""
    pairs = (~(forms.least > 0)).nonzero()
    box, target = pairs.unbind(1)
    if not len(pairs):
        return _Ascended(box, target, {})
    there = Box(region.lower[box], region.upper[box])
    ranges = {i: (low[box], high[box]) for i, (low, high) in crown.ranges(graph, known).items()}
    rows, thresholds = Dense(targets.rows[target].unsqueeze(1)), targets.thresholds[target]
    lost = _Of(bounds.sizes(graph, known), box)

    def bounded(slopes: Slopes, rounding: crown.Sizes | None = None) -> crown.Functional:
        return crown.backward(graph, crown.relax(graph, ranges, slopes), len(graph.nodes) - 1, rows, rounding=rounding)

    begin = {i: graph.activation(i).start(*both) for i, both in ranges.items()}
    value = lambda slopes: bounded(slopes).least(there).squeeze(1) - thresholds  # noqa: E731
    best = ascend(graph, value, begin, _STEPS, stop=lambda least: bool((least > 0).all()))
    with torch.no_grad():
        form = bounded(best, lost)
        least = form.least(there).squeeze(1).double() - thresholds
        better = least > forms.least[box, target]
        at = box[better], target[better]
        forms.least[at] = least[better]
        forms.slope[at] = form.slope(graph).flatten(1)[better].double()
        forms.constant[at] = _sure(form, thresholds[:, None]).squeeze(1)[better]
    return _Ascended(box, target, best)


def _ranges(
    graph: Graph, region: Box, before: Mapping[int, tuple[Tensor, Tensor]]
) -> tuple[bounds.Bounds, dict[int, Lines]]:
    """Return bounds of every node by CROWN, on each box of those neurons alone whose sign is open there, and lines."""
    known, lines = [outward(region.lower, region.upper, graph.dtype)], dict[int, Lines]()
    for i in range(1, len(graph.nodes)):
        bound = bounds.step(graph, known, i)
        if i in graph.inputs:
            bound = bounds.meet(bound, before[i])
            if not graph.linear_input(i):
                for sign in (-1, 1):  # upper bounds first: neurons that they show to be inactive need no lower ones
                    bound = _tightened(graph, region, [*known, bound], lines, sign)
        known.append(bound)
        if i in graph.activations:
            lines |= crown.relax(graph, {i: known[graph.nodes[i].parents[0]]})
    return tuple(known), lines


def _tightened(
    graph: Graph, region: Box, known: list[tuple[Tensor, Tensor]], lines: Mapping[int, Lines], sign: int
) -> tuple[Tensor, Tensor]:
    """Return the bounds of the last node, tightened from one side: each pair of box and open neuron is a set."""
    position, (lower, upper) = len(known) - 1, known[-1]
    pairs = graph.loose(position, lower, upper).flatten(1).nonzero()
    if not len(pairs):
        return lower, upper
    box, neuron = pairs.unbind(1)
    own = {i: _of(line, box) for i, line in lines.items()}
    lost = _Of(bounds.sizes(graph.until(position), tuple(known)), box)
    unit = sign * functional.one_hot(neuron, graph.nodes[position].size).to(lower)
    start = Dense(unit.reshape(len(box), 1, *graph.nodes[position].shape))
    there = Box(region.lower[box], region.upper[box])
    least = crown.backward(graph, own, position, start, rounding=lost).least(there).squeeze(1)
    rounded, _ = outward(least, least, lower.dtype)
    side = (lower if sign > 0 else -upper).flatten(1).clone()
    side[box, neuron] = torch.maximum(side[box, neuron], rounded)
    return (side.view_as(lower), upper) if sign > 0 else (lower, -side.view_as(upper))


def _of(lines: Lines, box: Tensor) -> Lines:
    """Return the lines on some boxes."""
    parts = (lines.lower_slope, lines.lower_intercept, lines.upper_slope, lines.upper_intercept)
    below, shift, above, rise = (None if part is None else part[box] for part in parts)
    assert rise is not None  # noqa: S101 - every line has one
    return Lines(below, shift, above, rise)


@final
@dataclass(frozen=True, eq=False)
class _Of(Sequence[crown.Lost | None]):
    """The allowances for rounding on some boxes."""

    sizes: crown.Sizes
    box: Tensor

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, i: Any) -> Any:  # noqa: ANN401 - of a sequence
        lost = self.sizes[i]
        return None if lost is None else crown.Lost(lost.rate[self.box], lost.floor[self.box])


def _sure(form: crown.Functional, thresholds: Tensor) -> Tensor:
    """Return the constant of a form less what rounding may have added and less the threshold, rounded down."""
    constant = form.constant.double()
    size = constant.abs() + form.lost + thresholds.abs()
    return constant - form.lost - thresholds - 4 * torch.finfo(torch.float64).eps * size


def _clipped(forms: Forms, live: Tensor, boxes: Boxes) -> Boxes:
    """Return the boxes without what the forms refute, rounded outward.

    Each open target narrows the box to where it may be 0 or less; the union of what is left for each is enclosed.
    """
    a, c, n = forms.slope, forms.constant, boxes.low.shape[1]
    # A form that is no number says nothing: without slopes, it cuts nothing off.
    a = torch.where((a.isfinite().all(2) & c.isfinite())[:, :, None], a, 0.0)
    low, high = (side.unsqueeze(1).expand_as(a) for side in (boxes.low, boxes.high))
    for _ in range(_CLIPS):
        least = torch.where(a > 0, a * low, a * high)
        # ⟨a, x⟩ + c ≤ 0 with every other coordinate at its best; rounding widens what is left.
        rest = least.sum(2, keepdim=True) - least + c[:, :, None]
        size = least.abs().sum(2, keepdim=True) + c.abs()[:, :, None]
        limit = (-rest + 4 * (n + 4) * torch.finfo(torch.float64).eps * size) / torch.where(a == 0, 1.0, a)
        slack = 8 * torch.finfo(torch.float64).eps * limit.abs()
        high = torch.where(a > 0, torch.minimum(high, limit + slack), high)
        low = torch.where(a < 0, torch.maximum(low, limit - slack), low)
    open_ = live & (low <= high).all(2)
    low = low.masked_fill(~open_[:, :, None], torch.inf).amin(1)
    high = high.masked_fill(~open_[:, :, None], -torch.inf).amax(1)
    return replace(boxes, low=torch.maximum(low, boxes.low), high=torch.minimum(high, boxes.high))


@torch.no_grad()
def _halved(graph: Graph, targets: Targets, live: Tensor, boxes: Boxes) -> tuple[Boxes, Tensor]:
    """Return both halves of the boxes that are not empty, cut where the targets can change most, and at which side."""
    there = (boxes.low <= boxes.high).all(1)
    own, live = boxes.take(there), live[there]
    box, target = live.nonzero(as_tuple=True)
    ranges = {i: (low[box], high[box]) for i, (low, high) in own.known.items()}
    steep = steepness(graph, ranges, targets.rows[target]).flatten(1).double().nan_to_num(nan=0.0, posinf=1e300)
    change = torch.zeros_like(own.low).scatter_reduce(0, box[:, None].expand_as(steep), steep, "amax") + _TINY
    axis = (change * (own.high - own.low)).argmax(1, keepdim=True)
    middle = (own.low.gather(1, axis) + own.high.gather(1, axis)) / 2
    below, above = (
        replace(own, high=own.high.scatter(1, axis, middle)),
        replace(own, low=own.low.scatter(1, axis, middle)),
    )
    return below.joined(above), axis.squeeze(1)


_TINY = 1e-6
"""So that a box whose forms are constant is still halved, at its widest side."""


@torch.no_grad()
def _met(
    graph: Graph,
    targets: Targets,
    forms: Forms,
    live: Tensor,
    boxes: Boxes,
    look: Callable[[Tensor, Tensor], bool],
    rounds: int,
) -> bool:
    """Look for a counterexample at minimisers of the open forms, and from the worst of them by descents."""
    where = torch.where(forms.slope > 0, boxes.low.unsqueeze(1), boxes.high.unsqueeze(1))
    box_of, target = live.nonzero(as_tuple=True)
    points = where[box_of, target].reshape(-1, *graph.shape)
    values = graph(points.to(graph.dtype)) @ targets.rows.flatten(1).T - targets.thresholds.to(graph.dtype)
    least, chosen = values.gather(1, target[:, None]).squeeze(1).nan_to_num(nan=-torch.inf).sort()
    if bool(least[0] <= 0) or (rounds & (rounds + 1)) == 0:
        some = chosen[:16]
        return look(points[some], target[some])
    return False
