"""Replay a run: every claim is checked again, by the untouched model, without the search that made it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from saddlepoint import losses, random
from saddlepoint.certificates import Evidence, Graph, certify, check_evidence, graphs_of
from saddlepoint.certificates.smoothing import SmoothedClassifier
from saddlepoint.classifier import Classifier
from saddlepoint.data.datasets import Dataset, Sample
from saddlepoint.errors import CertificateError, InputError
from saddlepoint.evaluation.records import EVIDENCE, evidence_path
from saddlepoint.evaluation.spec import Spec, ThreatModel
from saddlepoint.results import RunFolder, digest

MARGINAL = 1e-4
"""A margin, as a share of the largest logit, that another machine's rounding may turn."""
_ANOTHER = "its example is another one now"
_BOUND = 1e-6
"""By how much of itself a bound may differ when it is computed again."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One record, looked at again.

    Attributes:
        key: of the record.
        why: what does not hold; None where all does.
        marginal: whether the margin is within rounding of 0, so that another machine may disagree.
    """

    key: str
    why: str | None = None
    marginal: bool = False


def replay(run: RunFolder, classifier: Classifier, data: Dataset, share: float = 0.05) -> Iterator[Replayed]:
    """Yield what every broken record, and a seeded share of the certificates, comes to when it is checked again.

    Args:
        run: of an evaluation.
        classifier: the model, the evaluation's own or a copy of equal digest.
        data: the examples, likewise, in the form that the model takes.
        share: of the certificates that are computed again; 1 for all.

    Raises:
        InputError: the run is no evaluation, or model or data are not those that were evaluated.
    """
    spec = Spec.of({key: value for key, value in run.spec.items() if key != "keep"})
    _check_same(spec, classifier, data)
    threats = {(each.norm, each.eps): each for each in spec.threats}
    rows = [row for row in run.rows().to_pylist() if row["error"] is None]
    points = iter([row for row in rows if row["kind"] == "attack" and row["success"] and row["attack"] != "clean"])
    while chunk := list(islice(points, spec.batch_size)):
        yield from _points(run, classifier, data, chunk, threats)
    graphs = None
    for row in rows:
        chosen = random.key(spec.seed, "replay", row["key"]) % 10_000 < 10_000 * share
        if row["kind"] == "certificate" and row["lower_bound"] > 0 and chosen:
            threat = threats[row["norm"], row["eps"]]
            if spec.smoothing is not None:
                yield _votes(SmoothedClassifier(classifier=classifier, **spec.smoothing), data, row)
                continue
            graphs = graphs or graphs_of(classifier, data.shape or tuple(data.read(row["index"]).x.shape))
            evidence = evidence_path(run.path / EVIDENCE, threat, row["id"])
            yield _certificate(classifier, data, row, threat, graphs, evidence)


def _check_same(spec: Spec, classifier: Classifier, data: Dataset) -> None:
    if classifier.digest() != spec.model["digest"]:
        raise InputError(
            f"the model {classifier.name} is not the one that was evaluated ({spec.model['reference']}): their digests "
            "differ; expected that very model, or a copy: --model REF"
        )
    if digest(list(data.ids)) != spec.data["ids"]:
        raise InputError(f"{data.name} has other examples than were evaluated; expected {spec.data['reference']}")


def _points(
    run: RunFolder,
    classifier: Classifier,
    data: Dataset,
    rows: Sequence[dict[str, Any]],
    threats: dict[tuple[str, float], ThreatModel],
) -> Iterator[Replayed]:
    samples = [data.read(row["index"]) for row in rows]
    x_adv = torch.stack([torch.from_numpy(run.point(row["id"], row["eps"]).copy()) for row in rows])
    logits = classifier.predict(x_adv, box=None).logits.cpu()
    margins = losses.margin(logits, torch.tensor([row["label"] for row in rows]))
    largest = logits.abs().amax(1)
    for row, sample, point, margin, scale in zip(rows, samples, x_adv, margins, largest, strict=True):
        marginal = bool(margin.abs() <= MARGINAL * scale)
        why = _geometry(row, sample, point, threats[row["norm"], row["eps"]])
        if why is None and not marginal and float(margin) > 0:
            why = f"its point is classified as its label, by a margin of {float(margin):.4g}"
        yield Replayed(row["key"], why, marginal)


def _geometry(row: dict[str, Any], sample: Sample, point: torch.Tensor, threat: ThreatModel) -> str | None:
    """Return how a point breaks the threat model, or is of another example; None where it does not."""
    if sample.digest != row["digest"]:
        return _ANOTHER
    size = float(threat.ball.norm((point.double() - sample.x.double())[None]))
    if not size <= threat.eps:
        return f"its point lies {size:.9g} away, beyond eps {threat.eps:.9g}"
    if threat.box is not None and not bool(((point >= threat.box[0]) & (point <= threat.box[1])).all()):
        return f"its point leaves the box of pixels {threat.box}"
    return None


def _certificate(
    classifier: Classifier,
    data: Dataset,
    row: dict[str, Any],
    threat: ThreatModel,
    graphs: tuple[Graph, Graph],
    evidence: Path,
) -> Replayed:
    """Follow the evidence of a certificate, or compute it again where none was kept."""
    sample, method = data.read(row["index"]), row["method"].partition(" ")[0]
    if sample.digest != row["digest"]:
        return Replayed(row["key"], _ANOTHER)
    x, y = sample.x[None], torch.tensor([sample.y])
    if evidence.exists():
        try:
            kept = [Evidence.load(evidence)]
            bound = float(check_evidence(classifier, x, y, threat.ball, kept, box=threat.box, graphs=graphs))
        except (CertificateError, InputError) as error:
            return Replayed(row["key"], f"its evidence proves nothing: {error}")
    else:
        proof = certify(classifier, x, y, threat.ball, method=method, box=threat.box, graphs=graphs)
        bound = float(proof.lower_bound)
    return _compared(row, bound)


def _votes(smoothed: SmoothedClassifier, data: Dataset, row: dict[str, Any]) -> Replayed:
    """Vote again, with the same noise."""
    sample = data.read(row["index"])
    if sample.digest != row["digest"]:
        return Replayed(row["key"], _ANOTHER)
    found = smoothed.certify(sample.x[None], ids=[row["id"]])
    return _compared(row, float(found.radius) - row["eps"] if int(found.label) == sample.y else -math.inf)


def _compared(row: dict[str, Any], bound: float) -> Replayed:
    if not bound > 0:
        return Replayed(row["key"], f"its bound is {bound:.6g} when computed again, which proves nothing")
    if not bound >= row["lower_bound"] - _BOUND * max(1.0, abs(row["lower_bound"])) - row["tolerance"]:
        return Replayed(row["key"], f"its bound is {bound:.6g} when computed again, not {row['lower_bound']:.6g}")
    return Replayed(row["key"])
