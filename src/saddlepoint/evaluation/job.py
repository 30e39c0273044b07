"""What an evaluation is computed from, and an example on its way through the cascade."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saddlepoint.attacks.engine.example import Passes
from saddlepoint.certificates import Graph
from saddlepoint.certificates.smoothing import SmoothedClassifier
from saddlepoint.classifier import Classifier
from saddlepoint.data.datasets import Dataset, Sample
from saddlepoint.evaluation.pending import Pending
from saddlepoint.evaluation.spec import Spec, ThreatModel
from saddlepoint.evaluation.transfer import Points
from saddlepoint.results import Attacked, Certified, Record, Voted
from saddlepoint.results.records.record import Proof

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class _AtHand:
    points: Mapping[tuple[str, float, str], Pixels]

    def __call__(self, identity: str, eps: float, norm: str) -> Pixels:
        return self.points[identity, eps, norm]


@dataclass(frozen=True)
class Earlier:
    """The records that an earlier session left of examples that it did not finish, and where their points are."""

    records: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    point: Callable[[str, float, str], Pixels] | None = None

    def of(self, identities: Sequence[str]) -> "Earlier":
        """Return what was found of some examples, with their points at hand: it can be sent to another machine."""
        records = {identity: self.records[identity] for identity in identities if identity in self.records}
        kept = [each for own in records.values() for each in own if isinstance(each, Attacked) and each.kept]
        if self.point is None or not kept:
            return Earlier(records)
        points = {(each.id, each.eps, each.norm): self.point(each.id, each.eps, each.norm) for each in kept}
        return Earlier(records, _AtHand(points))

    def attack(self, identity: str, threat: ThreatModel) -> Attacked | None:
        """Return the attack on an example under a threat; None if there is none without an error."""
        return next((each for each in self._under(identity, threat) if isinstance(each, Attacked)), None)

    def proof(self, identity: str, threat: ThreatModel) -> Proof | None:
        """Return the certificate of an example under a threat, likewise."""
        return next((each for each in self._under(identity, threat) if isinstance(each, Certified | Voted)), None)

    def _under(self, identity: str, threat: ThreatModel) -> list[Record]:
        return [each for each in self.records.get(identity, ()) if (each.norm, each.eps) == (threat.norm, threat.eps)]


@dataclass(frozen=True)
class Job:
    """A specification, the model and the data that it names, the graphs of certificates, and what was found before.

    Attributes:
        pending: stages of the cascade that were done of examples without a record.
        earlier: records of examples that lack others.
        points: of a run on an earlier version of the model, tried before any attack.
        evidence: folder for what proves each certificate; None to keep none.
        notes: one line for each certificate that failed, and why; the evaluation goes on without it.
    """

    spec: Spec
    classifier: Classifier
    data: Dataset
    graphs: tuple[Graph, Graph] | None = None
    pending: Pending | None = None
    earlier: Earlier = field(default_factory=Earlier)
    points: Points | None = None
    evidence: Path | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def smoothed(self) -> SmoothedClassifier | None:
        """The smoothed classifier that is evaluated; None where it is the model itself."""
        given = self.spec.smoothing
        return None if given is None else SmoothedClassifier(classifier=self.classifier, **given)


@dataclass
class Example:
    """An example on its way through the cascade.

    Attributes:
        broken: the record and the point that broke it, at this radius or a smaller one of the same norm.
        proven: at this radius.
        searched: whether an earlier session has attacked it at this radius.
        tried: whether one has tried all certificates.
        finite: whether the model has a prediction for it.
        spent: passes on points of an earlier run that did not break it, and on the probe.
        probed: whether a probe has come near the boundary.
    """

    index: int
    id: str
    sample: Sample
    clean_label: int = 0
    clean_margin: float = 0.0
    broken: tuple[Attacked, Pixels] | None = None
    proven: bool = False
    searched: bool = False
    tried: bool = False
    finite: bool = True
    spent: Passes = field(default_factory=Passes)
    probed: bool = False

    @property
    def right(self) -> bool:
        """Whether its clean image is classified correctly."""
        return self.clean_label == self.sample.y

    @property
    def open(self) -> bool:
        """Whether a certificate has something to decide."""
        return self.right and self.broken is None and not self.proven and not self.tried

    def begin(self, threat: ThreatModel, earlier: Earlier) -> None:
        """Come to the next threat, and take over what an earlier session found there."""
        if self.broken is not None and self.broken[0].norm != threat.norm:
            self.broken = None
        attack, proof = earlier.attack(self.id, threat), earlier.proof(self.id, threat)
        self.tried, self.spent, self.probed = proof is not None, Passes(), False
        self.proven = proof is not None and proof.proven
        # A point that broke it serves at larger radii, too; where it was not kept, it must be found again.
        self.searched = attack is not None and (not attack.broken or attack.kept)
        if attack is not None and attack.broken and attack.kept and earlier.point is not None:
            self.broken = replace(attack, kept=False, seconds=None), earlier.point(self.id, threat.eps, threat.norm)
