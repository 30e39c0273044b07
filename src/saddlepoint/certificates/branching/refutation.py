"""From loose and cheap to exact: intervals, CROWN, α-CROWN, branch and bound; what is refuted is dropped on the way.

A disjunct is a conjunction of linear constraints on the output that no input may meet, and is refuted by one of them
that is violated everywhere.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from saddlepoint.certificates import bounds, crown, intermediate
from saddlepoint.certificates.branching.boxes import split_boxes
from saddlepoint.certificates.branching.neurons import Neurons
from saddlepoint.certificates.branching.rounds import branch
from saddlepoint.certificates.branching.splitting import Look, Searched, Targets, minimiser
from saddlepoint.certificates.effort import Effort
from saddlepoint.certificates.functionals import Dense
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.sets import Box
from saddlepoint.certificates.slopes import ascend, start

FEW = 20
"""Inputs up to which the box itself is halved: halving all of them then makes small boxes soon."""
_NEURON_STEPS, _ROOT_STEPS = 5, 20
"""Steps of ascent for the slopes of each neuron's bounds, and of each target's."""


@final
@dataclass(frozen=True, eq=False)
class Disjuncts:
    """D conjunctions of constraints ⟨r, y⟩ ≤ t on the output, T constraints in all.

    Attributes:
        targets: r and t: a constraint is violated where ⟨r, y⟩ > t.
        of: which conjunction each belongs to, (T,).
        count: D.
    """

    targets: Targets
    of: Tensor
    count: int


@final
@dataclass(frozen=True, slots=True)
class Refuted:
    """What became of D disjuncts over one box.

    Attributes:
        least: the proven least violation of each, D of them: positive if no input of the box meets it.
        domains: how many parts of the box were bounded by branch and bound.
        method: the last that was needed.
        falsified: whether a counterexample was found.
        expired: whether time ended it.
    """

    least: tuple[float, ...]
    domains: int
    method: str
    falsified: bool = False
    expired: bool = False

    @property
    def proven(self) -> bool:
        """Whether all are refuted."""
        return all(least > 0 for least in self.least)


def refute(graphs: tuple[Graph, Graph], region: Box, disjuncts: Disjuncts, effort: Effort, look: Look) -> Refuted:
    """Refute each disjunct over a box, or find a point that meets one.

    Args:
        graphs: of the network, in float32 and in float64.
        region: the box, one set.
        disjuncts: what must not hold anywhere.
        effort: memory, domains, and the time after which nothing more is tried.
        look: for counterexamples; see `Look`.
    """
    state, method = _State(graphs, region, disjuncts, effort), "none"
    few = region.lower.numel() <= FEW
    # Of few inputs, halves of the box cost less than slopes for the whole of it.
    for name, stage in _STAGES[: 2 if few else None]:
        if not state.open or effort.over:
            return state.refuted(method, 0)
        stage(state)
        method, points = name, minimiser(state.neurons, state.slope)
        if state.open and look(points[state.rows], state.rows):
            return replace(state.refuted(method, 0), falsified=True)
    # Without an open sign the network is linear there, its bound exact but for rounding: nothing to split.
    if not state.open or effort.over or not state.neurons.count:
        return state.refuted(method, 0)
    return (_by_boxes if few else _by_signs)(state, look)


@final
class _State:
    """What is known of one box so far."""

    def __init__(self, graphs: tuple[Graph, Graph], region: Box, disjuncts: Disjuncts, effort: Effort) -> None:
        self.graphs, self.region, self.disjuncts, self.effort = graphs, region, disjuncts, effort
        count = len(disjuncts.of)
        self.known: bounds.Bounds = ()
        self.least = torch.full((count,), -math.inf, dtype=torch.float64)
        self.slope = torch.zeros(count, *graphs[0].shape, dtype=graphs[0].dtype)
        self.alphas: dict[int, Tensor] = {}

    @property
    def neurons(self) -> Neurons:
        """Of the bounds that are known."""
        return Neurons(self.graphs[0], self.region, self.known)

    @property
    def worst(self) -> Tensor:
        """The best bound of any constraint of each disjunct, (D,)."""
        empty = torch.full((self.disjuncts.count,), -math.inf, dtype=torch.float64)
        return empty.scatter_reduce(0, self.disjuncts.of, self.least, "amax")

    @property
    def rows(self) -> Tensor:
        """The constraints of the disjuncts that are open."""
        return (~(self.worst > 0))[self.disjuncts.of].nonzero().squeeze(1)

    @property
    def open(self) -> bool:
        """Whether a disjunct is."""
        return bool(len(self.rows))

    def raise_(self, rows: Tensor, functional: crown.Functional) -> None:
        """Take better bounds of some constraints, and the functionals of the input that they rest on."""
        least = functional.least(self.region).reshape(-1).double() - self.disjuncts.targets.thresholds[rows]
        slope = functional.slope(self.graphs[0]).reshape(len(rows), *self.graphs[0].shape)
        better = least > self.least[rows]  # NaN is never better
        self.least[rows[better]], self.slope[rows[better]] = least[better], slope[better].to(self.slope)

    def refuted(self, method: str, domains: int) -> Refuted:
        """Return what is known."""
        return Refuted(tuple(self.worst.tolist()), domains, method, expired=self.effort.over)

    def ended(self, method: str, rows: Tensor, search: Searched) -> Refuted:
        """Return what is known after a search that refuted some constraints, or their disjuncts, together."""
        self.least[rows] = self.least[rows].clamp(min=search.least)
        known = self.refuted(method, search.domains)
        return replace(known, falsified=search.falsified, expired=search.expired)

    @property
    def nearest(self) -> Tensor:
        """The constraint that has the best bound of each open disjunct."""
        worst, rows = self.worst, self.rows
        best = {int(self.disjuncts.of[row]): row for row in rows if self.least[row] == worst[self.disjuncts.of[row]]}
        return torch.stack(list(best.values())) if best else rows


@torch.no_grad()
def _intervals(state: _State) -> None:
    graph = state.graphs[0]
    state.known = bounds.interval(graph, state.region, graph.dtype)
    _propagate(state, crown.flat(graph, state.neurons.ranges))


@torch.no_grad()
def _lines(state: _State) -> None:
    graph = state.graphs[0]
    state.known = bounds.crown(graph, state.region, graph.dtype, known=state.known, effort=state.effort)
    _propagate(state, crown.relax(graph, state.neurons.ranges))


def _propagate(state: _State, lines: crown.Relaxation) -> None:
    graph, rows = state.graphs[0], state.rows
    functionals = Dense(state.disjuncts.targets.rows[rows].unsqueeze(0))
    state.raise_(rows, crown.backward(graph, lines, len(graph.nodes) - 1, functionals, rounding=state.neurons.lost))


def _slopes(state: _State) -> None:
    """Tighten the neurons' bounds by slopes of their own, then those of the constraints."""
    graph, effort = state.graphs[0], state.effort
    state.known, _ = intermediate.tightened(graph, state.region, state.known, _NEURON_STEPS, effort)
    rows, neurons = state.rows, state.neurons
    own = Dense(state.disjuncts.targets.rows[rows].unsqueeze(1))
    thresholds = state.disjuncts.targets.thresholds[rows]

    def bounded(slopes: object, rounding: crown.Sizes | None = None) -> crown.Functional:
        lines = crown.relax(graph, neurons.ranges, slopes)  # type: ignore[arg-type]
        return crown.backward(graph, lines, len(graph.nodes) - 1, own, rounding=rounding)

    stop: Callable[[Tensor], bool] = lambda best: effort.over or bool((best > 0).all())  # noqa: E731
    value: Callable[[object], Tensor] = lambda slopes: bounded(slopes).least(state.region).squeeze(1) - thresholds  # noqa: E731
    best = ascend(graph, value, start(graph, neurons.ranges, len(rows)), _ROOT_STEPS, stop=stop)
    with torch.no_grad():
        state.raise_(rows, bounded(best, neurons.lost))
    whole = start(graph, neurons.ranges, len(state.least))
    state.alphas = {i: slope.index_copy(0, rows, best[i]) for i, slope in whole.items()}


def _by_signs(state: "_State", look: Look) -> Refuted:
    """Split what is open at the signs of neurons."""
    rows, whole = state.nearest, state.disjuncts.targets
    targets = Targets(whole.rows[rows], whole.thresholds[rows])
    slopes = {i: alpha[rows] for i, alpha in state.alphas.items()}
    least = state.least[rows]
    ended = branch(state.graphs, state.region, state.known, targets, least, slopes, state.effort, _renamed(look, rows))
    return state.ended("branch-and-bound", rows, ended)


def _by_boxes(state: "_State", look: Look) -> Refuted:
    """Halve the box until nothing is open."""
    rows, whole = state.rows, state.disjuncts
    _, of = whole.of[rows].unique(return_inverse=True)  # type: ignore[no-untyped-call]
    targets = Targets(whole.targets.rows[rows], whole.targets.thresholds[rows])
    count = int(of.max()) + 1
    ended = split_boxes(state.graphs[0], state.region, targets, of, count, state.effort, _renamed(look, rows))
    return state.ended("input-splitting", rows, ended)


def _renamed(look: Look, rows: Tensor) -> Look:
    """Return what looks for counterexamples of some targets, told their places among all."""
    return lambda points, targets: look(points, rows[targets])


_STAGES: tuple[tuple[str, Callable[[_State], None]], ...] = (
    ("interval", _intervals),
    ("crown", _lines),
    ("alpha-crown", _slopes),
)
