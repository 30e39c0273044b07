"""A conjunction of constraints on the output as one number that the network computes: its largest violation.

    v(x) = max_k ⟨r_k, h(x)⟩ − t_k

No input meets all of ⟨r_k, h(x)⟩ ≤ t_k just where v > 0. The maximum is made of ReLUs, max(a, b) = a + max(b − a, 0),
which bounds treat as they do the network's own: a slope α ∈ [0, 1] makes the convex combination (1 − α) a + α b, which
proves where neither a nor b does alone, and branch and bound splits where one overtakes the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import final

import torch
from torch import Tensor

from saddlepoint.certificates.affine import Affine
from saddlepoint.certificates.aten.maxima import larger
from saddlepoint.certificates.aten.rules import Value, typed
from saddlepoint.certificates.branching.splitting import Targets
from saddlepoint.certificates.graph import Graph, Node, Operation
from saddlepoint.certificates.rounding import outward


@final
@dataclass(frozen=True, eq=False)
class _Extended:
    """A graph under construction, which begins as another."""

    nodes: list[Node]
    dtype: torch.dtype

    def add(self, operation: Operation, parents: tuple[Value, ...], shape: tuple[int, ...], name: str) -> Value:
        """Append a node, in the graph's type."""
        places = tuple(parent.position for parent in parents)
        self.nodes.append(Node(name, typed(operation, self.dtype), places, shape))
        return Value(len(self.nodes) - 1, shape)


def violations(graph: Graph, conjunctions: Sequence[Targets], dtype: torch.dtype) -> Graph:
    """Return the graph of v for D conjunctions, (B, D).

    Args:
        graph: of the network.
        conjunctions: their constraints ⟨r_k, y⟩ ≤ t_k, at least one of each, numbers of `dtype` without rounding but
            for t.
        dtype: to which t is rounded up, so that all types of the graph compute the same.
    """
    made, last = _Extended(list(graph.nodes), graph.dtype), Value(len(graph.nodes) - 1, graph.nodes[-1].shape)
    constraints = [_constraints(own, dtype) for own in conjunctions]
    # The k-th constraint of each; of one that has fewer its first again, whose maximum with it changes nothing.
    rounds = [
        [own if own is not None else whole[0] for own, whole in zip(layer, constraints, strict=True)]
        for layer in zip_longest(*constraints)
    ]
    value = _violated(made, last, rounds[0], "violation0")
    for place, layer in enumerate(rounds[1:], 1):
        value = larger(made, value, _violated(made, last, layer, f"violation{place}"), f"largest{place}")
    return Graph(tuple(made.nodes), graph.dtype)


_Constraint = tuple[Tensor, Tensor]
"""r, flat, and t."""


def _constraints(own: Targets, dtype: torch.dtype) -> list[_Constraint]:
    _, above = outward(own.thresholds, own.thresholds, dtype)
    return list(zip(own.rows.flatten(1).double(), above.double(), strict=True))


def _violated(made: _Extended, last: Value, layer: Sequence[_Constraint], name: str) -> Value:
    """Append ⟨r, y⟩ − t of one constraint of each conjunction."""
    rows, thresholds = torch.stack([row for row, _ in layer]), torch.stack([bound for _, bound in layer])
    shape = last.shape
    operation = Affine(
        lambda y, w: y.flatten(1) @ w,
        (shape,),
        (rows.T,),
        -thresholds,
        terms=rows.shape[1],
        pulled=rows.shape[0],
        adjoint=lambda functional, w: ((functional @ w.T).reshape(-1, *shape),),
    )
    return made.add(operation, (last,), (len(rows),), name)
