"""What is reported: the fields of these classes are the fields of the JSON object."""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Clean:
    """The prediction before; loss is the cross-entropy of the true class, in nats."""

    label: int
    name: str
    probability: float
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Adversarial:
    """The prediction at the float32 point that the attack found."""

    label: int
    name: str
    probability: float
    true_class_probability: float
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The prediction at the 8-bit point that was written, and whether it succeeds, too."""

    label: int
    name: str
    probability: float
    true_class_probability: float
    success: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """Norms of δ = x_adv − x at the float32 point, in pixel units, computed in float64."""

    linf: float
    l2: float
    l1: float


@dataclass(frozen=True, slots=True)
class Traced:
    """The attack's own objective after so many updates of δ."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Absolute paths of the pictures."""

    adversarial: str
    perturbation: str
    figure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackedImage:
    """Everything about one attacked image."""

    clean: Clean
    adversarial: Adversarial
    written: Written
    success: bool
    perturbation: Perturbation
    trace: tuple[Traced, ...]
    forwards: int
    backwards: int
    files: Files


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One image: what was found, or why it could not be attacked.

    Attributes:
        index: its place on the command line.
        image: its absolute path.
        findings: None when it could not be attacked.
        error: the reason, or None.
        truth: the name of the class that was attacked; in text only.
    """

    index: int
    image: str
    findings: AttackedImage | None = None
    error: str | None = None
    truth: str = ""

    def fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object; those of an image that failed are None."""
        values = (
            asdict(self.findings)
            if self.findings is not None
            else dict.fromkeys(field.name for field in fields(AttackedImage))
        )
        return {"image": self.image, **values, "error": self.error}


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One call; `seconds` is the time of the search alone, `findings` tell where it may have been misled."""

    model: str
    norm: str
    eps: float
    attack: str
    seed: int
    box: str
    seconds: float
    findings: tuple[str, ...]
    images: tuple[Case, ...]

    def as_json(self) -> str:
        """Return one JSON object; numbers that are not finite become null."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(
            _finite({**own, "images": [case.fields() for case in self.images]}), indent=2, allow_nan=False
        )


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
