"""The methods of `certify`, in one table, and the worst margins that each bounds from below.

A method is where ranges of neurons come from, and what raises the bounds of margins in turn: each step takes the bounds
so far and returns better ones. To add a method, write such a step and a line of `METHODS`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Literal, final

import torch
from torch import Tensor

from saddlepoint.certificates import bounds, crown, intermediate
from saddlepoint.certificates.bounds import Bounds
from saddlepoint.certificates.branching.neurons import Neurons
from saddlepoint.certificates.branching.rounds import branch
from saddlepoint.certificates.branching.splitting import Rows, Targets
from saddlepoint.certificates.crown import Functional, Relaxation, Sizes
from saddlepoint.certificates.effort import WHOLE, Effort
from saddlepoint.certificates.evidence import hints_of
from saddlepoint.certificates.functionals import Dense
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.lipschitz import steepness
from saddlepoint.certificates.milp import Bound, by_integers, by_lines, program
from saddlepoint.certificates.sets import Box, InputSet
from saddlepoint.certificates.slopes import Slopes, ascend, start
from saddlepoint.certificates.solver import Matrix
from saddlepoint.errors import InputError
from saddlepoint.geometry import Ball
from saddlepoint_audit.proofs import Hints

Name = Literal["interval", "crown-ibp", "crown", "alpha-crown", "complete", "lp", "milp", "lipschitz"]
"""The keys of `METHODS`, for type checkers."""

_OUTPUT_STEPS, _NEURON_STEPS = 20, 5
"""Steps of ascent for the slopes of each margin, and of each neuron's bounds: there are thousands of neurons, and few
margins, so that a step on a neuron costs hundreds of those on a margin."""


@final
@dataclass(frozen=True, eq=False)
class Worst:
    """Bounds of the worst margins of B sets.

    Attributes:
        least: proven lower bounds of min over each set of z_y − max_{j≠y} z_j, (B,), float64; −inf where none is.
        tolerance: what rounding took off them at most, (B,).
        slope: the functional of the input that each bound rests on, (B, *shape): 0 where it is constant.
        evidence: hints of one set, if they were asked for.
        domains: parts of one set that branch and bound has bounded.
    """

    least: Tensor
    tolerance: Tensor
    slope: Tensor
    evidence: Hints | None = None
    domains: int = 0


@final
@dataclass(frozen=True, eq=False)
class Problem:
    """The margins of B sets that are to be bounded.

    Attributes:
        graph: of the network.
        region: the B sets.
        known: bounds of every node over them.
        rows: e_y − e_j, (B, S, *shape of the output): margins as functionals of the logits.
        lost: sizes of every node, from which the allowance for rounding follows.
        effort: memory, time and domains that are left.
        double: the graph in float64, for what its own type leaves to rounding.
        keep: whether evidence is asked for.
    """

    graph: Graph
    region: InputSet
    known: Bounds
    rows: Tensor
    lost: Sizes
    effort: Effort
    double: Graph
    keep: bool = False

    @cached_property
    def ranges(self) -> Mapping[int, tuple[Tensor, Tensor]]:
        """The ranges that activations are relaxed over."""
        return crown.ranges(self.graph, self.known)

    def propagated(self, lines: Relaxation, rows: Tensor, lost: Sizes | None) -> Functional:
        """Return functionals of the input that bound functionals of the logits from below."""
        return crown.backward(self.graph, lines, len(self.graph.nodes) - 1, Dense(rows), rounding=lost)


Others = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""Bounds of some margins: which, (P,), what is proven, (B, P), what rounding took off, and the functionals of the
input, (B, P, *shape), if there are any."""


@final
@dataclass(frozen=True, eq=False)
class Margins:
    """Bounds of the S margins of B sets, and what they rest on.

    Attributes:
        least: what is proven, (B, S).
        plain: what it would be without the allowance for rounding, (B, S).
        slope: the functionals of the input, (B, S, *shape); shared memory where all are 0.
        slopes: of the relaxations that a search has chosen, for evidence.
        domains: parts that branch and bound has bounded.
        refuted: those that cover the set, for evidence; targets are margins.
    """

    least: Tensor
    plain: Tensor
    slope: Tensor
    slopes: Mapping[int, Tensor] = field(default_factory=dict)
    refuted: Rows | None = None
    domains: int = 0

    def raised(self, others: Iterable[Others]) -> "Margins":
        """Return these, with other bounds where they are better; what they rest on replaces what was known of it.

        Everything is copied once, before the first of the others is computed: each may take all the memory there is.
        """
        least, plain = self.least.clone(), self.plain.clone()
        whole = self.slope.clone(memory_format=torch.contiguous_format)
        for places, bound, lost, slope in others:
            better = bound > least[:, places]
            least[:, places] = torch.where(better, _down(bound, least), least[:, places])
            plain[:, places] = torch.where(better, (bound + lost).to(plain), plain[:, places])
            if slope is not None:
                whole[:, places] = slope.to(whole)
        return replace(self, least=least, plain=plain, slope=whole)


def _down(bound: Tensor, like: Tensor) -> Tensor:
    """Return a bound in another type, rounded down."""
    near = bound.to(like)
    below = torch.nextafter(near, torch.full_like(near, -torch.inf))
    return torch.where(near.double() > bound.double(), below, near)


Ranges = Callable[..., tuple[Bounds, intermediate.Neurons | None]]
Raise = Callable[[Problem, Margins], Margins]


@final
@dataclass(frozen=True, slots=True)
class Method:
    """One way to bound margins.

    Attributes:
        source: who described it.
        ranges: bounds of every node, and the neurons with slopes of their own, None of intervals, for evidence.
        raises: what raises the bounds of constant lines, in turn.
        norms: of the balls that it takes.
        together: whether many examples are bounded in one call; others start from the neurons that one leaves open.
        solver: whether it needs a CPU, and float64 from the start.
    """

    source: str
    ranges: Ranges
    raises: tuple[Raise, ...] = ()
    norms: tuple[str, ...] = ("linf", "l2", "l1")
    together: bool = False
    solver: bool = False

    def check(self, name: str, ball: Ball, device: str) -> None:
        """Raise InputError if it cannot bound over a ball, or compute on a device such as "cuda"."""
        if ball.name not in self.norms or (self.solver and device != "cpu"):
            raise InputError(f"method is {name!r}, which takes ℓ∞ balls on a CPU; expected those, or another method")


def worst_margins(
    graph: Graph,
    region: InputSet,
    labels: Tensor,
    method: str,
    effort: Effort = WHOLE,
    *,
    evidence: bool = False,
    double: Graph | None = None,
) -> Worst:
    """Bound the worst margin of each set from below.

    Each margin's bound is the better one of the method's and of the intervals', the last affine operations folded into
    the margin (Gowal et al. 2018, section 3): plain CROWN alone can be looser. Where a bound is NaN, none was found.

    Args:
        graph: of the classifier, in the arithmetic of the method.
        region: the input sets, B of them.
        labels: the class y of each, (B,).
        method: a name in `METHODS`.
        effort: how long it may try, and how much memory it may take.
        evidence: whether what proves the bounds is kept.
        double: the graph in float64, which "complete" needs; the graph itself when not given.
    """
    known, neurons = METHODS[method].ranges(graph, region, effort, keep=evidence)
    rows = differences(labels, graph, known[0][0])
    problem = Problem(graph, region, known, rows, bounds.sizes(graph, known), effort, double or graph, evidence)
    margins = _by_constants(problem)
    for raise_ in METHODS[method].raises:
        margins = raise_(problem, margins)
    least = margins.least.amin(1).double().nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf)
    tolerance = torch.where(least.isfinite(), margins.plain.amin(1).double() - least, 0.0)
    slope = margins.slope[torch.arange(len(rows), device=rows.device), margins.least.argmin(1)]
    kept = hints_of(graph, known, neurons, margins.slopes, margins.refuted) if evidence else None
    return Worst(least, tolerance, slope, kept, margins.domains)


@torch.no_grad()
def _by_intervals(
    graph: Graph, region: InputSet, effort: Effort, *, keep: bool
) -> tuple[Bounds, intermediate.Neurons | None]:
    """Return the ranges that interval arithmetic finds; evidence need not repeat them."""
    return bounds.interval(graph, region, graph.dtype), None


@torch.no_grad()
def _by_crown(
    graph: Graph, region: InputSet, effort: Effort, *, keep: bool
) -> tuple[Bounds, intermediate.Neurons | None]:
    """Return the ranges of CROWN, where intervals leave a sign open."""
    known = bounds.interval(graph, region, graph.dtype)
    known = bounds.crown(graph, region, graph.dtype, known=known, effort=effort)
    return known, {}


def _by_alpha(
    graph: Graph, region: InputSet, effort: Effort, *, keep: bool
) -> tuple[Bounds, intermediate.Neurons | None]:
    """Return the ranges of CROWN, tightened by slopes of their own (Xu et al. 2021)."""
    known, _ = _by_crown(graph, region, effort, keep=keep)
    known, neurons = intermediate.tightened(graph, region, known, _NEURON_STEPS, effort, keep=keep)
    return known, neurons


def differences(labels: Tensor, graph: Graph, like: Tensor) -> Tensor:
    """Return e_y − e_j for every j ≠ y, (B, K − 1, *shape of the output), in the type and on the device of `like`."""
    unit = torch.eye(graph.outputs, dtype=like.dtype, device=like.device)
    labels = labels.to(like.device)
    others = torch.arange(graph.outputs, device=like.device) != labels[:, None]
    rows = unit[labels].unsqueeze(1) - unit.expand(len(labels), -1, -1)[others].reshape(len(labels), -1, graph.outputs)
    return rows.reshape(len(labels), -1, *graph.nodes[-1].shape)


@torch.no_grad()
def _by_constants(problem: Problem) -> Margins:
    """Bound each margin by constants at every neuron: interval arithmetic, the last affine operations folded in."""
    graph, rows = problem.graph, problem.rows
    places, lines = torch.arange(rows.shape[1], device=rows.device), crown.flat(graph, problem.ranges)
    parts = problem.effort.parts(places, graph, sets=len(rows))
    flat = [problem.propagated(lines, rows[:, part], problem.lost) for part in parts]
    least, lost = (
        torch.cat(columns, 1) for columns in zip(*((one.least(problem.region), one.lost) for one in flat), strict=True)
    )
    return Margins(least, least + lost, _slopes(graph, flat))


@torch.no_grad()
def _by_lines(problem: Problem, margins: Margins) -> Margins:
    """Raise the margins that can be the worst by lines at their default slopes (Zhang et al. 2018)."""
    graph, region, rows, effort = problem.graph, problem.region, problem.rows, problem.effort
    lines = crown.relax(graph, problem.ranges)
    parts = effort.parts(_worst(graph, region, rows, margins.least), graph, sets=len(rows))

    def others() -> Iterator[Others]:
        for part in parts:
            if effort.over:
                return
            functional = problem.propagated(lines, rows[:, part], problem.lost)
            yield part, functional.least(region), functional.lost, functional.slope(graph)

    return margins.raised(others())


def _slopes(graph: Graph, functionals: Sequence[Functional]) -> Tensor:
    """Return the functionals of the input, (B, S, *shape); without memory of their own where all are zero."""
    if any(functional.input is not None for functional in functionals):
        return torch.cat([functional.slope(graph) for functional in functionals], 1)
    some = functionals[0].constant
    return some.new_zeros(1).expand(
        len(some), sum(functional.constant.shape[1] for functional in functionals), *graph.shape
    )


def _worst(graph: Graph, region: InputSet, rows: Tensor, bound: Tensor) -> Tensor:
    """Return the margins that can be the worst: those whose bound is below the worst one at a point of the set."""
    margins = (graph(region.around[0].to(graph.dtype)).unsqueeze(1) * rows.flatten(2)).sum(2)
    reached = margins.amin(1, keepdim=True)
    slack = 1e-3 * margins.abs().amax(1, keepdim=True)  # far more than rounding
    return (~(bound > reached + slack)).any(0).nonzero().squeeze(1)


def _by_slopes(problem: Problem, margins: Margins) -> Margins:
    """Raise the open margins of one set by slopes of their own, found by ascent (Xu et al. 2021)."""
    graph, region, rows, effort = problem.graph, problem.region, problem.rows[0], problem.effort
    open_ = (margins.least[0] <= 0).nonzero().squeeze(1)
    if not len(open_):
        return margins
    preactivations = problem.ranges
    kept = {i: slope.clone() for i, slope in start(graph, preactivations, len(rows)).items()}

    def searched(part: Tensor) -> Others:
        own = rows[part].unsqueeze(1)

        def bounded(slopes: Slopes, size: Sizes | None = None) -> Functional:
            return problem.propagated(crown.relax(graph, preactivations, slopes), own, size)

        begin = start(graph, preactivations, len(part))
        done = lambda best: effort.over or bool((best > 0).all())  # noqa: E731
        slopes = ascend(graph, lambda s: bounded(s).least(region).squeeze(1), begin, _OUTPUT_STEPS, stop=done)
        for i, slope in slopes.items():
            kept[i][part] = slope
        with torch.no_grad():
            functional = bounded(slopes, problem.lost)
            # Of P margins with slopes of their own, each is a set with one functional: (P, 1) is (1, P) here.
            return part, functional.least(region).T, functional.lost.T, functional.slope(graph).transpose(0, 1)

    raised = margins.raised(map(searched, effort.parts(open_, graph, recorded=True)))
    return replace(raised, slopes=kept)


def _by_branching(problem: Problem, margins: Margins) -> Margins:
    """Raise the open margins of one set by splitting it at the signs of neurons (Wang et al. 2021)."""
    open_ = (margins.least[0] <= 0).nonzero().squeeze(1)
    if not len(open_) or not Neurons(problem.graph, problem.region, problem.known).count:
        return margins
    rows = problem.rows[0][open_]
    targets = Targets(rows, torch.zeros(len(rows), dtype=torch.float64, device=rows.device))
    slopes = {i: slope[open_] for i, slope in margins.slopes.items()}
    graphs, least = (problem.graph, problem.double), margins.least[0][open_].double()
    look, keep = (lambda points, of: False), problem.keep
    ended = branch(graphs, problem.region, problem.known, targets, least, slopes, problem.effort, look, keep=keep)
    bound = torch.full((1, len(rows)), ended.least, dtype=torch.float64, device=rows.device)
    raised = margins.raised([(open_, bound, torch.zeros_like(bound), None)])
    refuted = None if ended.refuted is None else replace(ended.refuted, target=open_[ended.refuted.target])
    return replace(raised, domains=ended.domains, refuted=refuted)


@torch.no_grad()
def _by_steepness(problem: Problem, margins: Margins) -> Margins:
    """Raise the margins of one set by a local Lipschitz bound around its centre (Weng et al. 2018)."""
    graph, (centre, reach), rows = problem.graph, problem.region.around, problem.rows
    here = bounds.interval(graph, Box(centre, centre), graph.dtype)
    flat = crown.flat(graph, crown.ranges(graph, here))
    fall = reach(steepness(graph, problem.known, rows[0]))
    functional = problem.propagated(flat, rows, bounds.sizes(graph, here))
    # `steepness` allows for its own rounding; `reach` sums n products in float64, which n·2⁻⁵³ ≪ 1e-6 covers.
    value = functional.least(Box(centre, centre)) - fall * (1 + 1e-6)
    return margins.raised([(torch.arange(rows.shape[1], device=rows.device), value, functional.lost, None)])


@torch.no_grad()
def _by_programs(problem: Problem, margins: Margins, *, exact: bool) -> Margins:
    """Raise the open margins of one set by linear programs, or by mixed-integer ones (Tjeng et al. 2019).

    The programs are solved side by side: HiGHS takes one thread for each.
    """
    graph, known, rows, effort = problem.graph, problem.known, problem.rows[0], problem.effort
    made = program(graph, known, exact=exact)
    places = (margins.least[0] <= 0).nonzero().flatten().tolist()

    @torch.no_grad()  # holds for one thread only
    def solved(place: int) -> Bound:
        row = rows[place].flatten().double().numpy()
        if not (exact and any(part.any() for part in made.integer)):
            return by_lines(made, row, graph.terms)

        def reached(point: Matrix) -> float:
            return float(graph(torch.from_numpy(point).reshape(1, *graph.shape))[0].numpy() @ row)

        return by_integers(made, row, graph.terms, reached, effort.left)

    middle = (known[0][0][0] + known[0][1][0]) / 2

    def others(place: int, bound: Bound) -> Others:
        downhill = None
        if bound.point is not None:
            downhill = (middle - torch.from_numpy(bound.point).reshape(graph.shape).to(middle))[None, None]
        value, lost = (torch.tensor([[number]], dtype=torch.float64) for number in (bound.value, bound.lost))
        return torch.tensor([place]), value, lost, downhill

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        solutions = dict(zip(places, pool.map(solved, places), strict=True))
    return margins.raised(map(others, solutions.keys(), solutions.values()))


METHODS: dict[str, Method] = {
    "interval": Method("Gowal et al. 2018", _by_intervals, together=True),
    "crown-ibp": Method("Zhang et al. 2020", _by_intervals, (_by_lines,), together=True),
    "crown": Method("Zhang et al. 2018", _by_crown, (_by_lines,)),
    "alpha-crown": Method("Xu et al. 2021", _by_alpha, (_by_lines, _by_slopes)),
    "complete": Method("Wang et al. 2021", _by_alpha, (_by_lines, _by_slopes, _by_branching)),
    "lipschitz": Method("Weng et al. 2018", _by_crown, (_by_lines, _by_steepness)),
    "lp": Method(
        "Salman et al. 2019", _by_crown, (_by_lines, partial(_by_programs, exact=False)), norms=("linf",), solver=True
    ),
    "milp": Method(
        "Tjeng, Xiao & Tedrake 2019",
        _by_crown,
        (_by_lines, partial(_by_programs, exact=True)),
        norms=("linf",),
        solver=True,
    ),
}
"""By name, from loose and cheap to tight and expensive. α-CROWN can beat LP, because it also tightens the ranges of
neurons; "lipschitz" is exact for linear models, and mostly looser than CROWN for others."""
