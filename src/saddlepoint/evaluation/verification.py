"""Verify a run: a folder is somebody's claim, and what can be computed again is.

Nothing that a record says is taken: not its tolerance, not its method, not which example it is of. Examples come from
data and specification, clean predictions and points from the untouched model, a share of the certificates and of the
searches from doing them again; which, the auditor's own randomness says.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch

from saddlepoint import losses, random
from saddlepoint.attacks.wrappers import EOT
from saddlepoint.certificates import Evidence, Graph, certify, check_evidence, graphs_of
from saddlepoint.certificates.smoothing import SmoothedClassifier
from saddlepoint.classifier import Classifier
from saddlepoint.data.datasets import Dataset, Sample
from saddlepoint.errors import CertificateError, InputError, SaddlepointError
from saddlepoint.evaluation.job import Job
from saddlepoint.evaluation.records import EVIDENCE, evidence_path, method_line
from saddlepoint.evaluation.settled import complete
from saddlepoint.evaluation.shard import REAL, evaluate_shard, nothing_to_prove
from saddlepoint.evaluation.smoothed import method_of
from saddlepoint.evaluation.spec import Spec, ThreatModel
from saddlepoint.evaluation.transfer import PROBE
from saddlepoint.results import RunError, RunFolder, digest
from saddlepoint.results.schema import key_of

Threats = Mapping[tuple[str, float], ThreatModel]
"""By norm and radius."""
Subject = Literal["record", "prediction", "point", "certificate", "search", "error"]
SUBJECTS: dict[Subject, str] = {
    "record": "records are of an example of the data, with its digest and label, and of this specification",
    "prediction": "clean predictions are the model's",
    "point": "points lie in the set and are misclassified",
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
            given = self.spec.model.get("weights")
            hint = f"; the run was made with --weights {given}" if given else ""
            raise InputError(
                f"the model {self.classifier.name} is not the one that was evaluated ({self.spec.model['reference']}): "
                f"their digests differ; expected that very model, or a copy: --model REF{hint}"
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
        rows = {row["key"]: row for row in self._rows if row["error"] is None}
        failed = {row["id"] for row in self._rows if row["error"] is not None}
        return [each for each in self.data.ids if each not in failed and not complete(self.job, each, rows)]

    def checks(self) -> Iterator[Checked]:
        """Yield what every claim comes to when it is checked again, the cheap ones first."""
        rows, threats = self._rows, {(each.norm, each.eps): each for each in self.spec.threats}
        if self.spec.data["examples"] != len(self.data):
            said = f"the specification speaks of {self.spec.data['examples']} examples, and there are {len(self.data)}"
            yield Checked("record", "spec.json", said)
        known, sound = dict[int, tuple[str, int]](), list[dict[str, Any]]()
        for row in rows:
            why = self._identity(row, threats, known)
            yield Checked("record", row["key"], why)
            if why is None and row["error"] is None:
                sound.append(row)
        yield from self._predictions(sound)
        yield from self._points(sound, threats)
        yield from self._certificates(sound, threats)
        yield from self._searches(sound)
        yield from self._errors([row for row in rows if row["error"] is not None])

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run.rows().to_pylist()
        return found

    def _identity(self, row: Mapping[str, Any], threats: Threats, known: dict[int, tuple[str, int]]) -> str | None:
        """Return why a record is not of an example of the data, or of what was asked; note the digest and the label."""
        index = row["index"]
        if not 0 <= index < len(self.data):
            return f"there is no example at {index}"
        if self.data.ids[index] != row["id"]:
            return f"the data have {self.data.ids[index]!r} at {index}"
        if (row["norm"], row["eps"]) not in threats or row["key"] != key_of(row):
            return f"the specification does not ask for {row['norm']} eps {row['eps']:g}"
        if row["error"] is not None:
            return None
        if index not in known:
            try:
                sample = self.data.read(index)
            except InputError as error:
                return f"its example cannot be read: {error}"
            known[index] = sample.digest, sample.y
        if known[index] != (row["digest"], row["label"]):
            return "its example has another digest or label"
        return self._consistency(row)

    def _consistency(self, row: Mapping[str, Any]) -> str | None:
        """Return what one record says that cannot be, or that the specification does not."""
        if row["kind"] == "certificate":
            if row["method"] not in self._methods:
                return f"the specification asks for no certificate {row['method']!r:.80}"
            if not (0 <= row["tolerance"] < math.inf and row["lower_bound"] < math.inf):
                return f"its bound is {row['lower_bound']:g}, its tolerance {row['tolerance']:g}"
            return None
        if row["method"] != method_line(self.spec.suite) and not self._probed(row):
            return "its attacks are not those of the specification"
        if not self._stochastic and row["accuracy"] != float(not row["success"]):
            return f"it is right in {row['accuracy']:g} of its draws, and broken: {row['success']}"
        if (row["attack"] == "clean") != (not row["clean_correct"] and row["target"] is None):
            return f"it was broken by {row['attack']}, and the clean image is right: {row['clean_correct']}"
        return None

    @cached_property
    def _methods(self) -> set[str]:
        """What the records of certificates may call their method."""
        if self.spec.smoothing is not None:
            return {method_of(self.spec.smoothing)}
        return {line for method in self.spec.certify for line in (f"{method}{REAL}", nothing_to_prove(method))}

    def _probed(self, row: Mapping[str, Any]) -> bool:
        """Tell whether a record is of a short probe, which the specification must ask for."""
        near = (self.spec.points or {}).get("near") is not None
        return near and str(row["method"]).startswith(method_line((PROBE,)))

    @cached_property
    def _stochastic(self) -> bool:
        """Whether the model may be right in some draws and wrong in others."""
        return any(isinstance(step, EOT) for step in self.spec.suite)

    def _predictions(self, rows: Sequence[dict[str, Any]]) -> Iterator[Checked]:
        """Predict every clean image again, at the batch shape of the evaluation."""
        if self.spec.smoothing is not None:
            return  # these are votes, which are counted again with the certificates
        places = sorted({row["index"] for row in rows})
        known = dict[int, tuple[int, float, bool]]()
        for part in _parts(places, self.size):
            samples = [self.data.read(place) for place in part]
            x, y = torch.stack([each.x for each in samples]), torch.tensor([each.y for each in samples])
            whole = torch.cat([x, x[-1:].expand(self.size - len(x), *x.shape[1:])])
            logits = self.classifier.predict(whole, box=self.spec.threats[0].box).logits[: len(x)].cpu()
            top = logits.topk(2).values
            near = (top[:, 0] - top[:, 1]) <= MARGINAL * logits.abs().amax(1)
            labels, margins = logits.argmax(1).tolist(), losses.margin(logits, y).tolist()
            known |= dict(zip(part, zip(labels, margins, near.tolist(), strict=True), strict=True))
        for row in rows:
            label, margin, marginal = known[row["index"]]
            right = row["clean_correct"] == (row["clean_label"] == row["label"])
            same = row["clean_label"] == label and abs(row["clean_margin"] - margin) <= 1e-3 * max(1.0, abs(margin))
            holds = right and (same or marginal)
            why = None if holds else f"its clean image is of class {label}, by a margin of {margin:.4g}"
            yield Checked("prediction", row["key"], why, marginal)

    def _points(
        self,
        rows: Sequence[dict[str, Any]],
        threats: Threats,
    ) -> Iterator[Checked]:
        """Hold every point that was kept against the set and the untouched model."""
        broken = [row for row in rows if row["kind"] == "attack" and row["success"] and row["attack"] != "clean"]
        for part in _parts([row for row in broken if row["kept"]], self.size):
            found = [(row, self._point(row)) for row in part]
            yield from (Checked("point", row["key"], point) for row, point in found if isinstance(point, str))
            there = [(row, point) for row, point in found if not isinstance(point, str)]
            samples = {row["index"]: self.data.read(row["index"]) for row, _ in there}
            alike = [(row, point) for row, point in there if point.shape == samples[row["index"]].x.shape]
            if len(alike) < len(there):
                yield Checked("point", part[0]["key"], "a point among these has another shape than its image")
            if not alike:
                continue
            x_adv = torch.stack([point for _, point in alike])
            logits = self.classifier.predict(x_adv, box=None).logits.cpu()
            margins = losses.margin(logits, torch.tensor([row["label"] for row, _ in alike]))
            largest = logits.abs().amax(1)
            for (row, point), margin, scale in zip(alike, margins, largest, strict=True):
                marginal = bool(margin.abs() <= MARGINAL * scale)
                why = _geometry(samples[row["index"]], point, threats[row["norm"], row["eps"]])
                if why is None and not marginal:
                    why = self._differs(row, float(margin))
                yield Checked("point", row["key"], why, marginal)

    def _differs(self, row: Mapping[str, Any], margin: float) -> str | None:
        """Return why the margin at a point is not that of its record."""
        if margin > 0:
            return f"its point is classified as its label, by a margin of {margin:.4g}"
        if not self._stochastic and abs(margin - row["margin"]) > 1e-3 * max(1.0, abs(margin)):
            return f"its point has a margin of {margin:.4g}, not {row['margin']:.4g}"
        return None

    def _point(self, row: Mapping[str, Any]) -> torch.Tensor | str:
        """Return the point of a record, or why there is none."""
        try:
            return torch.from_numpy(self.run.point(row["id"], row["eps"]).copy())
        except (InputError, RunError) as error:
            return f"its point cannot be read: {error}"

    def _certificates(
        self,
        rows: Sequence[dict[str, Any]],
        threats: Threats,
    ) -> Iterator[Checked]:
        """Follow the evidence of some certificates, or compute them again where none was kept."""
        proven = [row for row in rows if row["kind"] == "certificate" and row["lower_bound"] > 0]
        graphs: tuple[Graph, Graph] | None = None
        for row in self._drawn("certificate", proven, self.certificates):
            sample, threat = self.data.read(row["index"]), threats[row["norm"], row["eps"]]
            if self.spec.smoothing is not None:
                yield self._votes(row, sample)
                continue
            graphs = graphs or graphs_of(self.classifier, tuple(sample.x.shape))
            yield self._certificate(row, sample, threat, graphs)

    def _certificate(
        self, row: Mapping[str, Any], sample: Sample, threat: ThreatModel, graphs: tuple[Graph, Graph]
    ) -> Checked:
        x, y, method = sample.x[None], torch.tensor([sample.y]), row["method"].removesuffix(REAL)
        evidence = evidence_path(self.run.path / EVIDENCE, threat, row["id"])
        tolerance = 0.0
        try:
            if evidence.exists():
                kept = [Evidence.load(evidence)]
                bound = float(check_evidence(self.classifier, x, y, threat.ball, kept, box=threat.box, graphs=graphs))
            else:
                patience = None if self.spec.timeout is None else _PATIENCE * self.spec.timeout
                proof = certify(
                    self.classifier,
                    x,
                    y,
                    threat.ball,
                    method=method,
                    box=threat.box,
                    timeout=patience,
                    graphs=graphs,
                )
                bound, tolerance = float(proof.lower_bound), float(proof.tolerance)
        except (CertificateError, InputError) as error:
            return Checked("certificate", row["key"], f"it proves nothing: {error}")
        return _compared(row, bound, tolerance)

    def _votes(self, row: Mapping[str, Any], sample: Sample) -> Checked:
        """Vote again, with the same noise."""
        smoothed = SmoothedClassifier(classifier=self.classifier, **(self.spec.smoothing or {}))
        found = smoothed.certify(sample.x[None], ids=[row["id"]])
        agreed = int(found.label) == sample.y == row["clean_label"]
        return _compared(row, float(found.radius) - row["eps"] if agreed else -math.inf, 0.0)

    def _searches(self, rows: Sequence[dict[str, Any]]) -> Iterator[Checked]:
        """Search again around some of the examples that stand: nobody else can say that nothing is found."""
        if not self.spec.suite:
            return
        stood = [row for row in rows if row["kind"] == "attack" and not row["success"] and not self._probed(row)]
        stood += [row for row in rows if row["kind"] == "certificate" and row["lower_bound"] > 0]
        examples = list({row["id"]: row for row in stood}.values())
        chosen = sorted({row["index"] for row in self._drawn("standing", examples, self.standing)})
        job = replace(self.job, spec=replace(self.job.spec, certify=(), points=None))
        again = {key_of({"kind": "attack", **row}): row for row, *_ in evaluate_shard(job, chosen)}
        for row in stood:
            if row["index"] in chosen and (new := again.get(key_of({**row, "kind": "attack"}))) is not None:
                yield _searched(row, new)

    def _errors(self, rows: Sequence[dict[str, Any]]) -> Iterator[Checked]:
        """Try some examples with an error again."""
        few = {row["index"] for row in self._ordered("error", rows)[:_ERRORS]}
        job = replace(self.job, spec=replace(self.job.spec, certify=self.spec.certify[:1], suite=()))
        job = job if self.spec.certify else self.job
        for index in sorted(few):
            key = next(row["key"] for row in rows if row["index"] == index)
            try:
                recurs = any(row.get("error") is not None for row, *_ in evaluate_shard(job, [index]))
            except SaddlepointError:
                recurs = True
            yield Checked("error", key, None if recurs else "its error does not recur")

    def _drawn(self, what: str, rows: Sequence[dict[str, Any]], share: float) -> list[dict[str, Any]]:
        """Draw a share of the rows, at least one if it is not 0."""
        return self._ordered(what, rows)[: math.ceil(share * len(rows))]

    def _ordered(self, what: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(rows, key=lambda row: random.key(self.seed, what, row["key"]))


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


def _compared(row: Mapping[str, Any], bound: float, tolerance: float) -> Checked:
    why = None
    if not bound > 0:
        why = f"its bound is {bound:.6g} when computed again, which proves nothing"
    elif not bound >= row["lower_bound"] - _BOUND * max(1.0, abs(row["lower_bound"])) - tolerance:
        why = f"its bound is {bound:.6g} when computed again, not {row['lower_bound']:.6g}"
    return Checked("certificate", row["key"], why)


def _searched(row: Mapping[str, Any], new: Mapping[str, Any]) -> Checked:
    """Compare a search with the one that the record tells of; of what is certified, nothing may break it."""
    if new.get("error") is not None:
        return Checked("search", row["key"], f"it fails when done again: {new['error']}")
    if new["success"] and new["attack"] != "clean":
        return Checked("search", row["key"], f"it stands, says its record, and {new['attack']} breaks it")
    if row["kind"] == "certificate":
        return Checked("search", row["key"])
    exact = all(row[name] == new[name] for name in ("margin", "adversarial_label", "steps", "forwards", "backwards"))
    apart = row["margin"] - new["margin"] > _APART * abs(row["clean_margin"])
    why = f"a search comes to a margin of {new['margin']:.4g}, not {row['margin']:.4g}" if apart else None
    return Checked("search", row["key"], why, exact=exact)
