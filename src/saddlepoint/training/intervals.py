"""Intervals as centres and radii, differentiable in the weights: the bounds that certified training minimises.

    affine      (c, r) ↦ (f(c), |L| r)                                             (Gowal et al. 2018, eqs. 6 and 7)
    activation  (c, r) ↦ ((u + l) / 2, (u − l) / 2),  [l, u] = f([c − r, c + r])

They are not widened for rounding: `sp.certify` is what proves.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from saddlepoint.certificates.affine import Affine
from saddlepoint.certificates.bounds import Bounds
from saddlepoint.certificates.graph import Graph, Input, Operation
from saddlepoint.certificates.relu import ReLU
from saddlepoint.certificates.rounding import outward
from saddlepoint.certificates.sets import InputSet
from saddlepoint.typing import Labels, Logits

Interval = tuple[Tensor, Tensor]
"""Centre and radius, each (B, *shape)."""

TIGHT = 0.5
"""τ of the regulariser: how far the mean radius of a layer's intervals may exceed that of the input, as 1/τ."""


def intervals(graph: Graph, region: InputSet) -> list[Interval]:
    """Return the interval of every node."""
    boxes = [_centred(*outward(region.lower, region.upper, graph.dtype))]
    for node in graph.nodes[1:]:
        boxes.append(_image(node.operation, [boxes[parent] for parent in node.parents]))
    return boxes


def ends(boxes: list[Interval]) -> Bounds:
    """Return the intervals as lower and upper ends."""
    return tuple((centre - radius, centre + radius) for centre, radius in boxes)


def worst_logits(graph: Graph, boxes: list[Interval], y: Labels) -> Logits:
    """Return upper bounds of z_j − z_y, (B, K), 0 at j = y, the last affine operation folded into the differences.

    Folding is never looser than the difference of the logits' own bounds (Gowal et al. 2018, section 3).
    """
    last, label = graph.nodes[-1], functional.one_hot(y, graph.outputs).bool()
    if isinstance(last.operation, Affine) and len(last.parents) == 1:
        unit = torch.eye(graph.outputs, dtype=graph.dtype, device=y.device)
        rows = unit.unsqueeze(0) - unit[y].unsqueeze(1)
        (moved,) = last.operation.transpose(rows.reshape(-1, *last.shape))
        assert moved is not None  # noqa: S101 - an operation reads its one parent
        moved = moved.reshape(*rows.shape[:2], -1)
        centre, radius = (part.flatten(1).unsqueeze(2) for part in boxes[last.parents[0]])
        worst = (moved @ centre + moved.abs() @ radius).squeeze(2)
        if last.operation.offset is not None:
            worst = worst + rows @ last.operation.offset.flatten()
    else:
        centre, radius = (part.flatten(1) for part in boxes[-1])
        worst = centre + radius - (centre - radius).gather(1, y[:, None])
    return worst.masked_fill(label, 0.0)


def looseness(graph: Graph, boxes: list[Interval]) -> Tensor:
    """Return 1/(τm) Σ max(0, τ − r_0/r_i) over the m activations, r the mean radius of intervals, per example.

    The regulariser of Shi et al. 2021 (eq. 7).
    """
    mean = [radius.sum(tuple(range(1, radius.ndim))) / radius[0].numel() for _, radius in boxes]  # no copy, no fill
    inputs = [graph.nodes[i].parents[0] for i in graph.activations]
    gaps = [torch.relu(TIGHT - mean[0] / mean[i].clamp(min=1e-12)) for i in inputs]
    return torch.stack(gaps).mean(0) / TIGHT if gaps else torch.zeros_like(mean[0])


def _image(operation: Operation, parents: list[Interval]) -> Interval:
    """Return the interval of an operation's result."""
    assert not isinstance(operation, Input)  # noqa: S101 - only the first node is one
    if isinstance(operation, ReLU):
        return _ReLU.apply(*parents[0])  # type: ignore[no-any-return]
    if not isinstance(operation, Affine):
        return _centred(*operation.interval(*ends(parents)[0]))
    if operation.range is not None:
        return _centred(*operation.range(*ends(parents)))
    centres, radii = zip(*parents, strict=True)
    return operation.forward(*centres), operation.magnitude(*radii)


def _centred(lower: Tensor, upper: Tensor) -> Interval:
    centre = (lower + upper) * 0.5
    return centre, upper - centre


class _ReLU(torch.autograd.Function):
    """The interval of max(z, 0) in the fewest passes over memory: with the convolutions, they are what a step costs."""

    @staticmethod
    def forward(ctx: Any, centre: Tensor, radius: Tensor) -> Interval:  # noqa: ANN401 - autograd's own
        lower, upper = (centre - radius).relu_(), (centre + radius).relu_()
        ctx.save_for_backward(lower, upper)
        middle = (lower + upper).mul_(0.5)
        return middle, upper - middle

    @staticmethod
    def backward(ctx: Any, centre: Tensor, radius: Tensor) -> Interval:  # noqa: ANN401
        lower, upper = ctx.saved_tensors
        below = torch.ops.aten.threshold_backward((centre - radius).mul_(0.5), lower, 0)
        above = torch.ops.aten.threshold_backward((centre + radius).mul_(0.5), upper, 0)
        return above + below, above.sub_(below)
