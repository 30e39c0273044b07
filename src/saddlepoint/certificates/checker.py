"""Check evidence: follow each claimed bound from those before it, in float64, without search, windows or gradients.

Everything here is plain on purpose: one functional after the other would give the same. Of the rest of the package it
uses the graph, the operations' own rules and rounding, and the sets of inputs.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from saddlepoint.certificates.affine import Affine
from saddlepoint.certificates.bounds import sizes, step
from saddlepoint.certificates.crown import Ranges, flat, ranges, relax
from saddlepoint.certificates.evidence import Evidence, Pass
from saddlepoint.certificates.functionals import Dense
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.lines import Lines
from saddlepoint.certificates.methods import differences
from saddlepoint.certificates.milp import Question, program
from saddlepoint.certificates.sets import InputSet
from saddlepoint.errors import CertificateError

Known = list[tuple[Tensor, Tensor]]
_TOGETHER = 256
"""Functionals that are propagated in one call."""
_ALIKE = 1e-9
"""By how much of its size a claim may go beyond what is proven before it is refused."""


@torch.no_grad()
def check(graph: Graph, region: InputSet, label: int, evidence: Evidence) -> float:
    """Return a lower bound of min over the set of z_y − max_{j≠y} z_j that the evidence proves.

    Args:
        graph: of the classifier, in float64.
        region: the set of one input.
        label: y.
        evidence: of the search.

    Raises:
        CertificateError: a bound does not follow, or a parameter is not one that the activation allows.
    """
    known = _intervals(graph, region, [])
    for claims in evidence.passes:
        known = _intervals(graph, region, known, claims)
    rows = differences(torch.tensor([label]), graph, known[0][0])[0]
    preactivations = ranges(graph, known)
    relaxations = [(flat(graph, preactivations), rows), (relax(graph, preactivations), rows)]
    best = torch.stack([_least(graph, region, lines, known, part) for lines, part in relaxations]).amax(0)
    if evidence.slopes:
        best = torch.maximum(best, _own(graph, region, preactivations, known, rows, evidence.slopes))
    if evidence.duals:
        made = program(graph, tuple(known), exact=False)
        for place, dual in evidence.duals.items():
            asked = Question.of(made, rows[place].cpu().flatten().numpy(), graph.terms)
            bound, _ = asked.bound(dual.cpu().double().numpy())
            best[place] = torch.maximum(best[place], torch.tensor(bound, dtype=best.dtype))
    return float(best.amin())


def _intervals(graph: Graph, region: InputSet, before: Known, claims: Pass | None = None) -> Known:
    """Return bounds of every node: intervals, met with those of before, or what is claimed and follows."""
    bounds: Known = [(region.lower, region.upper)]
    for i in range(1, len(graph.nodes)):
        low, high = step(graph, bounds, i)
        if before:
            low, high = torch.maximum(low, before[i][0]), torch.minimum(high, before[i][1])
        if claims is not None and i in claims.lower:
            low, high = _claimed(graph, region, [*bounds, (low, high)], i, claims)
        bounds.append((low, high))
    return bounds


def _claimed(graph: Graph, region: InputSet, bounds: Known, i: int, claims: Pass) -> tuple[Tensor, Tensor]:
    """Return the claimed bounds of a node, once each is found to follow."""
    low, high = (side.flatten().clone() for side in bounds[i])
    wanted = [side[i].to(low).flatten() for side in (claims.lower, claims.upper)]
    if any(side.shape != low.shape for side in wanted) or any(side.isnan().any() for side in wanted):
        raise CertificateError(f"the bounds of {graph.nodes[i].name!r} have another shape, or are no numbers")
    open_ = ((wanted[0] > low) | (wanted[1] < high)).nonzero().squeeze(1)
    own = claims.neurons.get(i, open_[:0]).to(low.device)
    preactivations, lines = ranges(graph, bounds[:i]), relax(graph, ranges(graph, bounds[:i]))
    for rows in (part for part in torch.split(open_, _TOGETHER) if len(part)):
        least = _least(graph, region, lines, bounds, _units(graph, i, rows, low), i)
        low[rows] = torch.maximum(low[rows], least[: len(rows)])
        high[rows] = torch.minimum(high[rows], -least[len(rows) :])
    if len(own):
        units = _units(graph, i, own, low)
        least = _own(graph, region, preactivations, bounds, units, claims.slopes.get(i, {}), i)
        low[own] = torch.maximum(low[own], least[: len(own)])
        high[own] = torch.minimum(high[own], -least[len(own) :])
    # A bound that was found in float64 may differ by its rounding: what is proven then stands for what is claimed.
    slack = _ALIKE * (1 + torch.maximum(low.abs(), high.abs()))
    failing = ((wanted[0] > low + slack) | (wanted[1] < high - slack)).nonzero().flatten().tolist()
    if failing:
        raise CertificateError(
            f"the claimed bounds of coordinate {failing[0]} of {graph.nodes[i].name!r} do not follow: "
            f"[{float(wanted[0][failing[0]]):.9g}, {float(wanted[1][failing[0]]):.9g}] is claimed, "
            f"[{float(low[failing[0]]):.9g}, {float(high[failing[0]]):.9g}] is proven"
        )
    shape, (least, most) = bounds[i][0].shape, bounds[i]
    low, high = torch.minimum(low, wanted[0]).reshape(shape), torch.maximum(high, wanted[1]).reshape(shape)
    return torch.maximum(low, least), torch.minimum(high, most)


def _units(graph: Graph, position: int, rows: Tensor, like: Tensor) -> Tensor:
    """Return z_k, then −z_k, (2R, *shape)."""
    unit = torch.eye(graph.nodes[position].size, dtype=like.dtype, device=like.device)[rows]
    return torch.cat([unit, -unit]).reshape(-1, *graph.nodes[position].shape)


def _own(
    graph: Graph,
    region: InputSet,
    preactivations: Ranges,
    bounds: Known,
    rows: Tensor,
    slopes: Mapping[int, Tensor],
    position: int | None = None,
) -> Tensor:
    """Return the bound of each functional by parameters of its own, (S,)."""
    needed = set(graph.ancestors(len(graph.nodes) - 1 if position is None else position)) & set(graph.activations)
    parts = list[Tensor]()
    for part in torch.split(torch.arange(len(rows)), _TOGETHER):
        alpha = {i: slopes[i][part].to(rows) for i in needed if i in slopes}
        if set(alpha) != needed:
            raise CertificateError("parameters of an activation are missing")
        for i, own in alpha.items():
            if not torch.equal(graph.activation(i).clip(own), own):  # also where it is NaN
                raise CertificateError(f"parameters of {graph.nodes[i].name!r} are not allowed")
        lines = relax(graph, {i: preactivations[i] for i in needed}, alpha)
        parts.append(_propagated(graph, region, lines, bounds, rows[part].unsqueeze(1), position).squeeze(1))
    return torch.cat(parts)


def _least(
    graph: Graph, region: InputSet, lines: Mapping[int, Lines], bounds: Known, rows: Tensor, position: int | None = None
) -> Tensor:
    """Return the bound of each functional by the same lines, (S,)."""
    parts = torch.split(rows, _TOGETHER)
    return torch.cat([_propagated(graph, region, lines, bounds, part[None], position)[0] for part in parts])


def _propagated(
    graph: Graph, region: InputSet, lines: Mapping[int, Lines], bounds: Known, rows: Tensor, position: int | None
) -> Tensor:
    """Return lower bounds of functionals of a node, (B, S), less what float64 may have lost on the way."""
    start = len(graph.nodes) - 1 if position is None else position
    lost = sizes(graph.until(start), tuple(bounds[: start + 1]))
    waiting: dict[int, Tensor] = {start: rows}
    constant = rows.new_zeros(rows.shape[:2])
    for i in range(start, 0, -1):
        a = waiting.pop(i, None)
        if a is None:
            continue
        if (error := lost[i]) is not None:
            constant -= (a.abs() * error.rate.unsqueeze(1)).flatten(2).sum(2) + error.floor.unsqueeze(1)
        moved, gain = _back(graph, lines, i, a)
        constant += gain
        for parent, part in zip(graph.nodes[i].parents, moved, strict=True):
            if part is not None:
                waiting[parent] = waiting[parent] + part if parent in waiting else part
    last = waiting.get(0, rows.new_zeros(*rows.shape[:2], *graph.shape))
    return region.least(Dense(last)) + constant


def _back(
    graph: Graph, lines: Mapping[int, Lines], i: int, a: Tensor
) -> tuple[Sequence[Tensor | None], Tensor | float]:
    """Take functionals of a node to its parents; return them, and what is constant."""
    operation = graph.nodes[i].operation
    if isinstance(operation, Affine):
        moved = operation.transpose(a.flatten(0, 1))
        gain = 0.0 if operation.offset is None else (a * operation.offset).flatten(2).sum(2)
        return [None if part is None else part.reshape(*a.shape[:2], *part.shape[1:]) for part in moved], gain
    line, positive, negative = lines[i], a.clamp(min=0), a.clamp(max=0)
    constant = negative * line.upper_intercept.unsqueeze(1)
    if line.lower_intercept is not None:
        constant = constant + positive * line.lower_intercept.unsqueeze(1)
    if line.lower_slope is None or line.upper_slope is None:
        return [None], constant.flatten(2).sum(2)
    back = positive * line.lower_slope.unsqueeze(1) + negative * line.upper_slope.unsqueeze(1)
    return [back], constant.flatten(2).sum(2)
