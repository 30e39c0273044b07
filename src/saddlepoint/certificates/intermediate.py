"""Bounds of the activations' inputs, each by slopes of its own: α-CROWN, layer by layer.

A bound of a neuron is as good as the lines of the layers before it. Those are chosen for each neuron and side by
ascent on that very bound; so, given the layers before, each is the best of its kind (Xu et al. 2021, section 3.3).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from saddlepoint.certificates.bounds import BUDGET, Bounds, chunks, meet, sizes, step
from saddlepoint.certificates.crown import Sizes, backward, ranges, relax
from saddlepoint.certificates.functionals import units
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.regions import InputSet, outward
from saddlepoint.certificates.slopes import Slopes, ascend, start


def tightened(graph: Graph, region: InputSet, known: Bounds, steps: int, budget: int = BUDGET) -> Bounds:
    """Return the bounds of every node, those of activations' inputs by α-CROWN where their lines gain from it.

    Args:
        graph: the network.
        region: where the input lies, one set.
        known: bounds that hold already; they are only tightened.
        steps: of ascent for each bound.
        budget: bytes that functionals may take.
    """
    inputs = {graph.nodes[i].parents[0]: i for i in graph.activations}
    bounds = [known[0]]
    for i in range(1, len(graph.nodes)):
        found = meet(step(graph, bounds, i), known[i])
        if i in inputs and not graph.linear_input(i):
            found = _better(graph, region, [*bounds, found], i, steps, budget)
        bounds.append(found)
    return tuple(bounds)


def _better(
    graph: Graph,
    region: InputSet,
    bounds: Sequence[tuple[Tensor, Tensor]],
    position: int,
    steps: int,
    budget: int,
) -> tuple[Tensor, Tensor]:
    lower, upper = bounds[position]
    activation = next(i for i in graph.activations if graph.nodes[i].parents[0] == position)
    loose = graph.activation(activation).loose(lower, upper).flatten(1).any(0).nonzero().squeeze(1)
    lost = sizes(graph.until(position), tuple(bounds))
    low, high = lower.flatten(1).clone(), upper.flatten(1).clone()
    for rows in chunks(loose, graph, lower, budget // 4) if len(loose) else ():
        found = _each(graph, region, bounds, position, rows, steps, lost)
        low[:, rows] = torch.maximum(low[:, rows], found[0])
        high[:, rows] = torch.minimum(high[:, rows], found[1])
    return low.view_as(lower), high.view_as(upper)


def _each(
    graph: Graph,
    region: InputSet,
    bounds: Sequence[tuple[Tensor, Tensor]],
    position: int,
    rows: Tensor,
    steps: int,
    lost: Sizes,
) -> tuple[Tensor, Tensor]:
    """Return both bounds of some coordinates of a node, each with slopes of its own."""
    like = bounds[position][0]
    both = units(graph.nodes[position].shape, rows, like, 1).apart()
    before = graph.ancestors(position)
    given = {i: both for i, both in ranges(graph, bounds[:position]).items() if i in before}

    def bounded(slopes: Slopes, rounding: Sizes | None = None) -> Tensor:
        lines = relax(graph, given, slopes)
        return backward(graph, lines, position, both, rounding=rounding).least(region).squeeze(1)

    slopes = ascend(graph, bounded, start(graph, given, 2 * len(rows)), steps, stop=lambda _: False)
    with torch.no_grad():
        least = bounded(slopes, lost)
    return outward(least[: len(rows)], -least[len(rows) :], like.dtype)
