"""`certify`: a lower bound of the worst margin of each example, proven, and what follows from it."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import torch

from saddlepoint.certificates.agreement import challenge
from saddlepoint.certificates.effort import DOMAINS, MEMORY, Effort
from saddlepoint.certificates.evidence import kept_of
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.kept import kept
from saddlepoint.certificates.listing import listing_of
from saddlepoint.certificates.lowering import export
from saddlepoint.certificates.methods import METHODS, Name, Worst, worst_margins
from saddlepoint.certificates.sets import InputSet, around
from saddlepoint.classifier import DECISION, Classifier
from saddlepoint.classifier.validation import check_classes, check_images, check_labels
from saddlepoint.errors import InputError
from saddlepoint.geometry import Ball
from saddlepoint.geometry.binding import per_row
from saddlepoint.results.records.record import proves
from saddlepoint.results.records.verdicts import Verdict
from saddlepoint.typing import Images, Labels, PerExample
from saddlepoint_audit.enclosures import Region
from saddlepoint_audit.files import Refused
from saddlepoint_audit.operations import Network
from saddlepoint_audit.proofs import Hints, prove

_MOST = 64
"""Examples that are bounded together, at most,"""
_NEURONS = 2**22
"""and neurons of all of them: what is bounded together is filled up to its size, so that one image costs one image."""
_OPEN = 4
"""A sign is open up to so many tolerances from 0: ranges of neurons are widened, too, and slopes may turn with them."""


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
        domains: parts of each set that branch and bound has bounded.
        evidence: hints from which an audit proves each certificate anew (`check_evidence`), if they were asked for;
            None of what is not certified, or only by what leaves none, as solvers do.
    """

    verdict: tuple[Verdict, ...]
    lower_bound: PerExample
    tolerance: PerExample
    method: str
    seconds: tuple[float, ...]
    domains: tuple[int, ...]
    arithmetic: Literal["real"] = "real"
    evidence: tuple[Hints | None, ...] | None = None


def certify(
    classifier: Classifier,
    x: Images,
    y: Labels,
    ball: Ball,
    *,
    method: Name = "crown",
    box: tuple[float, float] | None = (0.0, 1.0),
    memory: int = MEMORY,
    timeout: float | None = None,
    domains: int = DOMAINS,
    evidence: bool = False,
    graphs: tuple[Graph, Graph] | None = None,
) -> Certificates:
    """Prove lower bounds of margins over ball ∩ box.

    Args:
        classifier: of pixels; in eval mode it must be made of affine operations and piecewise-linear activations.
        x: pixels, (B, C, H, W).
        y: their labels, (B,).
        ball: Δ: `Linf`, `L2` or `L1`, one radius or one for each example.
        method: how to bound: "interval" (Gowal et al. 2018), "crown-ibp" (Zhang et al. 2020), "crown" (Zhang et al.
            2018), "alpha-crown" (Xu et al. 2021) or "complete", branch and bound over the signs of neurons (Wang et al.
            2021), each tighter and dearer than those before it; for small networks "lp" (the triangle relaxation) and
            "milp" (exact, Tjeng et al. 2019), in ℓ∞ and on a CPU; "lipschitz", a local Lipschitz bound over CROWN's
            ranges (Weng et al. 2018).
        box: the pixels' box; None for none.
        memory: bytes that the linear functionals may take.
        timeout: seconds after which α-CROWN and integer programs try no further on an example; what they have found
            until then is a proof, but depends on the clock.
        domains: of "complete", how many parts of an example's set may be bounded.
        evidence: whether to keep the hints that `check_evidence` needs.
        graphs: of the classifier for images of this shape, as `graphs_of` returns them; looked up when not given.

    Returns:
        The certificates, computed in float64 where float32 leaves the sign to rounding.

    Raises:
        InputError: x, y or the method cannot be used.
        ModelError: the module has an operation without a rule, or computes something else than its graph.
    """
    if method not in METHODS:
        raise InputError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    METHODS[method].check(method, ball, classifier.device.type)
    Effort.within(memory, timeout, domains)  # a wrong limit is told before anything is computed
    images = check_images(x, box, classifier.channels).detach().to(classifier.device)
    labels = check_labels(y, len(images))
    graphs = graphs_of(classifier, tuple(images.shape[1:])) if graphs is None else graphs
    check_classes(labels, graphs[0].outputs)
    right = classifier.predict(images, box=box).label.cpu() == labels.cpu()
    radius, slope = per_row(ball.eps, images).cpu(), torch.zeros_like(images, dtype=torch.float64)
    bound, tolerance = (torch.empty(len(images), dtype=torch.float64) for _ in range(2))
    seconds, domains_, proofs = list[float](), list[int](), list[Hints | None]()
    # The bounds of rounding are those of sums of products in float32: not of TF32, nor of Winograd's convolutions.
    with DECISION.switched(classifier.device), torch.backends.cudnn.flags(enabled=False):
        size = 1 if evidence else _together(graphs[0], method, memory)
        for part in torch.split(torch.arange(len(images)), size):
            began = time.perf_counter()
            # Rounding depends on the shape of a batch, and a bound must not depend on who else is asked about.
            rows = torch.cat([part, part[-1:].expand(size - len(part))])
            own = replace(ball, eps=radius[rows])
            effort = Effort.within(memory, timeout, domains)
            region = around(images[rows], own, box)
            worst = _bounded(graphs, region, labels[rows], method, effort, evidence=evidence)
            bound[part], tolerance[part] = worst.least[: len(part)], worst.tolerance[: len(part)]
            slope[part] = worst.slope[: len(part)].double()
            proofs.append(worst.evidence)
            domains_ += [worst.domains] * len(part)
            seconds += [(time.perf_counter() - began) / len(part)] * len(part)
        proven = (right & (bound > 0)).nonzero().squeeze(1)
        if len(proven):
            sets = replace(ball, eps=radius[proven]).at(images[proven], *(box or (None, None)))
            there = labels[proven].to(images.device)
            shown = challenge(graphs[1], classifier, sets, there, bound[proven], slope[proven]).double().cpu()
            bound[proven] = torch.where(shown > 0, bound[proven], shown)
    verdicts = tuple(map(_verdict, right.tolist(), bound.tolist()))
    certificates = Certificates(verdicts, bound, tolerance, method, tuple(seconds), tuple(domains_))
    if not evidence:
        return certificates
    # What is kept was proven by the audit itself: nobody finds evidence that does not hold.
    tried = [hints if verdict is Verdict.CERTIFIED else None for hints, verdict in zip(proofs, verdicts, strict=True)]
    network = listing_of(classifier, tuple(images.shape[1:])).network
    kept = tuple(
        None if hints is None else kept_of(network, Region.around(one.cpu().numpy(), eps, ball.name, box), label, hints)
        for one, eps, label, hints in zip(images, radius.tolist(), labels.tolist(), tried, strict=True)
    )
    return replace(certificates, evidence=kept)


def check_evidence(
    classifier: Classifier,
    x: Images,
    y: Labels,
    ball: Ball,
    evidence: Sequence[Hints | None],
    *,
    box: tuple[float, float] | None = (0.0, 1.0),
) -> PerExample:
    """Return the least margins that hints prove, (B,), float64, computed by the audit; −∞ where they prove nothing.

    The audit (`saddlepoint_audit`) is of NumPy alone, and shares nothing with the search but the list of operations. A
    margin holds for every float32 execution of the network where that can be shown, else in real arithmetic.

    Args:
        classifier: of pixels.
        x: pixels, (B, C, H, W).
        y: their labels, (B,).
        ball: Δ, for which the evidence was found.
        evidence: hints of each example; None where there are none.
        box: the pixels' box; None for none.

    Raises:
        InputError: x or y cannot be used, or there are hints of another number of examples.
        ModelError: the module has an operation that the audit does not know.
    """
    images = check_images(x, box, classifier.channels).detach()
    labels = check_labels(y, len(images)).tolist()
    if len(evidence) != len(images):
        raise InputError(f"there is evidence of {len(evidence)} examples; expected that of each of {len(images)}")
    network = listing_of(classifier, tuple(images.shape[1:])).network
    radius = per_row(ball.eps, images).cpu().double().tolist()
    return torch.tensor(
        [
            _proven(network, Region.around(one.cpu().numpy(), eps, ball.name, box), label, hints)
            for one, label, eps, hints in zip(images, labels, radius, evidence, strict=True)
        ],
        dtype=torch.float64,
    )


def _proven(network: Network, region: Region, label: int, hints: Hints | None) -> float:
    """Return the margin that hints prove; they may come from anyone: what does not fit the network proves nothing."""
    try:
        return -math.inf if hints is None else prove(network, region, label, hints).margin
    except Refused:
        return -math.inf


def graphs_of(classifier: Classifier, shape: tuple[int, ...]) -> tuple[Graph, Graph]:
    """Return the classifier's graph in float32 and in float64, held against the module itself; see `agreement`.

    Those of the last call are kept, and given again while they are of the classifier as it is.

    Raises:
        ModelError: an operation has no rule, or module and graph differ by more than rounding explains.
    """

    def make() -> tuple[Graph, Graph]:
        program = export(classifier, shape, classifier.device)
        return program.graph(torch.float32), program.graph(torch.float64)

    return kept(classifier, shape, make)


def _together(graph: Graph, method: str, memory: int) -> int:
    """Return how many examples are bounded in one call: all margins of each are propagated at once."""
    if not METHODS[method].together:
        return 1
    together = _NEURONS // sum(node.size for node in graph.nodes)
    return max(1, min(_MOST, together, Effort(memory).most(graph, sets=graph.outputs)))


def _bounded(
    graphs: tuple[Graph, Graph], region: InputSet, y: Labels, method: str, effort: Effort, *, evidence: bool
) -> Worst:
    """Return bounds and tolerances; in float64 where float32 leaves the sign open."""
    single, double = (graphs[1], None) if METHODS[method].solver else graphs
    worst = _on_host(worst_margins(single, region, y, method, effort, evidence=evidence, double=graphs[1]))
    open_ = ~(worst.least.abs() > _OPEN * worst.tolerance.abs())
    if double is None or not bool(open_.any()):
        return worst
    again = _on_host(worst_margins(double, region, y, method, effort, evidence=evidence))
    least, tolerance = (
        torch.where(open_, new, old) for new, old in ((again.least, worst.least), (again.tolerance, worst.tolerance))
    )
    wide = open_.reshape(-1, *(1 for _ in region.lower.shape[1:])).to(again.slope.device)
    slope, domains = torch.where(wide, again.slope, worst.slope), worst.domains + again.domains
    return Worst(least, tolerance, slope, again.evidence, domains)


def _on_host(worst: Worst) -> Worst:
    return replace(worst, least=worst.least.cpu(), tolerance=worst.tolerance.cpu())


def _verdict(right: bool, least: float) -> Verdict:
    if not right:
        return Verdict.FALSIFIED
    return Verdict.CERTIFIED if proves(least) else Verdict.UNKNOWN
