"""`certify`: a lower bound of the worst margin of each example, proven, and what follows from it."""

import math
import time
from dataclasses import dataclass, replace
from typing import Literal, final, get_args

import torch

from saddlepoint.certificates import bounds
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.lowering import export
from saddlepoint.certificates.margins import Method, worst_margins
from saddlepoint.certificates.regions import around
from saddlepoint.classifier import DECISION, Classifier
from saddlepoint.classifier.checks import check_classes, check_images, check_labels
from saddlepoint.errors import InputError, ModelError
from saddlepoint.geometry import Ball
from saddlepoint.results.verdicts import Verdict
from saddlepoint.typing import Images, Labels, PerExample

_MOST = 64
"""Examples that are bounded together, at most."""
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
        arithmetic: "real", the semantics above; of a mixed-integer program "solver": the bound is HiGHS's,
            less more than its tolerances, and was not computed again.
        seconds: wall time of each example.
    """

    verdict: tuple[Verdict, ...]
    lower_bound: PerExample
    tolerance: PerExample
    method: str
    seconds: tuple[float, ...]
    arithmetic: Literal["real", "solver"] = "real"


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
            2018) or "alpha-crown" (Xu et al. 2021), each tighter and dearer than those before it; for small networks
            "lp" (the triangle relaxation) and "milp" (exact, Tjeng et al. 2019), in ℓ∞ and on a CPU.
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
    if method in ("lp", "milp") and not (ball.separable and classifier.device.type == "cpu"):
        raise InputError(f"method is {method!r}, which takes ℓ∞ balls on a CPU; expected those, or another method")
    images = check_images(x, box, classifier.channels).detach().to(classifier.device)
    labels = check_labels(y, len(images))
    graphs = graphs_of(classifier, tuple(images.shape[1:])) if graphs is None else graphs
    check_classes(labels, graphs[0].outputs)
    right = classifier.predict(images, box=box).label.cpu() == labels.cpu()
    radius = torch.as_tensor(ball.eps, dtype=torch.float64).expand(len(images))
    bound, tolerance = (torch.empty(len(images), dtype=torch.float64) for _ in range(2))
    seconds = list[float]()
    with DECISION.switched(classifier.device):  # the bounds of rounding are those of float32, not of TF32
        size = _together(graphs[0], method, memory)
        for part in torch.split(torch.arange(len(images)), size):
            began = time.perf_counter()
            # Rounding depends on the shape of a batch, and a bound must not depend on who else is asked about.
            rows = torch.cat([part, part[-1:].expand(size - len(part))])
            own = replace(ball, eps=radius[rows])
            found = _bounded(graphs, images[rows], labels[rows], own, box, method, memory)
            bound[part], tolerance[part] = (column[: len(part)] for column in found)
            seconds += [(time.perf_counter() - began) / len(part)] * len(part)
    verdicts = tuple(map(_verdict, right.tolist(), bound.tolist()))
    how: Literal["real", "solver"] = "solver" if method == "milp" else "real"
    return Certificates(verdicts, bound, tolerance, method, tuple(seconds), how)


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


def _together(graph: Graph, method: Method, memory: int) -> int:
    """Return how many examples are bounded in one call: all margins of each are propagated at once."""
    if method not in ("interval", "crown-ibp"):
        return 1  # these start from the neurons that one example leaves open
    widest = max(node.size for node in graph.nodes)
    return max(1, min(_MOST, memory // (8 * bounds.COPIES * widest * graph.outputs)))


def _bounded(
    graphs: tuple[Graph, Graph],
    x: Images,
    y: Labels,
    ball: Ball,
    box: tuple[float, float] | None,
    method: Method,
    memory: int,
) -> tuple[PerExample, PerExample]:
    """Return bounds and tolerances; in float64 where float32 leaves the sign open."""
    single, double = (graphs[1], None) if method in ("lp", "milp") else graphs
    least, lost = (side.cpu() for side in worst_margins(single, around(x, ball, box), y, method, memory))
    open_ = ~(least.abs() > 2 * lost.abs())
    if double is not None and bool(open_.any()):
        again, error = (side.cpu() for side in worst_margins(double, around(x, ball, box), y, method, memory))
        better = open_ & (again > least)
        least, lost = torch.where(better, again, least), torch.where(better, error, lost)
    return least, lost


def _verdict(right: bool, least: float) -> Verdict:
    if not right:
        return Verdict.FALSIFIED
    return Verdict.CERTIFIED if math.isfinite(least) and least > 0 else Verdict.UNKNOWN
