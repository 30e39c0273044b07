"""What an evaluation is computed from, and an example on its way through the cascade."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from saddlepoint.attacks.engine.example import Passes
from saddlepoint.certificates import Graph
from saddlepoint.certificates.smoothing import SmoothedClassifier
from saddlepoint.classifier import Classifier
from saddlepoint.data.datasets import Dataset, Sample
from saddlepoint.evaluation.earlier_run import Points
from saddlepoint.evaluation.resume import Earlier, Pending, Pixels
from saddlepoint.evaluation.spec import Spec, ThreatModel
from saddlepoint.results import Attacked


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
        smoothing = self.spec.smoothing
        return None if smoothing is None else SmoothedClassifier(classifier=self.classifier, **smoothing)


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
