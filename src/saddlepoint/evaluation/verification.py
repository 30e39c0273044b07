"""Verify a run: a folder is somebody's claim, and what can be computed again is.

Nothing that a record says is taken: not its tolerance, not its method, not which example it is of. Examples come from
data and specification, clean predictions and points from the untouched model, a share of the certificates and of the
searches from doing them again; which, the auditor's own randomness says.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from saddlepoint import losses, random
from saddlepoint.attacks.wrappers import EOT
from saddlepoint.certificates import Graph, Hints, certify, check_evidence, graphs_of
from saddlepoint.certificates.effort import DOMAINS
from saddlepoint.certificates.smoothing import SmoothedClassifier
from saddlepoint.classifier import Classifier
from saddlepoint.data.datasets import Dataset, Sample
from saddlepoint.errors import CertificateError, InputError, ModelError, SaddlepointError
from saddlepoint.evaluation.cascade import evaluate_shard
from saddlepoint.evaluation.claims import CLAIMS, EVIDENCE, evidence_differs, evidence_path
from saddlepoint.evaluation.earlier_run import PROBE
from saddlepoint.evaluation.job import Job
from saddlepoint.evaluation.records import (
    bound_line,
    method_line,
    votes_line,
)
from saddlepoint.evaluation.resume import complete
from saddlepoint.evaluation.spec import Spec, ThreatModel
from saddlepoint.results import Attacked, Certified, Failed, Record, RunError, RunFolder, Voted, digest
from saddlepoint.results.records.record import PROBED, SUITE, VOTES, Proof, proves
from saddlepoint_audit.files import Refused

R = TypeVar("R", bound=Attacked | Certified | Voted | Failed)
Threats = Mapping[tuple[str, float], ThreatModel]
"""By norm and radius."""
Subject = Literal["record", "prediction", "point", "evidence", "certificate", "search", "error"]
SUBJECTS: dict[Subject, str] = {
    "record": "records are of an example of the data, with its digest and label, and of this specification",
    "prediction": "clean predictions are the model's",
    "point": "points lie in the set and are misclassified",
    "evidence": "evidence is of the model, the data and the records, and proves what it is of",
    "certificate": "certificates hold when computed again",
    "search": "searches come to the same when done again",
    "error": "errors recur",
}
"""What is checked, and the words for it."""

MARGINAL = 1e-4
"""A margin, as a share of the largest logit, that another machine's rounding may turn."""
_BOUND = 1e-6
"""By how much of itself a bound may differ when it is computed again."""
_TOGETHER = 64
"""Rows of a call of the model, where the specification asks for none that can be."""
_APART = 0.1
"""By how much of the clean margin a search elsewhere may end further from the boundary than the record says it did."""
_PATIENCE = 4
"""A certificate that had a deadline gets so many times as long: this machine may be slower."""
_EXACT = ("margin", "adversarial_label", "steps", "forwards", "backwards")
"""What a search that is repeated to the last bit says again."""
_ERRORS = 16
"""Examples with an error that are tried again, at most."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One claim, looked at again.

    Attributes:
        subject: what was checked.
        key: of the record.
        why: what does not hold; None where all does.
        marginal: whether the margin is within rounding of 0, so that another machine may disagree.
        exact: whether a search was repeated to the last bit.
    """

    subject: Subject
    key: str
    why: str | None = None
    marginal: bool = False
    exact: bool = True


@dataclass(frozen=True, eq=False)
class Audit:
    """A run, the model and the data that it is of, and how much of it is done again.

    Attributes:
        run: of an evaluation.
        classifier: the model, the evaluation's own or a copy of equal digest.
        data: the examples, likewise, in the form that the model takes.
        certificates: the share that is computed again; at least one, if there are any and it is not 0.
        standing: the share of the examples that stand under attack whose search is done again; likewise.
        seed: of the auditor, who draws which.
    """

    run: RunFolder
    classifier: Classifier
    data: Dataset
    certificates: float = 0.05
    standing: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.classifier.digest() != self.spec.model["digest"]:
            weights = self.spec.model.get("weights")
            hint = f"; the run was made with --weights {weights}" if weights else ""
            raise InputError(
                f"the model {self.classifier.name} is not the one that was evaluated ({self.spec.model['reference']}): "
                "their digests differ; expected that very model, or a copy: --model REF; with --mean, --std and --bgr "
                f"as they were given to evaluate{hint}"
            )
        if digest(list(self.data.ids)) != self.spec.data["ids"]:
            raise InputError(
                f"{self.data.name} has other examples than were evaluated; expected {self.spec.data['reference']}"
            )

    @cached_property
    def spec(self) -> Spec:
        """What was asked."""
        return Spec.of({key: value for key, value in self.run.spec.items() if key != "keep"})

    @property
    def size(self) -> int:
        """Rows of a call of the model: those of the specification, if they can be."""
        return self.spec.batch_size if 1 <= self.spec.batch_size <= len(self.data) else _TOGETHER

    @cached_property
    def job(self) -> Job:
        """The evaluation, to be asked for records."""
        return Job(replace(self.spec, batch_size=self.size), self.classifier, self.data)

    def missing(self) -> list[str]:
        """Return the ids of examples that lack records, so that the run is not finished."""
        said = {record.key: record for record in self._records if not isinstance(record, Failed)}
        failed = {record.id for record in self._records if isinstance(record, Failed)}
        return [
            identity for identity in self.data.ids if identity not in failed and not complete(self.spec, identity, said)
        ]

    def checks(self) -> Iterator[Checked]:
        """Yield what every claim comes to when it is checked again, the cheap ones first."""
        records, threats = self._records, {(threat.norm, threat.eps): threat for threat in self.spec.threats}
        if self.spec.data["examples"] != len(self.data):
            said = f"the specification speaks of {self.spec.data['examples']} examples, and there are {len(self.data)}"
            yield Checked("record", "spec.json", said)
        known, sound = dict[int, tuple[str, int]](), list[Record]()
        for record in records:
            why = self._identity(record, threats, known)
            yield Checked("record", record.key, why)
            if why is None:
                sound.append(record)
        attacks = [record for record in sound if isinstance(record, Attacked)]
        proofs = [record for record in sound if isinstance(record, Certified | Voted)]
        yield from self._predictions([record for record in sound if isinstance(record, Attacked | Certified)])
        yield from self._points(attacks, threats)
        yield from self._evidence(records, [proof for proof in proofs if isinstance(proof, Certified)], threats)
        yield from self._certificates(proofs, threats)
        yield from self._searches(attacks, proofs)
        yield from self._errors([record for record in records if isinstance(record, Failed)])

    @cached_property
    def _records(self) -> list[Record]:
        return self.run.records()

    def _identity(self, record: Record, threats: Threats, known: dict[int, tuple[str, int]]) -> str | None:
        """Return why a record is not of an example of the data, or of what was asked; note the digest and the label."""
        index = record.index
        if not 0 <= index < len(self.data):
            return f"there is no example at {index}"
        if self.data.ids[index] != record.id:
            return f"the data have {self.data.ids[index]!r} at {index}"
        if (record.norm, record.eps) not in threats:
            return f"the specification does not ask for {record.norm} eps {record.eps:g}"
        if isinstance(record, Failed):
            return None
        if index not in known:
            try:
                sample = self.data.read(index)
            except InputError as error:
                return f"its example cannot be read: {error}"
            known[index] = sample.digest, sample.y
        if known[index] != (record.digest, record.label):
            return "its example has another digest or label"
        return self._attack_consistency(record) if isinstance(record, Attacked) else self._proof_consistency(record)

    def _proof_consistency(self, record: Proof) -> str | None:
        """Return what a certificate says that cannot be, or that the specification does not ask for."""
        if self.spec.smoothing is None:
            asked, line = self.spec.certify, bound_line(record.name, right=record.clean_correct)
        else:
            asked, line = (VOTES,), votes_line(self.spec.smoothing)
        if record.name not in asked or record.method != line:
            return f"the specification asks for no certificate {record.name!r:.40}, {record.method!r:.80}"
        if isinstance(record, Voted):
            return None if 0 <= record.radius < math.inf else f"its radius is {record.radius:g}"
        if not (0 <= record.tolerance < math.inf and record.lower_bound < math.inf):
            return f"its bound is {record.lower_bound:g}, its tolerance {record.tolerance:g}"
        return None

    def _attack_consistency(self, record: Attacked) -> str | None:
        """Return what an attack says that cannot be, or that the specification does not ask for."""
        probed = record.name == PROBED and (self.spec.points or {}).get("near") is not None
        line = method_line((PROBE,) if probed else self.spec.attacks(record.norm))
        if record.name not in (SUITE, PROBED) or record.method != line:
            return "its attacks are not those of the specification"
        if not self._stochastic and record.accuracy != float(not record.success):
            return f"it is right in {record.accuracy:g} of its draws, and broken: {record.success}"
        if (record.attack == "clean") != (not record.clean_correct and record.target is None):
            return f"it was broken by {record.attack}, and the clean image is right: {record.clean_correct}"
        return None

    @cached_property
    def _stochastic(self) -> bool:
        """Whether the model may be right in some draws and wrong in others."""
        return any(isinstance(step, EOT) for step in self.spec.suite)

    def _predictions(self, records: Sequence[Attacked | Certified]) -> Iterator[Checked]:
        """Predict every clean image again, at the batch shape of the evaluation; votes are counted again elsewhere."""
        places = sorted({record.index for record in records})
        known = dict[int, tuple[int, float, bool]]()
        for part in _parts(places, self.size):
            samples = [self.data.read(place) for place in part]
            x, y = torch.stack([sample.x for sample in samples]), torch.tensor([sample.y for sample in samples])
            whole = torch.cat([x, x[-1:].expand(self.size - len(x), *x.shape[1:])])
            logits = self.classifier.predict(whole, box=self.spec.threats[0].box).logits[: len(x)].cpu()
            top = logits.topk(2).values
            near = (top[:, 0] - top[:, 1]) <= MARGINAL * logits.abs().amax(1)
            labels, margins = logits.argmax(1).tolist(), losses.margin(logits, y).tolist()
            known |= dict(zip(part, zip(labels, margins, near.tolist(), strict=True), strict=True))
        for record in records:
            label, margin, marginal = known[record.index]
            right = record.clean_correct == (record.clean_label == record.label)
            same = record.clean_label == label and abs(record.clean_margin - margin) <= 1e-3 * max(1.0, abs(margin))
            holds = right and (same or marginal)
            why = None if holds else f"its clean image is of class {label}, by a margin of {margin:.4g}"
            yield Checked("prediction", record.key, why, marginal)

    def _points(self, attacks: Sequence[Attacked], threats: Threats) -> Iterator[Checked]:
        """Hold every point that was kept against the set and the untouched model."""
        for part in _parts([attacked for attacked in attacks if attacked.broken and attacked.kept], self.size):
            kept = [(attacked, self._point(attacked)) for attacked in part]
            yield from (Checked("point", attacked.key, point) for attacked, point in kept if isinstance(point, str))
            there = [(attacked, point) for attacked, point in kept if not isinstance(point, str)]
            samples = {attacked.index: self.data.read(attacked.index) for attacked, _ in there}
            alike = [(attacked, point) for attacked, point in there if point.shape == samples[attacked.index].x.shape]
            if len(alike) < len(there):
                yield Checked("point", part[0].key, "a point among these has another shape than its image")
            if not alike:
                continue
            x_adv = torch.stack([point for _, point in alike])
            logits = self.classifier.predict(x_adv, box=None).logits.cpu()
            margins = losses.margin(logits, torch.tensor([attacked.label for attacked, _ in alike]))
            largest = logits.abs().amax(1)
            for (attacked, point), margin, scale in zip(alike, margins, largest, strict=True):
                marginal = bool(margin.abs() <= MARGINAL * scale)
                why = _geometry(samples[attacked.index], point, threats[attacked.norm, attacked.eps])
                if why is None and not marginal:
                    why = self._differs(attacked, float(margin))
                yield Checked("point", attacked.key, why, marginal)

    def _differs(self, attack: Attacked, margin: float) -> str | None:
        """Return why the margin at a point is not that of its record."""
        if margin > 0:
            return f"its point is classified as its label, by a margin of {margin:.4g}"
        if not self._stochastic and abs(margin - attack.margin) > 1e-3 * max(1.0, abs(margin)):
            return f"its point has a margin of {margin:.4g}, not {attack.margin:.4g}"
        return None

    def _point(self, attack: Attacked) -> torch.Tensor | str:
        """Return the point of a record, or why there is none."""
        try:
            return torch.from_numpy(self.run.point(attack.id, attack.eps, attack.norm).copy())
        except (InputError, RunError) as error:
            return f"its point cannot be read: {error}"

    def _certificates(self, proofs: Sequence[Proof], threats: Threats) -> Iterator[Checked]:
        """Compute some of the certificates again that no evidence proves."""
        graphs: tuple[Graph, Graph] | None = None
        bare = [proof for proof in proofs if proof.proven and not self._has_hints(proof, threats)]
        for proof in self._drawn("certificate", bare, self.certificates):
            sample, threat = self.data.read(proof.index), threats[proof.norm, proof.eps]
            if isinstance(proof, Voted):
                yield self._votes(proof, sample)
                continue
            graphs = graphs or graphs_of(self.classifier, tuple(sample.x.shape))
            yield self._bound(proof, sample, threat, graphs)

    def _has_hints(self, proof: Proof, threats: Threats) -> bool:
        """Whether a certificate is proven by hints: only where the folder is one that an audit reads."""
        return (self.run.path / EVIDENCE / CLAIMS).exists() and self._hints(proof, threats).exists()

    def _hints(self, proof: Proof, threats: Threats) -> Path:
        return evidence_path(self.run.path / EVIDENCE, threats[proof.norm, proof.eps], proof.id)

    def _evidence(self, records: Sequence[Record], proofs: Sequence[Certified], threats: Threats) -> Iterator[Checked]:
        """Hold what an audit reads against model, data and records, and prove every certificate that has hints."""
        if not (self.run.path / EVIDENCE / CLAIMS).exists():
            return
        try:
            for name, why in evidence_differs(self.job, self.run.path, records):
                yield Checked("evidence", name, why)
        except (Refused, ModelError) as error:
            yield Checked("evidence", EVIDENCE, str(error))
            return
        proven = [proof for proof in proofs if proof.proven and self._has_hints(proof, threats)]
        for threat in self.spec.threats if self.certificates else ():
            own = [proof for proof in proven if (proof.norm, proof.eps) == (threat.norm, threat.eps)]
            for part in _parts(own, _TOGETHER):
                yield from self._proven(part, threat, threats)

    def _proven(self, proofs: Sequence[Certified], threat: ThreatModel, threats: Threats) -> Iterator[Checked]:
        """Prove certificates anew from their hints."""
        hints = [self._read_hints(proof, threats) for proof in proofs]
        samples = [self.data.read(proof.index) for proof in proofs]
        x, y = torch.stack([sample.x for sample in samples]), torch.tensor([sample.y for sample in samples])
        kept = [None if isinstance(read, str) else read for read in hints]
        margins = check_evidence(self.classifier, x, y, threat.ball, kept, box=threat.box).tolist()
        for proof, read, margin in zip(proofs, hints, margins, strict=True):
            why = None if proves(margin) else f"its hints prove a margin of {margin:.6g}, which is no proof"
            yield Checked("evidence", proof.key, f"it proves nothing: {read}" if isinstance(read, str) else why)

    def _read_hints(self, proof: Certified, threats: Threats) -> Hints | str:
        """Return the hints of a certificate, or why there are none."""
        try:
            return Hints.read(self._hints(proof, threats))
        except Refused as error:
            return str(error)

    def _bound(self, proof: Certified, sample: Sample, threat: ThreatModel, graphs: tuple[Graph, Graph]) -> Checked:
        x, y = sample.x[None], torch.tensor([sample.y])
        patience = None if self.spec.timeout is None else _PATIENCE * self.spec.timeout
        try:
            again = certify(
                self.classifier,
                x,
                y,
                threat.ball,
                method=proof.name,  # type: ignore[arg-type]
                box=threat.box,
                timeout=patience,
                domains=DOMAINS if self.spec.domains is None else self.spec.domains,
                graphs=graphs,
            )
        except (CertificateError, InputError) as error:
            return Checked("certificate", proof.key, f"it proves nothing: {error}")
        bound, tolerance = float(again.lower_bound), float(again.tolerance)
        if not proves(bound):
            return _proves_nothing(proof, "bound", bound)
        return _compared(proof, "bound", bound, proof.lower_bound, tolerance)

    def _votes(self, proof: Voted, sample: Sample) -> Checked:
        """Vote again, with the same noise."""
        smoothed = SmoothedClassifier(classifier=self.classifier, **(self.spec.smoothing or {}))
        vote = smoothed.certify(sample.x[None], ids=[proof.id])
        if not int(vote.label) == sample.y == proof.clean_label or not float(vote.radius) > proof.eps:
            return _proves_nothing(proof, "radius", float(vote.radius))
        return _compared(proof, "radius", float(vote.radius), proof.radius, 0.0)

    def _searches(self, attacks: Sequence[Attacked], proofs: Sequence[Proof]) -> Iterator[Checked]:
        """Search again around some of the examples that stand: nobody else can say that nothing is found."""
        if not self.spec.suite:
            return
        stood: list[Attacked | Proof] = [
            attacked for attacked in attacks if not attacked.success and attacked.name != PROBED
        ]
        stood += [proof for proof in proofs if proof.proven]
        examples = list({attacked.id: attacked for attacked in stood}.values())
        chosen = sorted({attacked.index for attacked in self._drawn("standing", examples, self.standing)})
        job = replace(self.job, spec=replace(self.job.spec, certify=(), points=None))
        renewed = (new for new, *_ in evaluate_shard(job, chosen) if isinstance(new, Attacked | Failed))
        again = {(new.id, new.norm, new.eps): new for new in renewed}
        for attacked in stood:
            if attacked.index in chosen and (new := again.get((attacked.id, attacked.norm, attacked.eps))) is not None:
                yield _searched(attacked, new)

    def _errors(self, failed: Sequence[Failed]) -> Iterator[Checked]:
        """Try some examples with an error again."""
        few = {record.index: record.key for record in reversed(self._ordered("error", failed)[:_ERRORS])}
        job = replace(self.job, spec=replace(self.job.spec, certify=self.spec.certify[:1], suite=()))
        job = job if self.spec.certify else self.job
        for index in sorted(few):
            try:
                recurs = any(isinstance(record, Failed) for record, *_ in evaluate_shard(job, [index]))
            except SaddlepointError:
                recurs = True
            yield Checked("error", few[index], None if recurs else "its error does not recur")

    def _drawn(self, what: str, records: Sequence[R], share: float) -> list[R]:
        """Draw a share of the records, at least one if it is not 0."""
        return self._ordered(what, records)[: math.ceil(share * len(records))]

    def _ordered(self, what: str, records: Sequence[R]) -> list[R]:
        return sorted(records, key=lambda record: random.key(self.seed, what, record.key))


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[begin : begin + size] for begin in range(0, len(items), size))


def _geometry(sample: Sample, point: torch.Tensor, threat: ThreatModel) -> str | None:
    """Return how a point breaks the threat model; None where it does not."""
    size = float(threat.ball.norm((point.double() - sample.x.double())[None]))
    if not size <= threat.eps:
        return f"its point lies {size:.9g} away, beyond eps {threat.eps:.9g}"
    if threat.box is not None and not bool(((point >= threat.box[0]) & (point <= threat.box[1])).all()):
        return f"its point leaves the box of pixels {threat.box}"
    return None


def _proves_nothing(proof: Proof, what: str, again: float) -> Checked:
    return Checked("certificate", proof.key, f"its {what} is {again:.6g} when computed again, which proves nothing")


def _compared(proof: Proof, what: str, again: float, before: float, tolerance: float) -> Checked:
    worse = not again >= before - _BOUND * max(1.0, abs(before)) - tolerance
    why = f"its {what} is {again:.6g} when computed again, not {before:.6g}" if worse else None
    return Checked("certificate", proof.key, why)


def _searched(before: Attacked | Proof, new: Attacked | Failed) -> Checked:
    """Compare a search with the one that the record tells of; of what is certified, nothing may break it."""
    if isinstance(new, Failed):
        return Checked("search", before.key, f"it fails when done again: {new.error}")
    if new.broken:
        return Checked("search", before.key, f"it stands, says its record, and {new.attack} breaks it")
    if not isinstance(before, Attacked):
        return Checked("search", before.key)
    exact = all(getattr(before, field) == getattr(new, field) for field in _EXACT)
    apart = before.margin - new.margin > _APART * abs(before.clean_margin)
    why = f"a search comes to a margin of {new.margin:.4g}, not {before.margin:.4g}" if apart else None
    return Checked("search", before.key, why, exact=exact)
