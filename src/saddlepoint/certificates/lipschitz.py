"""Local Lipschitz bounds: how steep a margin can be anywhere in the set (Fast-Lip, Weng et al. 2018, section 3.3).

    z_y − z_j  ≥  (z_y − z_j)(x₀) − ε max ‖∇(z_y − z_j)‖_*        over the segment from x₀ to any point of ball ∩ box

The gradient is a product of Lᵀ and of slopes f'(·) of activations, each between its least and its greatest over the
range of the activation's input: intervals c ± r of all of its factors are multiplied, from the output to the input.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from saddlepoint.certificates.affine import Affine
from saddlepoint.certificates.bounds import Bounds
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.rounding import gamma, small

Interval = tuple[Tensor, Tensor]
"""c and r, each (S, *shape)."""


def steepness(graph: Graph, known: Bounds | Mapping[int, tuple[Tensor, Tensor]], rows: Tensor) -> Tensor:
    """Return at least |∂⟨row, h⟩/∂x_i| anywhere in one set, for each row and coordinate of the input, (S, *shape).

    Args:
        graph: the network.
        known: bounds of every node that an activation reads, by its position, of one set or one for each row.
        rows: functionals of the output, (S, *shape of the output).
    """
    last = len(graph.nodes) - 1
    waiting: dict[int, Interval] = {last: (rows, torch.zeros_like(rows))}
    for i in range(last, 0, -1):
        if i not in waiting:
            continue
        operation, (c, r) = graph.nodes[i].operation, waiting.pop(i)
        if isinstance(operation, Affine):
            moved = _through(operation, c, r)
        else:
            moved = [_times(c, r, *graph.activation(i).slopes(*known[graph.nodes[i].parents[0]]))]
        for parent, part in zip(graph.nodes[i].parents, moved, strict=True):
            if part is not None:
                before = waiting.get(parent)
                waiting[parent] = part if before is None else (before[0] + part[0], before[1] + part[1])
    c, r = waiting.get(0, (rows.new_zeros(len(rows), *graph.shape),) * 2)
    return c.abs() + r


def _through(operation: Affine, c: Tensor, r: Tensor) -> list[Interval | None]:
    """Return Lᵀ (c ± r) for each parent, as wide as rounding may make it."""
    error = gamma(operation.most, c)
    centres = operation.transpose(c)
    radii = operation.transposed_magnitude(r + error * (c.abs() + r + small(c)))
    lost = operation.most * torch.finfo(c.dtype).tiny  # of products below the least normal number
    return [None if a is None or b is None else (a, b + lost) for a, b in zip(centres, radii, strict=True)]


def _times(c: Tensor, r: Tensor, least: Tensor, most: Tensor) -> Interval:
    """Return (c ± r) · [least, most], as wide as rounding may make it."""
    middle, half = (most + least) / 2, (most - least) / 2
    centre, radius = c * middle, r * middle.abs() + (c.abs() + r) * half
    return centre, radius + gamma(8, c) * (centre.abs() + radius + small(c))
