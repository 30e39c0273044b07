"""What is reported of one attacked image: the fields of these classes are fields of the JSON object."""

from dataclasses import dataclass


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
class Point:
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
class Findings:
    """Everything about one attacked image."""

    clean: Clean
    adversarial: Adversarial
    written: Written
    success: bool
    perturbation: Perturbation
    trace: tuple[Point, ...]
    forwards: int
    backwards: int
    files: Files
