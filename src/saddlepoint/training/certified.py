"""Objectives on proven bounds: what is minimised bounds the worst-case loss from above (SABR and MTL-IBP: nearly).

    worst logits  ẑ_j = max over the set of (z_j − z_y), bounded from above; ẑ_y = 0
    IBP           κ ℓ(h(x), y) + (1 − κ) ℓ(ẑ, y), ẑ by intervals                                 (Gowal et al. 2018)
    CROWN-IBP     the same, ẑ mixed from intervals and CROWN with interval ranges                (Zhang et al. 2020)
    SABR          ℓ(ẑ, y) over a cube of radius λε that an attack has placed in the ball         (Müller et al. 2023)
    MTL-IBP       α ℓ(ẑ, y) + (1 − α) ℓ(h(x + δ*), y)                                (De Palma et al. 2024, "MTL-IBP")

Bounds are differentiable in the parameters, and not widened for rounding: `sp.certify` is what proves. Batch norms in
train mode normalise inside of bounds by the statistics of the batch's clean images (Shi et al. 2021, section 3.3).
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from saddlepoint.attacks import Attack
from saddlepoint.certificates import crown
from saddlepoint.certificates.bounds import Bounds
from saddlepoint.certificates.functionals import Dense
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.lowering import Program, export
from saddlepoint.certificates.sets import Box, InputSet, around
from saddlepoint.classifier import Classifier
from saddlepoint.geometry import Ball
from saddlepoint.training.intervals import Interval, ends, intervals, looseness, worst_logits
from saddlepoint.training.objectives import Precision, Terms, searched
from saddlepoint.typing import Images, Keys, Labels, Logits, Mask


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
    """Return κ ℓ(h(x), y) + (1 − κ) ℓ(ẑ, y), plus `tightness` times the regulariser of Shi et al. 2021 (eq. 7).

    Args:
        classifier: of pixels, in the mode in which it is to be trained.
        x: pixels, (B, C, H, W).
        y: labels, (B,).
        ball: Δ, before the box of pixels.
        program: the network, from `program_of`.
        kappa: weight of the clean loss.
        tightness: weight of the regulariser.
        smoothing: the share of the label that is spread over all classes.
    """
    logits, statistics = _clean(classifier, x, graded=kappa > 0)
    graph, boxes, worst = _intervals(program, around(x, ball, (0.0, 1.0)), y, statistics)
    loss, right = _mixed(logits, y, worst, kappa, smoothing)
    if tightness > 0:
        loss = loss + tightness * looseness(graph, boxes)
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
    """Return the objective of IBP with margins (1 − β)·intervals + β·CROWN; β usually falls from 1 to 0.

    Args:
        classifier: of pixels, in the mode in which it is to be trained.
        x: pixels, (B, C, H, W).
        y: labels, (B,).
        ball: Δ, before the box of pixels.
        program: the network, from `program_of`.
        kappa: weight of the clean loss.
        beta: weight of CROWN; of intervals it is 1 − β.
        smoothing: the share of the label that is spread over all classes.
    """
    region = around(x, ball, (0.0, 1.0))
    logits, statistics = _clean(classifier, x, graded=kappa > 0)
    graph, boxes, worst = _intervals(program, region, y, statistics)
    if beta > 0:
        worst = (1 - beta) * worst + beta * _by_crown(graph, region, ends(boxes), y)
    return Terms(*_mixed(logits, y, worst, kappa, smoothing))


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
    """Return ℓ(ẑ, y) over a cube of radius λε, λ the `share`, around a point of the (1 − λ)ε ball from an attack.

    Args:
        classifier: of pixels, in the mode in which it is to be trained.
        x: pixels, (B, C, H, W).
        y: labels, (B,).
        ball: Δ, before the box of pixels.
        attack: the inner maximisation.
        program: the network, from `program_of`.
        share: λ.
        key: the random stream of each example, (B,); their places in the batch when not given.
        smoothing: the share of the label that is spread over all classes.
        precision: of the inner maximisation: "fp32", or "bf16" by autocast.
        x_adv: points that were found already, in place of an inner maximisation.
    """
    radius = torch.as_tensor(ball.eps).item()
    if x_adv is None:
        x_adv = searched(classifier, x, y, ball, attack, key, precision)
    reach = (1 - share) * radius
    centre = x + (x_adv - x).clamp(-reach, reach)
    low, high = (centre - share * radius).clamp(0, 1), (centre + share * radius).clamp(0, 1)
    logits, statistics = _clean(classifier, x)
    *_, worst = _intervals(program, Box(low.double(), high.double()), y, statistics)
    loss = functional.cross_entropy(worst, y, reduction="none", label_smoothing=smoothing)
    return Terms(loss, _right(logits, worst, y), x_adv)


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
    """Return α ℓ(ẑ, y) + (1 − α) ℓ(h(x + δ*), y), α the `share`.

    Args:
        classifier: of pixels, in the mode in which it is to be trained.
        x: pixels, (B, C, H, W).
        y: labels, (B,).
        ball: Δ, before the box of pixels.
        attack: the inner maximisation.
        program: the network, from `program_of`.
        share: α.
        key: the random stream of each example, (B,); their places in the batch when not given.
        smoothing: the share of the label that is spread over all classes.
        precision: of the inner maximisation: "fp32", or "bf16" by autocast.
        x_adv: points that were found already, in place of an inner maximisation.
    """
    if x_adv is None:
        x_adv = searched(classifier, x, y, ball, attack, key, precision)
    logits, statistics = _clean(classifier, x)
    *_, worst = _intervals(program, around(x, ball, (0.0, 1.0)), y, statistics)
    moved = classifier(x_adv)
    proven = functional.cross_entropy(worst, y, reduction="none", label_smoothing=smoothing)
    attacked = functional.cross_entropy(moved, y, reduction="none", label_smoothing=smoothing)
    right = _right(logits, worst, y) | {"robust": moved.detach().argmax(1) == y}
    return Terms(share * proven + (1 - share) * attacked, right, x_adv)


def _intervals(
    program: Program, region: InputSet, y: Labels, statistics: Mapping[Tensor, Tensor] | None = None
) -> tuple[Graph, list[Interval], Logits]:
    """Return the graph at the present weights, the intervals of its nodes, and the worst logits."""
    graph = program.graph(live=torch.is_grad_enabled(), instead=statistics)
    boxes = intervals(graph, region)
    return graph, boxes, worst_logits(graph, boxes, y)


def _clean(classifier: Classifier, x: Images, *, graded: bool = False) -> tuple[Logits, Mapping[Tensor, Tensor]]:
    """Return h(x), and by what each batch norm in train mode has normalised, instead of its running statistics.

    Without batch norms to differentiate, logits that are not `graded` are a measure only, and have no gradient.
    """
    statistics: dict[Tensor, Tensor] = {}

    def keep(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        axes = [0, *range(2, inputs[0].ndim)]
        statistics[layer.get_buffer("running_mean")] = inputs[0].mean(axes)
        statistics[layer.get_buffer("running_var")] = inputs[0].var(axes, correction=0)

    norms = [layer for layer in classifier.modules() if isinstance(layer, _BatchNorm) and layer.training]
    hooks = [layer.register_forward_pre_hook(keep) for layer in norms if layer.track_running_stats]
    try:
        with torch.set_grad_enabled(torch.is_grad_enabled() and (graded or bool(hooks))):
            return classifier(x), statistics
    finally:
        for hook in hooks:
            hook.remove()


def init_for_intervals(module: nn.Module) -> None:
    """Draw weights for which the radii of intervals neither grow nor shrink: deviation √(2π)/n_in (Shi et al. 2021)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            inputs = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=math.sqrt(2 * math.pi) / inputs)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def certified(classifier: Classifier, program: Program, x: Images, y: Labels, ball: Ball) -> Mask:
    """Return where intervals show that the ball holds no misclassified point, up to rounding: a measure of progress.

    Args:
        classifier: the network.
        program: its graph, which intervals are propagated through.
        x: images in [0, 1], (B, C, H, W).
        y: labels, (B,).
        ball: the set of perturbations.
    """
    with torch.no_grad():
        *_, worst = _intervals(program, around(x, ball, (0.0, 1.0)), y)
        return _proven(worst, y)


def _mixed(logits: Logits, y: Labels, worst: Logits, kappa: float, smoothing: float) -> tuple[Tensor, dict[str, Mask]]:
    proven = functional.cross_entropy(worst, y, reduction="none", label_smoothing=smoothing)
    clean = functional.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing) if kappa > 0 else 0
    return kappa * clean + (1 - kappa) * proven, _right(logits, worst, y)


def _right(logits: Logits, worst: Logits, y: Labels) -> dict[str, Mask]:
    return {"clean": logits.detach().argmax(1) == y, "certified": _proven(worst, y)}


def _proven(worst: Logits, y: Labels) -> Mask:
    """Return where every other class stays below the label."""
    return (worst.detach().scatter(1, y[:, None], -torch.inf) < 0).all(1)


def _by_crown(graph: Graph, region: InputSet, known: Bounds, y: Labels) -> Logits:
    """Return upper bounds of z_j − z_y by CROWN, with ranges by intervals."""
    unit = torch.eye(graph.outputs, dtype=graph.dtype, device=y.device)
    rows = (unit[y].unsqueeze(1) - unit.unsqueeze(0)).reshape(len(y), graph.outputs, *graph.nodes[-1].shape)
    lines = crown.relax(graph, crown.ranges(graph, known))
    least = crown.backward(graph, lines, len(graph.nodes) - 1, Dense(rows)).least(region).to(graph.dtype)
    return (-least).scatter(1, y[:, None], 0.0)
