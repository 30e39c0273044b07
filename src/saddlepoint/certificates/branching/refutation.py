"""From loose and cheap to exact: intervals, CROWN, α-CROWN, branch and bound; what is refuted is dropped on the way.

A disjunct is a conjunction of linear constraints on the output that no input may meet: its largest violation has to be
positive everywhere.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from saddlepoint.certificates import bounds, crown, intermediate
from saddlepoint.certificates.branching.boxes import Halvings, split_boxes
from saddlepoint.certificates.branching.conjunctions import violations
from saddlepoint.certificates.branching.neurons import Neurons
from saddlepoint.certificates.branching.rounds import branch
from saddlepoint.certificates.branching.splitting import Look, Rows, Searched, Targets, minimiser
from saddlepoint.certificates.effort import Effort
from saddlepoint.certificates.evidence import hints_of
from saddlepoint.certificates.functionals import Dense
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.sets import Box
from saddlepoint.certificates.slopes import ascend, start
from saddlepoint_audit.proofs import Hints

FEW = 20
"""Inputs up to which the box itself is halved: halving all of them then makes small boxes soon."""
_NEURON_STEPS, _ROOT_STEPS = 5, 20
"""Steps of ascent for the slopes of each neuron's bounds, and of each target's."""


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
        hints: from which an audit finds the bounds again, if they were to be kept; None where the box was halved, or
            neurons were bounded by a search of their own.
        halvings: how the box was halved, of the disjuncts that were open then.
    """

    least: tuple[float, ...]
    domains: int
    method: str
    falsified: bool = False
    expired: bool = False
    hints: Hints | None = None
    halvings: Halvings | None = None

    @property
    def proven(self) -> bool:
        """Whether all are refuted."""
        return all(least > 0 for least in self.least)


def refute(
    graphs: tuple[Graph, Graph],
    region: Box,
    disjuncts: Sequence[Targets],
    effort: Effort,
    look: Look,
    *,
    keep: bool = False,
) -> Refuted:
    """Refute each disjunct over a box, or find a point that meets one.

    Args:
        graphs: of the network, in float32 and in float64.
        region: the box, one set.
        disjuncts: the constraints ⟨r, y⟩ ≤ t of each, which must not all hold anywhere.
        effort: memory, domains, and the time after which nothing more is tried.
        look: for counterexamples: a `Look` whose targets are the disjuncts.
        keep: whether to return hints.
    """
    if not all(len(own.thresholds) for own in disjuncts):  # a conjunction of nothing holds everywhere
        return Refuted((-math.inf,) * len(disjuncts), 0, "none")
    state, method = _State(*_single(graphs, disjuncts), region, effort, keep), "none"
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


def _single(graphs: tuple[Graph, Graph], disjuncts: Sequence[Targets]) -> tuple[tuple[Graph, Graph], Targets]:
    """Return graphs and one target for each disjunct: its constraint, or the largest violation of several."""
    if all(len(own.thresholds) == 1 for own in disjuncts):
        rows, thresholds = ([getattr(own, name) for own in disjuncts] for name in ("rows", "thresholds"))
        return graphs, Targets(torch.cat(rows), torch.cat(thresholds))
    first, second = (violations(graph, disjuncts, graphs[0].dtype) for graph in graphs)
    count = len(disjuncts)
    return (first, second), Targets(torch.eye(count, dtype=first.dtype), torch.zeros(count, dtype=torch.float64))


@final
class _State:
    """What is known of one box so far."""

    def __init__(self, graphs: tuple[Graph, Graph], targets: Targets, region: Box, effort: Effort, keep: bool) -> None:
        self.graphs, self.targets, self.region, self.effort = graphs, targets, region, effort
        count = len(targets.thresholds)
        self.known: bounds.Bounds = ()
        self.least = torch.full((count,), -math.inf, dtype=torch.float64)
        self.slope = torch.zeros(count, *graphs[0].shape, dtype=graphs[0].dtype)
        self.alphas: dict[int, Tensor] = {}
        self.keep = keep
        self.own: intermediate.Neurons | None = None

    @property
    def neurons(self) -> Neurons:
        """Of the bounds that are known."""
        return Neurons(self.graphs[0], self.region, self.known)

    @property
    def rows(self) -> Tensor:
        """The disjuncts that are open."""
        return (~(self.least > 0)).nonzero().squeeze(1)

    @property
    def open(self) -> bool:
        """Whether a disjunct is."""
        return bool(len(self.rows))

    def among(self, rows: Tensor) -> Targets:
        """Return some of the targets."""
        return Targets(self.targets.rows[rows], self.targets.thresholds[rows])

    def raise_(self, rows: Tensor, functional: crown.Functional) -> None:
        """Take better bounds of some disjuncts, and the functionals of the input that they rest on."""
        least = functional.least(self.region).reshape(-1).double() - self.targets.thresholds[rows]
        slope = functional.slope(self.graphs[0]).reshape(len(rows), *self.graphs[0].shape)
        better = least > self.least[rows]  # NaN is never better
        self.least[rows[better]], self.slope[rows[better]] = least[better], slope[better].to(self.slope)

    def refuted(self, method: str, domains: int) -> Refuted:
        """Return what is known."""
        return Refuted(tuple(self.least.tolist()), domains, method, expired=self.effort.over, hints=self.hints(None))

    def hints(self, refuted: Rows | None) -> Hints | None:
        """Return what the bounds rest on."""
        return hints_of(self.graphs[0], self.known, self.own, self.alphas, refuted) if self.keep else None

    def ended(self, method: str, rows: Tensor, search: Searched) -> Refuted:
        """Return what is known after a search that refuted some disjuncts together."""
        self.least[rows] = self.least[rows].clamp(min=search.least)
        known = self.refuted(method, search.domains)
        parts = search.refuted
        hints = None if parts is None else self.hints(replace(parts, target=rows[parts.target]))
        return replace(known, falsified=search.falsified, expired=search.expired, hints=hints)


@torch.no_grad()
def _intervals(state: _State) -> None:
    graph = state.graphs[0]
    state.known = bounds.interval(graph, state.region, graph.dtype)
    _propagate(state, crown.flat(graph, state.neurons.ranges))


@torch.no_grad()
def _lines(state: _State) -> None:
    graph = state.graphs[0]
    state.known = bounds.crown(graph, state.region, graph.dtype, known=state.known, effort=state.effort)
    state.own = {}
    _propagate(state, crown.relax(graph, state.neurons.ranges))


def _propagate(state: _State, lines: crown.Relaxation) -> None:
    graph, rows = state.graphs[0], state.rows
    functionals = Dense(state.targets.rows[rows].unsqueeze(0))
    state.raise_(rows, crown.backward(graph, lines, len(graph.nodes) - 1, functionals, rounding=state.neurons.lost))


def _slopes(state: _State) -> None:
    """Tighten the neurons' bounds by slopes of their own, then those of the disjuncts."""
    graph, effort = state.graphs[0], state.effort
    state.known, state.own = intermediate.tightened(
        graph, state.region, state.known, _NEURON_STEPS, effort, keep=state.keep
    )
    rows, neurons = state.rows, state.neurons
    own = Dense(state.targets.rows[rows].unsqueeze(1))
    thresholds = state.targets.thresholds[rows]

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
    rows = state.rows
    slopes, least = {i: alpha[rows] for i, alpha in state.alphas.items()}, state.least[rows]
    targets, own = state.among(rows), _renamed(look, rows)
    ended = branch(state.graphs, state.region, state.known, targets, least, slopes, state.effort, own, keep=state.keep)
    return state.ended("branch-and-bound", rows, ended)


def _by_boxes(state: "_State", look: Look) -> Refuted:
    """Halve the box until nothing is open."""
    rows = state.rows
    halvings = Halvings() if state.keep else None
    own = _renamed(look, rows)
    ended = split_boxes(state.graphs[0], state.region, state.among(rows), state.effort, own, halvings)
    kept = None if halvings is None else halvings.among(rows, len(state.least))
    return replace(state.ended("input-splitting", rows, ended), halvings=kept)


def _renamed(look: Look, rows: Tensor) -> Look:
    """Return what looks for counterexamples of some targets, told their places among all."""
    return lambda points, targets: look(points, rows[targets])


_STAGES: tuple[tuple[str, Callable[[_State], None]], ...] = (
    ("interval", _intervals),
    ("crown", _lines),
    ("alpha-crown", _slopes),
)
