"""The worst margin of one example over a set, bounded from below by each method."""

import math
from typing import Literal

import torch
from torch import Tensor

from saddlepoint.certificates import bounds, crown, intermediate
from saddlepoint.certificates.affine import Affine
from saddlepoint.certificates.bounds import Bounds
from saddlepoint.certificates.crown import Relaxation, Sizes
from saddlepoint.certificates.functionals import Dense
from saddlepoint.certificates.graph import Graph, Node
from saddlepoint.certificates.programs import least, program
from saddlepoint.certificates.regions import InputSet
from saddlepoint.certificates.slopes import Slopes, ascend, start

Method = Literal["interval", "crown-ibp", "crown", "alpha-crown", "lp", "milp"]
"""Each is tighter and dearer than those before it; but for "lp", whose slopes α-CROWN may beat by tighter ranges."""

_OUTPUT_STEPS, _NEURON_STEPS = 30, 8
"""Steps of ascent for the slopes of each margin, and of each neuron's bounds."""


def worst_margins(
    graph: Graph, region: InputSet, labels: Tensor, method: Method, memory: int = bounds.BUDGET
) -> tuple[Tensor, Tensor]:
    """Return proven lower bounds of min over each set of z_y − max_{j≠y} z_j, and what rounding took off them at most.

    Both (B,), in float64. CROWN and α-CROWN take one set at a time: they start from the neurons that it leaves open.

    Each margin's bound is the better one of the method's and of the intervals', the last affine operations folded into
    the margin (Gowal et al. 2018, section 3): plain CROWN alone can be looser. Where a bound is NaN, none was found.
    """
    known = node_bounds(graph, region, method, memory)
    rows = _differences(labels, graph.outputs, known[0][0]).reshape(len(labels), -1, *graph.nodes[-1].shape)
    lost = bounds.sizes(graph, known)
    claimed, plain = (_by_lines(graph, region, known, rows, method, size) for size in (lost, None))
    if method == "alpha-crown" and bool((claimed <= 0).any()):
        open_ = (claimed[0] <= 0).nonzero().squeeze(1)
        claimed[0, open_], plain[0, open_] = _by_slopes(graph, region, known, rows[0, open_], claimed[0, open_], lost)
    if method in ("lp", "milp"):
        _by_programs(graph, known, rows[0], claimed[0], plain[0], exact=method == "milp")
    least = claimed.amin(1).double().nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf)
    tolerance = torch.where(least.isfinite(), plain.amin(1).double() - least, 0.0)
    return least, tolerance


def node_bounds(graph: Graph, region: InputSet, method: Method, memory: int) -> Bounds:
    """Return bounds of every node, as the method has them."""
    with torch.no_grad():
        known = bounds.interval(graph, region, graph.dtype)
        if method not in ("interval", "crown-ibp"):
            known = bounds.crown(graph, region, graph.dtype, known=known, budget=memory)
    if method == "alpha-crown":
        known = intermediate.tightened(graph, region, known, _NEURON_STEPS, memory)
    return known


def _differences(labels: Tensor, classes: int, like: Tensor) -> Tensor:
    """Return e_y − e_j for every j ≠ y, (B, K − 1, K)."""
    unit = torch.eye(classes, dtype=like.dtype, device=like.device)
    labels = labels.to(like.device)
    others = torch.arange(classes, device=like.device) != labels[:, None]
    return unit[labels].unsqueeze(1) - unit.expand(len(labels), -1, -1)[others].reshape(len(labels), -1, classes)


@torch.no_grad()
def _by_lines(
    graph: Graph, region: InputSet, known: Bounds, rows: Tensor, method: Method, lost: Sizes | None
) -> Tensor:
    """Return a bound of each margin, (B, K − 1), the best of lines at their default slopes and of constant ones."""
    given = crown.ranges(graph, known)
    relaxations = [crown.flat(graph, given)]
    if method != "interval":
        relaxations.append(crown.relax(graph, given))
    found = [_least(graph, lines, rows, region, lost) for lines in relaxations]
    return torch.stack(found).amax(0)


def _by_slopes(
    graph: Graph, region: InputSet, known: Bounds, rows: Tensor, before: Tensor, lost: Sizes
) -> tuple[Tensor, Tensor]:
    """Return the bound of each margin by slopes of its own, and the same before rounding is taken off it."""
    given = crown.ranges(graph, known)

    def bounded(slopes: Slopes, size: Sizes | None = None) -> Tensor:
        return _least(graph, crown.relax(graph, given, slopes), rows.unsqueeze(1), region, size).squeeze(1)

    begin = start(graph, given, len(rows))
    slopes = ascend(graph, bounded, begin, _OUTPUT_STEPS, stop=lambda best: bool((best > 0).all()))
    with torch.no_grad():
        claimed, plain = bounded(slopes, lost), bounded(slopes)
    return torch.maximum(claimed, before), torch.maximum(plain, before)


@torch.no_grad()
def _by_programs(graph: Graph, known: Bounds, rows: Tensor, claimed: Tensor, plain: Tensor, *, exact: bool) -> None:
    """Raise the bounds of margins that are still open, in place, to those of a linear or mixed-integer program."""
    made, terms = program(graph, known, exact=exact), sum(_terms(node) for node in graph.nodes)
    for place in (claimed <= 0).nonzero().flatten().tolist():
        bound, lost = least(made, rows[place].flatten().double().numpy(), terms, exact=exact)
        if bound > float(claimed[place]):
            claimed[place], plain[place] = bound, bound + lost


def _terms(node: Node) -> int:
    return node.operation.terms if isinstance(node.operation, Affine) else 1


def _least(graph: Graph, lines: Relaxation, rows: Tensor, region: InputSet, lost: Sizes | None) -> Tensor:
    return crown.backward(graph, lines, len(graph.nodes) - 1, Dense(rows), rounding=lost).least(region)
