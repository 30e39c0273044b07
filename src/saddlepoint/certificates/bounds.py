"""Bounds of every node: intervals, tightened by CROWN where an activation's lines would gain from it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from saddlepoint.certificates.affine import Affine
from saddlepoint.certificates.crown import Lost, Sizes, backward, ranges, relax
from saddlepoint.certificates.effort import WHOLE, Effort
from saddlepoint.certificates.functionals import units
from saddlepoint.certificates.graph import Graph, Input
from saddlepoint.certificates.relu import ReLU
from saddlepoint.certificates.rounding import gamma, outward, small, summed
from saddlepoint.certificates.sets import InputSet

_ROWS = 64
"""Functionals are propagated in multiples of so many."""
Bounds = tuple[tuple[Tensor, Tensor], ...]
"""Per node (lower, upper), each (B, *shape)."""


def interval(graph: Graph, region: InputSet, dtype: torch.dtype = torch.float32) -> Bounds:
    """Return the interval bounds of every node (Gowal et al. 2018, eqs. 6 and 7).

    Args:
        graph: the network.
        region: where the input lies.
        dtype: in which is computed.
    """
    bounds = [outward(region.lower, region.upper, dtype)]
    for i in range(1, len(graph.nodes)):
        bounds.append(step(graph, bounds, i))
    return tuple(bounds)


def step(graph: Graph, bounds: Sequence[tuple[Tensor, Tensor]], position: int) -> tuple[Tensor, Tensor]:
    """Return the interval bounds of one node from those of its parents, widened by what rounding may have lost."""
    node = graph.nodes[position]
    assert not isinstance(node.operation, Input)  # noqa: S101 - only the first node is one
    parents = [bounds[parent] for parent in node.parents]
    if not isinstance(node.operation, Affine):
        return node.operation.interval(*parents[0])
    lower, upper = node.operation.interval(*parents)
    lost = node.operation.rounding(*map(magnitude, parents))
    return (lower, upper) if lost is None else (lower - lost, upper + lost)


def magnitude(bounds: tuple[Tensor, Tensor]) -> Tensor:
    """Return max |z| for lower ≤ z ≤ upper."""
    return torch.maximum(-bounds[0], bounds[1])


def sizes(graph: Graph, bounds: Bounds) -> Sizes:
    """Return, per node, what rounding may add to a bound: for each unit of |A| at its result, and whatever A is.

    Suppose rounding turns A into A + ΔA at a node. The result still bounds the output up to ⟨ΔA, z⟩, and |z| is bounded
    there. A is a sum of one functional for each edge that leaves its node, be it to one reader or to many.
    """
    return _Sizes(graph, bounds, Counter(parent for node in graph.nodes for parent in node.parents))


@dataclass(frozen=True, eq=False)
class _Sizes(Sequence[Lost | None]):
    """See `sizes`; each is computed when it is first asked for, since few functionals reach all nodes."""

    graph: Graph
    bounds: Bounds
    edges: Mapping[int, int]
    sizes: dict[int, Lost | None] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.graph.nodes)

    def __getitem__(self, i: Any) -> Any:  # noqa: ANN401 - of a sequence
        if i not in self.sizes:
            self.sizes[i] = self._size(i) if i else None
        return self.sizes[i]

    def _size(self, i: int) -> Lost | None:
        node, bounds = self.graph.nodes[i], self.bounds
        size = [magnitude(bounds[parent]) for parent in node.parents]
        additions = max(self.edges[parent] for parent in node.parents)
        if isinstance(node.operation, Affine):
            rate = node.operation.pulling(additions, *size)
            products = max(node.operation.most, node.size)
        else:
            whole = size[0] + magnitude(bounds[i])
            rate = 2 * gamma(summed(size[0][0]) + additions, whole) * (whole + small(whole))
            if isinstance(node.operation, ReLU):  # where the sign is known, A is taken times 0 or 1: nothing rounds
                low, high = bounds[node.parents[0]]
                added = gamma(additions, size[0]) * size[0] if additions > 1 else torch.zeros_like(rate)
                rate = torch.where((low >= 0) | (high <= 0), added, rate)  # what is NaN stays NaN
            products = node.size
        return None if rate is None else Lost(rate, _underflow(products, size))


def _underflow(products: int, size: Sequence[Tensor]) -> Tensor:
    """Return what the products of a functional may lose below the least normal number, (B,): each η, times |z| + 1."""
    eta = 4 * torch.finfo(size[0].dtype).tiny
    reached = sum(part.double().flatten(1).sum(1) + 1 for part in size)
    return products * eta * torch.as_tensor(reached)


def crown(
    graph: Graph,
    region: InputSet,
    dtype: torch.dtype = torch.float32,
    *,
    known: Bounds | None = None,
    effort: Effort = WHOLE,
) -> Bounds:
    """Return bounds of every node, those of activations' inputs by CROWN where intervals leave their sign open.

    Args:
        graph: the network.
        region: where the input lies.
        dtype: in which is computed.
        known: bounds that hold already; they are only tightened.
        effort: the bytes that functionals may take, and the time after which intervals do for what is left.
    """
    inputs = graph.inputs
    bounds = [outward(region.lower, region.upper, dtype)]
    for i in range(1, len(graph.nodes)):
        bound = step(graph, bounds, i)
        if known is not None:
            bound = meet(bound, known[i])
        if i in inputs and not effort.over and not (region.boxed and _plain(graph, i)):
            bound = _tightened(graph, region, [*bounds, bound], i, effort)
        bounds.append(bound)
    return tuple(bounds)


def work(graph: Graph, region: InputSet) -> float:
    """Return about how many multiplications `crown` takes: twice those before each neuron that intervals leave open."""
    known, products, total = interval(graph, region, graph.dtype), list[float](), 0.0
    for node in graph.nodes:
        products.append(float(node.size * node.operation.terms) if isinstance(node.operation, Affine) else 0.0)
    for i in graph.activations:
        position = graph.nodes[i].parents[0]
        if not (region.boxed and _plain(graph, position)):
            open_ = int(graph.activation(i).loose(*known[position]).sum())
            total += 2 * open_ * sum(products[j] for j in graph.ancestors(position))
    return total


def meet(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the intersection of two intervals."""
    return torch.maximum(first[0], second[0]), torch.minimum(first[1], second[1])


def _plain(graph: Graph, position: int) -> bool:
    """Tell whether a node is a chain of affine operations of the input: over a box, its intervals are then good."""
    ancestors = graph.ancestors(position)
    return graph.linear_input(position) and all(len(graph.nodes[i].parents) < 2 for i in ancestors)


def _tightened(
    graph: Graph,
    region: InputSet,
    bounds: Sequence[tuple[Tensor, Tensor]],
    position: int,
    effort: Effort,
) -> tuple[Tensor, Tensor]:
    """Return the bounds of a node, tightened where the lines of an activation that reads it gain from that.

    Upper bounds come first: neurons that they show to be inactive need no better lower ones.
    """
    sides = {1: bounds[position][0], -1: -bounds[position][1]}  # lower bounds of z, and of −z
    relaxation, lost = relax(graph, ranges(graph, bounds[:position])), sizes(graph.until(position), tuple(bounds))
    for sign, side in ((-1, sides[-1]), (1, sides[1])):
        loose = graph.loose(position, sides[1], -sides[-1]).flatten(1).any(0).nonzero().squeeze(1)
        parts, shape = [side.new_zeros(len(side), 0, dtype=torch.float64)], graph.nodes[position].shape
        for part in effort.parts(_filled(loose), graph, sets=len(side)):
            if len(part) and not effort.over:
                start = units(shape, part, side, len(side), (sign,))
                parts.append(backward(graph, relaxation, position, start, rounding=lost).least(region))
        least = torch.cat(parts, 1)[:, : len(loose)]
        rounded, _ = outward(least, least, side.dtype)
        known = side.flatten(1).index_copy(1, loose[: least.shape[1]], rounded)
        sides[sign] = torch.maximum(side, known.view_as(side))
    return sides[1], -sides[-1]


def _filled(rows: Tensor) -> Tensor:
    """Repeat the last row until their number is one of few: to prepare a convolution for a new shape costs as much."""
    return torch.cat([rows, rows[-1:].expand(-len(rows) % _ROWS)])
