"""Objectives on proven bounds: what is minimised bounds the worst-case loss from above (SABR and MTL-IBP: nearly).

    worst logits  ẑ_j = max over the set of (z_j − z_y), bounded from above; ẑ_y = 0
    IBP           κ ℓ(h(x), y) + (1 − κ) ℓ(ẑ, y), ẑ by intervals                                 (Gowal et al. 2018)
    CROWN-IBP     the same, ẑ mixed from intervals and CROWN with interval ranges                (Zhang et al. 2020)
    SABR          ℓ(ẑ, y) over a cube of radius λε that an attack has placed in the ball         (Müller et al. 2023)
    MTL-IBP       α ℓ(ẑ, y) + (1 − α) ℓ(h(x + δ*), y)                                (De Palma et al. 2024, "MTL-IBP")

Bounds are differentiable in the parameters, and not widened for rounding: `sp.certify` is what proves. Inside of bounds
batch norms are in eval mode. Networks without them are the better choice, initialised as in Shi et al. 2021.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from saddlepoint.attacks import Attack
from saddlepoint.certificates import bounds, crown
from saddlepoint.certificates.affine import Affine
from saddlepoint.certificates.functionals import Dense
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.lowering import Program, export
from saddlepoint.certificates.regions import Box, InputSet, around
from saddlepoint.classifier import Classifier
from saddlepoint.geometry import Ball
from saddlepoint.training.objectives import Precision, Terms, searched
from saddlepoint.typing import Images, Keys, Labels, Logits, Mask

TIGHT = 0.5
"""τ of the regulariser: how far the mean radius of a layer's intervals may exceed that of the input, as 1/τ."""


def program_of(classifier: Classifier, shape: tuple[int, ...]) -> Program:
    """Return the classifier as a program, once, whose graphs then follow its weights; for images of shape (C, H, W)."""
    return export(classifier, shape, classifier.device)


def ibp(
    classifier: Classifier,
    x: Images,
    y: Labels,
    *,
    ball: Ball,
    program: Program,
    kappa: float = 0.5,
    tightness: float = 0.0,
    smoothing: float = 0.0,
) -> Terms:
    """Return κ ℓ(h(x), y) + (1 − κ) ℓ(ẑ, y), plus `tightness` times the regulariser of Shi et al. 2021 (eq. 7)."""
    graph, known, worst = _intervals(program, around(x, ball, (0.0, 1.0)), y)
    loss, right = _mixed(classifier, x, y, worst, kappa, smoothing)
    if tightness > 0:
        loss = loss + tightness * _looseness(graph, known)
    return Terms(loss, right)


def crown_ibp(
    classifier: Classifier,
    x: Images,
    y: Labels,
    *,
    ball: Ball,
    program: Program,
    kappa: float = 0.5,
    beta: float = 0.0,
    smoothing: float = 0.0,
) -> Terms:
    """Return the objective of IBP with margins (1 − β)·intervals + β·CROWN; β usually falls from 1 to 0."""
    region = around(x, ball, (0.0, 1.0))
    graph, known, worst = _intervals(program, region, y)
    if beta > 0:
        worst = (1 - beta) * worst + beta * _by_crown(graph, region, known, y)
    return Terms(*_mixed(classifier, x, y, worst, kappa, smoothing))


def sabr(
    classifier: Classifier,
    x: Images,
    y: Labels,
    *,
    ball: Ball,
    attack: Attack,
    program: Program,
    share: float = 0.4,
    key: Keys | None = None,
    smoothing: float = 0.0,
    precision: Precision = "fp32",
    x_adv: Images | None = None,
) -> Terms:
    """Return ℓ(ẑ, y) over a cube of radius λε, λ the `share`, around a point of the (1 − λ)ε ball from an attack."""
    radius = torch.as_tensor(ball.eps).item()
    if x_adv is None:
        x_adv = searched(classifier, x, y, ball, attack, key, precision)
    reach = (1 - share) * radius
    centre = x + (x_adv - x).clamp(-reach, reach)
    low, high = (centre - share * radius).clamp(0, 1), (centre + share * radius).clamp(0, 1)
    *_, worst = _intervals(program, Box(low.double(), high.double()), y)
    loss = functional.cross_entropy(worst, y, reduction="none", label_smoothing=smoothing)
    return Terms(loss, {"certified": _proven(worst, y)}, x_adv)


def mtl_ibp(
    classifier: Classifier,
    x: Images,
    y: Labels,
    *,
    ball: Ball,
    attack: Attack,
    program: Program,
    share: float = 0.5,
    key: Keys | None = None,
    smoothing: float = 0.0,
    precision: Precision = "fp32",
    x_adv: Images | None = None,
) -> Terms:
    """Return α ℓ(ẑ, y) + (1 − α) ℓ(h(x + δ*), y), α the `share`."""
    if x_adv is None:
        x_adv = searched(classifier, x, y, ball, attack, key, precision)
    *_, worst = _intervals(program, around(x, ball, (0.0, 1.0)), y)
    moved = classifier(x_adv)
    proven = functional.cross_entropy(worst, y, reduction="none", label_smoothing=smoothing)
    attacked = functional.cross_entropy(moved, y, reduction="none", label_smoothing=smoothing)
    right = {"certified": _proven(worst, y), "robust": moved.detach().argmax(1) == y}
    return Terms(share * proven + (1 - share) * attacked, right, x_adv)


def _intervals(program: Program, region: InputSet, y: Labels) -> tuple[Graph, bounds.Bounds, Logits]:
    """Return the graph at the present weights, the interval bounds of its nodes, and the worst logits."""
    graph = program.graph(live=torch.is_grad_enabled())
    known = bounds.interval(graph, region, graph.dtype, rounding=False)
    return graph, known, worst_logits(graph, known, y)


def worst_logits(graph: Graph, known: bounds.Bounds, y: Labels) -> Logits:
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
        low, high = (side.flatten(1).unsqueeze(2) for side in known[last.parents[0]])
        worst = (moved.clamp(min=0) @ high + moved.clamp(max=0) @ low).squeeze(2)
        if last.operation.offset is not None:
            worst = worst + rows @ last.operation.offset.flatten()
    else:
        low, high = (side.flatten(1) for side in known[-1])
        worst = high - low.gather(1, y[:, None])
    return worst.masked_fill(label, 0.0)


def init_for_intervals(module: nn.Module) -> None:
    """Draw weights for which the radii of intervals neither grow nor shrink: deviation √(2π)/n_in (Shi et al. 2021)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            inputs = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=math.sqrt(2 * math.pi) / inputs)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def certified(classifier: Classifier, program: Program, x: Images, y: Labels, ball: Ball) -> Mask:
    """Return where intervals show that the ball holds no misclassified point, up to rounding: a measure of progress."""
    with torch.no_grad():
        *_, worst = _intervals(program, around(x, ball, (0.0, 1.0)), y)
        return _proven(worst, y)


def _mixed(
    classifier: Classifier, x: Images, y: Labels, worst: Logits, kappa: float, smoothing: float
) -> tuple[Tensor, dict[str, Mask]]:
    proven = functional.cross_entropy(worst, y, reduction="none", label_smoothing=smoothing)
    with torch.set_grad_enabled(kappa > 0 and torch.is_grad_enabled()):  # at κ = 0 it is a measure only
        logits = classifier(x)
        clean = functional.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)
    right = {"clean": logits.detach().argmax(1) == y, "certified": _proven(worst, y)}
    return kappa * clean + (1 - kappa) * proven, right


def _proven(worst: Logits, y: Labels) -> Mask:
    """Return where every other class stays below the label."""
    return (worst.detach().scatter(1, y[:, None], -torch.inf) < 0).all(1)


def _by_crown(graph: Graph, region: InputSet, known: bounds.Bounds, y: Labels) -> Logits:
    """Return upper bounds of z_j − z_y by CROWN, with ranges by intervals."""
    unit = torch.eye(graph.outputs, dtype=graph.dtype, device=y.device)
    rows = (unit[y].unsqueeze(1) - unit.unsqueeze(0)).reshape(len(y), graph.outputs, *graph.nodes[-1].shape)
    lines = crown.relax(graph, crown.ranges(graph, known))
    least = crown.backward(graph, lines, len(graph.nodes) - 1, Dense(rows)).least(region).to(graph.dtype)
    return (-least).scatter(1, y[:, None], 0.0)


def _looseness(graph: Graph, known: bounds.Bounds) -> Tensor:
    """Return 1/(τm) Σ max(0, τ − r_0/r_i) over the m activations, r the mean radius of intervals, per example."""

    def radius(position: int) -> Tensor:
        low, high = known[position]
        return (high - low).flatten(1).mean(1) / 2

    inputs = [graph.nodes[i].parents[0] for i in graph.activations]
    first = radius(0)
    gaps = [torch.relu(TIGHT - first / radius(i).clamp(min=1e-12)) for i in inputs]
    return torch.stack(gaps).mean(0) / TIGHT if gaps else torch.zeros_like(first)
