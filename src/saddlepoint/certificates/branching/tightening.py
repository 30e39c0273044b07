"""Bounds of neurons by branch and bound of their own: each is split a few times at the neurons before it.

A bound of a neuron z over a set is the least one over the parts of any cover of it. So the neuron's own bound is
treated as a margin is: the set is split at the signs that cost that very bound most, to a given depth. What a layer
gains, the lines of all later layers gain: on fully connected networks this is worth far more than as many splits of the
margin alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from saddlepoint.certificates.bounds import Bounds, meet, step
from saddlepoint.certificates.branching.neurons import Neurons
from saddlepoint.certificates.branching.splitting import Rows, Targets, halved, improved, started
from saddlepoint.certificates.effort import Effort
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.rounding import outward
from saddlepoint.certificates.sets import InputSet

_STEPS = 5
"""Of ascent for a domain: as many again gain less than one more halving, for the same time."""
_TOGETHER = 256
"""Domains that are bounded together: those of a neuron are small, and nothing is pruned between them."""


def tightened(
    graphs: tuple[Graph, Graph], region: InputSet, known: Bounds, depth: int, effort: Effort
) -> tuple[Bounds, int]:
    """Return tighter bounds of every node, and how many domains were bounded.

    Args:
        graphs: the network in float32 and in float64.
        region: where the input lies, one set.
        known: bounds that hold already.
        depth: how often the domain of each bound is halved.
        effort: whose deadline ends it; what is known by then is returned.
    """
    graph, bounds, domains = graphs[0], [known[0]], 0
    for i in range(1, len(graph.nodes)):
        bounds.append(meet(step(graph, bounds, i), known[i]))
        if i in graph.inputs and not graph.linear_input(i) and not effort.over:
            bounds[i], count = _node(graphs, region, bounds, depth, effort)
            domains += count
    return tuple(bounds), domains


def bounded(graph: Graph, known: Bounds) -> int:
    """Return how many bounds `tightened` would split: two of each neuron whose sign is open behind another's."""
    inputs = (i for i in graph.inputs if not graph.linear_input(i))
    return sum(2 * int(graph.loose(i, *known[i]).sum()) for i in inputs)


def _node(
    graphs: tuple[Graph, Graph], region: InputSet, bounds: Sequence[tuple[Tensor, Tensor]], depth: int, effort: Effort
) -> tuple[tuple[Tensor, Tensor], int]:
    """Return the bounds of the last of these nodes, tightened, and how many domains were bounded."""
    i = len(bounds) - 1
    lower, upper = bounds[i]
    part, double = (graph.until(i) for graph in graphs)
    neurons = Neurons(part, region, tuple(bounds))
    wide = neurons.double(double)
    loose = graphs[0].loose(i, lower, upper).flatten(1).any(0).nonzero().squeeze(1)
    if not len(loose) or not neurons.count:
        return (lower, upper), 0
    low, high = lower.flatten().double(), upper.flatten().double()
    ends, domains = torch.cat([low[loose], -high[loose]]), 0
    sides = torch.cat([torch.ones_like(loose), -torch.ones_like(loose)]).to(lower)
    together = min(_TOGETHER, effort.most(part, recorded=True))
    for places in torch.arange(len(ends), device=ends.device).split(together):  # type: ignore[no-untyped-call]
        if not effort.over:
            units = lower.new_zeros(len(places), part.nodes[i].size)
            units.scatter_(1, loose.repeat(2)[places, None], sides[places, None])
            targets = Targets(units.reshape(-1, *part.nodes[i].shape), torch.zeros_like(ends[places]))
            ends[places], count = _least(neurons, wide, targets, ends[places], depth, effort)
            domains += count
    low[loose], high[loose] = ends[: len(loose)], -ends[len(loose) :]
    low, high = outward(low, high, lower.dtype)
    return (low.reshape(lower.shape), high.reshape(upper.shape)), domains


def _least(
    neurons: Neurons, double: Neurons, targets: Targets, ends: Tensor, depth: int, effort: Effort
) -> tuple[Tensor, int]:
    """Return the least bound of each target over the parts of its cover, and how many domains were bounded."""
    rows = started(neurons, lambda: double, targets, ends, {}, _STEPS)
    domains, least = len(rows), torch.full_like(ends, torch.inf)
    for _ in range(depth):
        # A part on which the target is positive is done with, and so is one on which every sign is given.
        done = (rows.least > 0) | (rows.signs != 0).all(1)
        least = least.scatter_reduce(0, rows.target[done], rows.least[done], "amin")
        if not len(rows := rows.take(~done)) or effort.over:
            break
        parts = torch.arange(len(rows), device=ends.device).split(max(1, len(ends) // 2))  # type: ignore[no-untyped-call]
        # What there is no time to halve stays as it is: it is a cover all the same.
        cover = [own if effort.over else _improved(neurons, double, targets, own) for own in map(rows.take, parts)]
        domains += 2 * (sum(map(len, cover)) - len(rows))
        rows = Rows.joined(cover)
    least = least.scatter_reduce(0, rows.target, rows.least, "amin")
    return torch.maximum(ends, least), domains


def _improved(neurons: Neurons, double: Neurons, targets: Targets, rows: Rows) -> Rows:
    return improved(neurons, lambda: double, targets, halved(neurons, targets, rows), _STEPS)[0]
