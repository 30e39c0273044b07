"""Factors of channels, as of batch norms and of the normalisation of pixels, taken into the operation beside them.

    f · (L x + b) + c  =  (f L) x + (f b + c)              L (f · x + c) + b  =  (L f) x + (L c + b)

What is propagated through the graph then meets one operation for two. Constants are folded in float64.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from saddlepoint.certificates.affine import Affine
from saddlepoint.certificates.graph import Node


def folded(nodes: Sequence[Node]) -> list[Node]:
    """Return nodes that compute the same, at the same positions; what was folded is no longer read."""
    merged, readers = list(nodes), Counter(parent for node in nodes for parent in node.parents)
    for i, node in enumerate(nodes):
        if len(node.parents) == 1 and readers[node.parents[0]] == 1:
            first, second = merged[node.parents[0]], node.operation
            if isinstance(first.operation, Affine) and isinstance(second, Affine):
                joined = _joined(first.operation, second)
                if joined is not None:
                    merged[i] = Node(node.name, joined, first.parents, node.shape)
    return merged


def _joined(first: Affine, second: Affine) -> Affine | None:
    """Return second ∘ first as one operation, where one of them only scales channels and the other has weights."""
    if second.channelwise and first.rescaled is not None:
        (factor,), before = second.weights, first.constant
        moved = None if first.offset is None else first.offset * factor
        parts = _sum(None if before is None else before * factor.abs(), second.constant)
        weight = first.rescaled(first.weights[0], factor)
        return replace(first, weights=(weight,), offset=_sum(moved, second.offset), parts=parts, form=None)
    if first.channelwise and second.rereading is not None:
        (factor,), shift, before = first.weights, first.offset, first.constant
        moved = None if shift is None else second.linear(shift.unsqueeze(0), *second.weights)[0]
        parts = _sum(None if before is None else second.magnitude(before.unsqueeze(0))[0], second.constant)
        weight = second.rereading(second.weights[0], factor)
        return replace(second, weights=(weight,), offset=_sum(moved, second.offset), parts=parts, form=None)
    return None


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b
