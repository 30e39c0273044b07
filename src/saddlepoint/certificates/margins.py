"""The worst margin of one example over a set, bounded from below by each method."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from saddlepoint.certificates import bounds, crown, intermediate
from saddlepoint.certificates.bounds import Bounds
from saddlepoint.certificates.crown import Functional, Relaxation, Sizes
from saddlepoint.certificates.effort import WHOLE, Effort
from saddlepoint.certificates.evidence import Evidence, Pass, recorded
from saddlepoint.certificates.functionals import Dense
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.lipschitz import steepness
from saddlepoint.certificates.programs import Bound, by_integers, by_lines, program
from saddlepoint.certificates.regions import Box, InputSet
from saddlepoint.certificates.slopes import Slopes, ascend, start
from saddlepoint.certificates.solver import Matrix

Method = Literal["interval", "crown-ibp", "crown", "alpha-crown", "lp", "milp", "lipschitz"]
"""Each is tighter and dearer than those before it; but for "lp", whose slopes α-CROWN may beat by tighter ranges, and
"lipschitz", which is a method of its own."""

_OUTPUT_STEPS, _NEURON_STEPS = 20, 5
"""Steps of ascent for the slopes of each margin, and of each neuron's bounds."""


@final
@dataclass(frozen=True, eq=False)
class Worst:
    """Bounds of the worst margins of B sets.

    Attributes:
        least: proven lower bounds of min over each set of z_y − max_{j≠y} z_j, (B,), float64; −inf where none is.
        tolerance: what rounding took off them at most, (B,).
        slope: the functional of the input that each bound rests on, (B, *shape): 0 where it is constant.
        evidence: of one set, if it was asked for.
    """

    least: Tensor
    tolerance: Tensor
    slope: Tensor
    evidence: Evidence | None = None


def worst_margins(
    graph: Graph, region: InputSet, labels: Tensor, method: Method, effort: Effort = WHOLE, *, evidence: bool = False
) -> Worst:
    """Bound the worst margin of each set from below.

    CROWN and α-CROWN take one set at a time: they start from the neurons that it leaves open.

    Each margin's bound is the better one of the method's and of the intervals', the last affine operations folded into
    the margin (Gowal et al. 2018, section 3): plain CROWN alone can be looser. Where a bound is NaN, none was found.
    """
    known, passes = node_bounds(graph, region, method, effort, keep=evidence)
    rows = differences(labels, graph, known[0][0])
    lost = bounds.sizes(graph, known)
    claimed, plain, inputs = _by_lines(graph, region, known, rows, method, lost, effort)
    slopes, duals = dict[int, Tensor](), dict[int, Tensor]()
    if method == "alpha-crown" and bool((claimed <= 0).any()):
        open_ = (claimed[0] <= 0).nonzero().squeeze(1)
        slopes = _by_slopes(graph, region, known, rows[0], open_, claimed[0], plain[0], inputs[0], lost, effort)
    if method == "lipschitz":
        _by_steepness(graph, region, known, rows[0], claimed[0], plain[0])
    if method in ("lp", "milp"):
        duals = _by_programs(graph, known, rows[0], claimed[0], plain[0], inputs[0], effort, exact=method == "milp")
    least = claimed.amin(1).double().nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf)
    tolerance = torch.where(least.isfinite(), plain.amin(1).double() - least, 0.0)
    slope = inputs[torch.arange(len(inputs), device=inputs.device), claimed.argmin(1)]
    return Worst(least, tolerance, slope, Evidence(passes, slopes, duals) if evidence else None)


def node_bounds(
    graph: Graph, region: InputSet, method: Method, effort: Effort, *, keep: bool = False
) -> tuple[Bounds, tuple[Pass, ...]]:
    """Return bounds of every node, as the method has them, and the passes that found them if they are to be kept."""
    inputs, passes = sorted({graph.nodes[i].parents[0] for i in graph.activations}), list[Pass]()
    with torch.no_grad():
        known = bounds.interval(graph, region, graph.dtype)
        if method not in ("interval", "crown-ibp"):
            known = bounds.crown(graph, region, graph.dtype, known=known, effort=effort)
            passes += [recorded(known, inputs)] if keep else []
    if method == "alpha-crown":
        known, neurons = intermediate.tightened(graph, region, known, _NEURON_STEPS, effort, keep=keep)
        passes += [recorded(known, inputs, neurons)] if keep else []
    return known, tuple(passes)


def differences(labels: Tensor, graph: Graph, like: Tensor) -> Tensor:
    """Return e_y − e_j for every j ≠ y, (B, K − 1, *shape of the output), in the type and on the device of `like`."""
    unit = torch.eye(graph.outputs, dtype=like.dtype, device=like.device)
    labels = labels.to(like.device)
    others = torch.arange(graph.outputs, device=like.device) != labels[:, None]
    rows = unit[labels].unsqueeze(1) - unit.expand(len(labels), -1, -1)[others].reshape(len(labels), -1, graph.outputs)
    return rows.reshape(len(labels), -1, *graph.nodes[-1].shape)


@torch.no_grad()
def _by_lines(
    graph: Graph, region: InputSet, known: Bounds, rows: Tensor, method: Method, lost: Sizes, effort: Effort
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a bound of each margin, (B, K − 1), the best of lines at their default slopes and of constant ones.

    And what it would be without the allowance for rounding, and the functionals of the input, (B, K − 1, *shape).
    """
    given, places = crown.ranges(graph, known), torch.arange(rows.shape[1], device=rows.device)
    lines, parts = crown.flat(graph, given), effort.parts(places, graph, sets=len(rows))
    flat = [_propagated(graph, lines, rows[:, part], lost) for part in parts]
    best, off = (torch.cat(each, 1) for each in zip(*((one.least(region), one.lost) for one in flat), strict=True))
    if method == "interval":
        return best, best + off, _slopes(graph, flat)
    inputs, plain = rows.new_zeros(*rows.shape[:2], *graph.shape), best + off
    lines = crown.relax(graph, given)
    for part in effort.parts(_worst(graph, region, rows, best), graph, sets=len(rows)):
        if effort.over:
            break
        found = _propagated(graph, lines, rows[:, part], lost)
        least = found.least(region)
        better = least > best[:, part]
        best[:, part] = torch.where(better, least, best[:, part])
        plain[:, part] = torch.where(better, least + found.lost, plain[:, part])
        inputs[:, part] = found.slope(graph)
    return best, plain, inputs


def _slopes(graph: Graph, found: Sequence[Functional]) -> Tensor:
    """Return the functionals of the input, (B, S, *shape); without memory of their own where all are zero."""
    if any(each.input is not None for each in found):
        return torch.cat([each.slope(graph) for each in found], 1)
    some = found[0].constant
    return some.new_zeros(1).expand(len(some), sum(each.constant.shape[1] for each in found), *graph.shape)


def _worst(graph: Graph, region: InputSet, rows: Tensor, bound: Tensor) -> Tensor:
    """Return the margins that can be the worst: those whose bound is below the worst one at a point of the set."""
    margins = (graph(region.around[0].to(graph.dtype)).unsqueeze(1) * rows.flatten(2)).sum(2)
    reached = margins.amin(1, keepdim=True)
    slack = 1e-3 * margins.abs().amax(1, keepdim=True)  # far more than rounding
    return (~(bound > reached + slack)).any(0).nonzero().squeeze(1)


def _by_slopes(
    graph: Graph,
    region: InputSet,
    known: Bounds,
    rows: Tensor,
    open_: Tensor,
    claimed: Tensor,
    plain: Tensor,
    inputs: Tensor,
    lost: Sizes,
    effort: Effort,
) -> dict[int, Tensor]:
    """Raise the bounds of open margins, in place, to those by slopes of their own; return the slopes of all margins."""
    given = crown.ranges(graph, known)
    kept = {i: slope.clone() for i, slope in start(graph, given, len(rows)).items()}
    for part in effort.parts(open_, graph, recorded=True):
        own = rows[part].unsqueeze(1)

        def bounded(slopes: Slopes, size: Sizes | None = None, own: Tensor = own) -> Functional:
            return _propagated(graph, crown.relax(graph, given, slopes), own, size)

        begin = start(graph, given, len(part))
        done = lambda best: effort.over or bool((best > 0).all())  # noqa: E731
        slopes = ascend(graph, lambda s: bounded(s).least(region).squeeze(1), begin, _OUTPUT_STEPS, stop=done)
        with torch.no_grad():
            found = bounded(slopes, lost)
            _raise(claimed, plain, part, found.least(region).squeeze(1), found.lost.squeeze(1))
            inputs[part] = found.slope(graph).squeeze(1)
        for i, slope in slopes.items():
            kept[i][part] = slope
    return kept


@torch.no_grad()
def _by_steepness(graph: Graph, region: InputSet, known: Bounds, rows: Tensor, claimed: Tensor, plain: Tensor) -> None:
    """Raise the bounds of margins, in place, to those of a local Lipschitz bound around the centre of the set."""
    centre, reach = region.around
    here = bounds.interval(graph, Box(centre, centre), graph.dtype)
    flat = crown.flat(graph, crown.ranges(graph, here))
    size = bounds.sizes(graph, here)
    fall = reach(steepness(graph, known, rows))
    found = _propagated(graph, flat, rows[None], size)
    value = found.least(Box(centre, centre))[0] - fall * (1 + 1e-6)
    _raise(claimed, plain, torch.arange(len(rows), device=rows.device), value, found.lost[0])


@torch.no_grad()
def _by_programs(
    graph: Graph,
    known: Bounds,
    rows: Tensor,
    claimed: Tensor,
    plain: Tensor,
    inputs: Tensor,
    effort: Effort,
    *,
    exact: bool,
) -> dict[int, Tensor]:
    """Raise the bounds of open margins, in place, to those of linear or mixed-integer programs; return the duals.

    The programs are solved side by side: HiGHS takes one thread for each.
    """
    made, duals = program(graph, known, exact=exact), dict[int, Tensor]()
    places = (claimed <= 0).nonzero().flatten().tolist()

    @torch.no_grad()  # holds for one thread only
    def solved(place: int) -> Bound:
        row = rows[place].flatten().double().numpy()
        if not (exact and any(part.any() for part in made.integer)):
            return by_lines(made, row, graph.terms)

        def reached(point: Matrix) -> float:
            return float(graph(torch.from_numpy(point).reshape(1, *graph.shape))[0].numpy() @ row)

        return by_integers(made, row, graph.terms, reached, effort.left)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for place, bound in zip(places, pool.map(solved, places), strict=True):
            if bound.dual is not None:
                duals[place] = torch.from_numpy(bound.dual)
            if bound.value > float(claimed[place]):
                claimed[place], plain[place] = bound.value, bound.value + bound.lost
            if bound.point is not None:  # downhill from the middle of the box
                middle = (known[0][0][0] + known[0][1][0]) / 2
                inputs[place] = middle - torch.from_numpy(bound.point).reshape(graph.shape).to(middle)
    return dict(sorted(duals.items()))


def _raise(claimed: Tensor, plain: Tensor, places: Tensor, bound: Tensor, lost: Tensor) -> None:
    """Put bounds where they are better than what is claimed, in place."""
    better = bound > claimed[places]
    claimed[places[better]] = bound[better].to(claimed.dtype)
    plain[places[better]] = (bound + lost)[better].to(plain.dtype)


def _propagated(graph: Graph, lines: Relaxation, rows: Tensor, lost: Sizes | None) -> Functional:
    return crown.backward(graph, lines, len(graph.nodes) - 1, Dense(rows), rounding=lost)
