"""`certify`: a lower bound of the worst margin of each example, proven, and what follows from it."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final, get_args

import torch

from saddlepoint.certificates import bounds
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.lowering import export
from saddlepoint.certificates.margins import Method, worst_margin
from saddlepoint.certificates.regions import InputSet, around
from saddlepoint.classifier import Classifier, arithmetic
from saddlepoint.classifier.checks import check_classes, check_images, check_labels
from saddlepoint.errors import InputError, ModelError
from saddlepoint.geometry import Ball
from saddlepoint.results.verdicts import Verdict
from saddlepoint.typing import Images, Labels, PerExample

_ALIKE = 1e-3
"""How far the graph's logits may lie from the module's, as a share of the largest: rounding, not another function."""


@final
@dataclass(frozen=True, eq=False)
class Certificates:
    """What is proven of B examples.

    The semantics are real arithmetic: the network with its float32 weights read as real numbers, over every real point
    of ball ∩ box. What the computation of a bound may have lost to rounding is taken off it, so that no further
    tolerance is needed: `lower_bound` > 0 proves.

    Attributes:
        verdict: CERTIFIED, FALSIFIED (x itself is misclassified) or UNKNOWN, B of them.
        lower_bound: proven least margin z_y − max_{j≠y} z_j over the set, (B,), float64; −inf where none was found.
        tolerance: what was taken off for rounding, (B,).
        method: how it was proven.
        arithmetic: "real", the semantics above.
        seconds: wall time of each example.
    """

    verdict: tuple[Verdict, ...]
    lower_bound: PerExample
    tolerance: PerExample
    method: str
    seconds: tuple[float, ...]
    arithmetic: Literal["real"] = "real"


def certify(
    classifier: Classifier,
    x: Images,
    y: Labels,
    ball: Ball,
    *,
    method: Method = "crown",
    box: tuple[float, float] | None = (0.0, 1.0),
    memory: int = bounds.BUDGET,
    graphs: tuple[Graph, Graph] | None = None,
) -> Certificates:
    """Prove lower bounds of margins over ball ∩ box.

    Args:
        classifier: of pixels; in eval mode it must be made of affine operations and piecewise-linear activations.
        x: pixels, (B, C, H, W).
        y: their labels, (B,).
        ball: Δ: `Linf`, `L2` or `L1`, one radius or one for each example.
        method: how to bound: "interval" (Gowal et al. 2018), "crown-ibp" (Zhang et al. 2020), "crown" (Zhang et al.
            2018) or "alpha-crown" (Xu et al. 2021), each tighter and dearer than those before it.
        box: the pixels' box; None for none.
        memory: bytes that the linear functionals may take.
        graphs: of the classifier for images of this shape, as `graphs_of` made them; made anew when not given.

    Returns:
        The certificates, computed in float64 where float32 leaves the sign to rounding.

    Raises:
        InputError: x, y or the method cannot be used.
        ModelError: the module has an operation without a rule, or computes something else than its graph.
    """
    if method not in get_args(Method):
        raise InputError(f"method is {method!r}; expected one of {', '.join(get_args(Method))}")
    images = check_images(x, box, classifier.channels).detach().to(classifier.device)
    labels = check_labels(y, len(images))
    graphs = graphs_of(classifier, tuple(images.shape[1:])) if graphs is None else graphs
    check_classes(labels, graphs[0].outputs)
    right = classifier.predict(images, box=box).label.cpu() == labels.cpu()
    radius = torch.as_tensor(ball.eps, dtype=torch.float64).expand(len(images))
    rows, seconds = [], list[float]()
    with arithmetic("fp32", classifier.device):  # the bounds of rounding are those of float32, not of TF32
        for i in range(len(images)):
            began = time.perf_counter()
            region = around(images[i : i + 1], replace(ball, eps=float(radius[i])), box)
            rows.append(_one(graphs, region, int(labels[i]), bool(right[i]), method, memory))
            seconds.append(time.perf_counter() - began)
    verdicts, lower, lost = zip(*rows, strict=True)
    bound, tolerance = (torch.tensor(column, dtype=torch.float64) for column in (lower, lost))
    return Certificates(verdicts, bound, tolerance, method, tuple(seconds))


def graphs_of(classifier: Classifier, shape: tuple[int, ...]) -> tuple[Graph, Graph]:
    """Return the classifier's graph in float32 and in float64, held against the module itself at random pixels.

    Raises:
        ModelError: an operation has no rule, or module and graph differ by more than rounding explains.
    """
    program = export(classifier, shape, classifier.device)
    single, double = program.graph(torch.float32), program.graph(torch.float64)
    pixels = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0)).to(classifier.device)
    with torch.no_grad():
        expected = classifier.predict(pixels).logits.double()
        gap = (double(pixels.double()) - expected).abs().max()
    if not bool(gap <= _ALIKE * expected.abs().max()):
        raise ModelError(
            f"the graph's logits differ by {float(gap):.3g} from the module's, whose largest is "
            f"{float(expected.abs().max()):.3g}; expected one function: does the module compute with constants of its "
            "own, or differently in each call?"
        )
    return single, double


def _one(
    graphs: Sequence[Graph], region: InputSet, label: int, right: bool, method: Method, memory: int
) -> tuple[Verdict, float, float]:
    """Return the verdict of one example, its bound and its tolerance; in float64 if float32 leaves the sign open."""
    least, lost = worst_margin(graphs[0], region, label, method, memory)
    if not abs(least) > 2 * abs(lost):
        least, lost = max((least, lost), worst_margin(graphs[1], region, label, method, memory))
    if not right:
        return Verdict.FALSIFIED, least, lost
    return Verdict.CERTIFIED if math.isfinite(least) and least > 0 else Verdict.UNKNOWN, least, lost
