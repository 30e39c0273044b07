"""Bounds of the activations' inputs, each by slopes of its own: α-CROWN, layer by layer.

A bound of a neuron is as good as the lines of the layers before it. Those are chosen for each neuron and side by
ascent on that very bound; so, given the layers before, each is the best of its kind (Xu et al. 2021, section 3.3).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from saddlepoint.certificates.bounds import Bounds, meet, sizes, step
from saddlepoint.certificates.crown import Sizes, backward, ranges, relax
from saddlepoint.certificates.effort import Effort
from saddlepoint.certificates.functionals import units
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.rounding import outward
from saddlepoint.certificates.sets import InputSet
from saddlepoint.certificates.slopes import Slopes, ascend, start

Neurons = Mapping[int, tuple[Tensor, Slopes]]
"""By the node's position: coordinates that have slopes of their own, (R,), and these, (2R, *shape)."""


def tightened(
    graph: Graph, region: InputSet, known: Bounds, steps: int, effort: Effort, *, keep: bool = False
) -> tuple[Bounds, Neurons]:
    """Return the bounds of every node, those of activations' inputs by α-CROWN where their lines gain from it.

    Args:
        graph: the network.
        region: where the input lies, one set.
        known: bounds that hold already; they are only tightened.
        steps: of ascent for each bound.
        effort: bytes that functionals may take, and the deadline after which known bounds are taken as they are.
        keep: whether to return the slopes, too.
    """
    inputs = graph.inputs
    bounds, neurons = [known[0]], dict[int, tuple[Tensor, Slopes]]()
    for i in range(1, len(graph.nodes)):
        bound = meet(step(graph, bounds, i), known[i])
        if i in inputs and not graph.linear_input(i) and not effort.over:
            bound, own = _better(graph, region, [*bounds, bound], i, steps, effort, keep=keep)
            neurons |= {i: own} if own is not None else {}
        bounds.append(bound)
    return tuple(bounds), neurons


def _better(
    graph: Graph,
    region: InputSet,
    bounds: Sequence[tuple[Tensor, Tensor]],
    position: int,
    steps: int,
    effort: Effort,
    *,
    keep: bool,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Slopes] | None]:
    lower, upper = bounds[position]
    loose = graph.loose(position, lower, upper).flatten(1).any(0).nonzero().squeeze(1)
    if not len(loose):
        return (lower, upper), None
    lost = sizes(graph.until(position), tuple(bounds))
    low, high = lower.flatten(1).clone(), upper.flatten(1).clone()
    kept = list[tuple[Tensor, Slopes]]()
    for rows in effort.parts(loose, graph, per_row=2, recorded=True):
        ends, slopes = _each(graph, region, bounds, position, rows, steps, lost, effort)
        low[:, rows] = torch.maximum(low[:, rows], ends[0])
        high[:, rows] = torch.minimum(high[:, rows], ends[1])
        if keep:
            kept.append((rows, slopes))
    return (low.view_as(lower), high.view_as(upper)), _joined(kept) if keep else None


def _joined(parts: Sequence[tuple[Tensor, Slopes]]) -> tuple[Tensor, Slopes]:
    """Return all coordinates, and the slopes of their lower and then of their upper bounds."""
    sides = [[{i: s.chunk(2)[side] for i, s in slopes.items()} for _, slopes in parts] for side in (0, 1)]
    names = parts[0][1].keys()
    return torch.cat([rows for rows, _ in parts]), {
        i: torch.cat([part[i] for side in sides for part in side]) for i in names
    }


def _each(
    graph: Graph,
    region: InputSet,
    bounds: Sequence[tuple[Tensor, Tensor]],
    position: int,
    rows: Tensor,
    steps: int,
    lost: Sizes,
    effort: Effort,
) -> tuple[tuple[Tensor, Tensor], Slopes]:
    """Return both bounds of some coordinates of a node, each with slopes of its own, and these."""
    like = bounds[position][0]
    both = units(graph.nodes[position].shape, rows, like, 1).apart()
    before = graph.ancestors(position)
    preactivations = {i: both for i, both in ranges(graph, bounds[:position]).items() if i in before}

    def bounded(slopes: Slopes, rounding: Sizes | None = None) -> Tensor:
        lines = relax(graph, preactivations, slopes)
        return backward(graph, lines, position, both, rounding=rounding).least(region).squeeze(1)

    slopes = ascend(graph, bounded, start(graph, preactivations, 2 * len(rows)), steps, stop=lambda _: effort.over)
    with torch.no_grad():
        least = bounded(slopes, lost)
    return outward(least[: len(rows)], -least[len(rows) :], like.dtype), slopes
