"""What an evaluation depends on, as values that go through JSON and back."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from saddlepoint.attacks import Step
from saddlepoint.attacks.registry import from_dict, to_dict
from saddlepoint.attacks.wrappers import attack_of
from saddlepoint.classifier import Classifier
from saddlepoint.data.datasets import Dataset
from saddlepoint.errors import InputError
from saddlepoint.files import in_utf8
from saddlepoint.geometry import BALLS, Ball
from saddlepoint.geometry.binding import check_radius
from saddlepoint.results import digest


@dataclass(frozen=True, slots=True)
class ThreatModel:
    """What an adversary may do: a ball of one radius, and the box of pixels; any misclassification is a success."""

    norm: str
    eps: float
    box: tuple[float, float] | None = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.norm not in BALLS:
            raise InputError(f"norm is {self.norm!r}; expected one of {', '.join(BALLS)}")
        _ = self.ball  # which refuses what is no radius
        check_radius(self.norm, self.eps)

    @property
    def ball(self) -> Ball:
        """The ball, before the box."""
        return BALLS[self.norm](self.eps)


def prefix(norm: str, eps: float) -> str:
    """Return the prefix of the key under which an unfinished example is stored."""
    return f"{norm} {eps!r} "


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Everything that the records of an evaluation depend on.

    Attributes:
        model: reference and digest.
        data: reference, which examples, and their digests.
        threats: by norm and increasing ε, as brackets come.
        suite: attacks in cascade; under each threat, those that search its ball.
        certify: the certificates of the cascade, in their order: "interval", "crown-ibp", "crown", "alpha-crown".
        seed: of all random streams.
        batch_size: rows of every call of the model.
        precision: of the search.
        budget: passes that the search may spend on an example; None for no limit.
        stop: "fooled", or "never" to search every example to the end.
        points: digests of the model and the records of the run whose points are tried first; None for none.
        timeout: seconds that a certificate may take for an example; None for no limit.
        domains: that branch and bound may bound for an example; None for its default.
        smoothing: the fields of a smoothed classifier, whose votes are certified; None to evaluate the model itself.
    """

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    threats: tuple[ThreatModel, ...]
    suite: tuple[Step, ...]
    certify: tuple[str, ...]
    seed: int
    batch_size: int
    precision: str = "fp32"
    budget: int | None = None
    stop: str = "fooled"
    points: Mapping[str, Any] | None = None
    timeout: float | None = None
    domains: int | None = None
    smoothing: Mapping[str, Any] | None = None

    @property
    def norms(self) -> tuple[str, ...]:
        """The norms of the threats, each once, in their order."""
        return tuple(dict.fromkeys(threat.norm for threat in self.threats))

    @property
    def largest(self) -> tuple[ThreatModel, ...]:
        """The threat of the largest ε in each norm."""
        return tuple({threat.norm: threat for threat in self.threats}.values())

    def attacks(self, norm: str) -> tuple[Step, ...]:
        """Return the attacks of the suite that search balls of a norm."""
        return tuple(step for step in self.suite if norm in attack_of(step).norms)

    def plain(self) -> dict[str, Any]:
        """Return the specification as plain data; `Spec.of` reads it back."""
        return {
            "kind": "evaluation",
            "model": dict(self.model),
            "data": dict(self.data),
            "threats": [{**asdict(threat), "box": threat.box and list(threat.box)} for threat in self.threats],
            "suite": [to_dict(step) for step in self.suite],
            "certify": list(self.certify),
            "seed": self.seed,
            "batch_size": self.batch_size,
            "precision": self.precision,
            "budget": self.budget,
            "stop": self.stop,
            "points": self.points and dict(self.points),
            **({} if self.timeout is None else {"timeout": self.timeout}),
            **({} if self.domains is None else {"domains": self.domains}),
            **({} if self.smoothing is None else {"smoothing": dict(self.smoothing)}),
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Spec":
        """Return the specification that `plain` wrote.

        Raises:
            InputError: it is none of an evaluation, or names an attack that does not exist.
        """
        if plain.get("kind") != "evaluation":
            raise InputError(f"the specification is of kind {plain.get('kind')!r}; expected that of an evaluation")
        threats = [ThreatModel(threat["norm"], threat["eps"], _box(threat["box"])) for threat in plain["threats"]]
        return cls(
            model=plain["model"],
            data=plain["data"],
            threats=tuple(threats),
            suite=tuple(from_dict(step) for step in plain["suite"]),
            certify=tuple(plain["certify"]),
            seed=plain["seed"],
            batch_size=plain["batch_size"],
            precision=plain["precision"],
            budget=plain["budget"],
            stop=plain["stop"],
            points=plain["points"],
            timeout=plain.get("timeout"),
            domains=plain.get("domains"),
            smoothing=plain.get("smoothing"),
        )


def _box(box: Sequence[float] | None) -> tuple[float, float] | None:
    return None if box is None else (float(box[0]), float(box[1]))


def described_model(classifier: Classifier) -> dict[str, Any]:
    """Return what a specification says of a model."""
    return {
        "reference": in_utf8(classifier.reference or classifier.name),
        "digest": classifier.digest(),
        "names": classifier.names and [in_utf8(name) for name in classifier.names],
        "preprocessing": asdict(classifier.preprocessing),
        **({} if classifier.weights is None else {"weights": in_utf8(classifier.weights)}),
    }


def described_data(data: Dataset, limit: int | None, first: int | None) -> dict[str, Any]:
    """Return what a specification says of data, of which `limit` or the `first` were chosen."""
    return {
        "reference": in_utf8(data.name),
        "limit": limit,
        "first": first,
        "examples": len(data),
        "classes": data.classes and {name: label for label, name in data.classes.items()},
        "shape": data.shape and list(data.shape),
        "content": data.content(),
        "ids": digest(list(data.ids)),
    }
