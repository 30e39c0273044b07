"""From parsed flags to the values of the library; what does not go together is refused in one line."""

from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from saddlepoint.attacks import (
    APGD,
    APGDL1,
    FAB,
    FAST,
    FGSM,
    MIFGSM,
    PGD,
    PLUS,
    RAND,
    SGD,
    STANDARD,
    Attack,
    Square,
    Step,
    Stop,
    Suite,
    Sweep,
    able,
)
from saddlepoint.classifier import Classifier, Precision, Preprocessing
from saddlepoint.cli.flags import Number
from saddlepoint.data import make_folder
from saddlepoint.errors import InputError
from saddlepoint.geometry import L1, L2, Ball, Linf
from saddlepoint.models import load_classifier

ATTACKS: dict[str, APGD | APGDL1 | FAB | FGSM | MIFGSM | PGD | SGD | Square | Sweep] = {
    "pgd": PGD(),
    "fgsm": FGSM(),
    "mi-fgsm": MIFGSM(),
    "sgd": SGD(),
    "sweep": Sweep(),
    "apgd-ce": APGD(),
    "apgd-dlr": APGD(loss="dlr"),
    "apgd-t": APGD(loss="dlr", targets=9),
    "apgd-l1": APGDL1(),
    "square": Square(),
    "fab": FAB(targets=0),
    "fab-t": FAB(),
}
SUITES: dict[str, Suite] = {"fast": FAST, "standard": STANDARD, "plus": PLUS, "rand": RAND}
_RUNS = {"steps": "steps", "restarts": "restarts"}
# What the flags of the search are called in each attack; a flag without a name there is refused.
FIELDS: dict[str, dict[str, str]] = {
    "pgd": {"steps": "steps", "step_size": "step_size", "restarts": "restarts"},
    "fgsm": {},
    "mi-fgsm": {"steps": "steps"},
    "sgd": {"steps": "steps", "step_size": "lr"},
    "sweep": {},
    "apgd-ce": _RUNS,
    "apgd-dlr": _RUNS,
    "apgd-t": _RUNS,
    "apgd-l1": _RUNS,
    "square": {"steps": "queries", "restarts": "restarts"},
    "fab": _RUNS,
    "fab-t": _RUNS,
}


def chosen_suite(given: Namespace) -> tuple[Step, ...]:
    """Return the attack that the flags stand for, or those of a suite that search the norm.

    Raises:
        InputError: a flag was given that the attack does not have, or it does not search the norm, or a suite was asked
            of photographs.
    """
    if given.attack not in SUITES:
        return (chosen_method(given),)
    for flag in ("steps", "step_size", "restarts"):
        if getattr(given, flag) is not None:
            raise InputError(_refusal(given.attack, flag, getattr(given, flag)))
    if given.data is None:
        raise InputError(f"--attack {given.attack} is a suite, for data sets; expected --data, or one attack")
    return able(SUITES[given.attack], BALLS[given.norm](1.0))


def chosen_method(given: Namespace) -> Attack:
    """Return the attack that the flags stand for.

    Raises:
        InputError: a flag was given that the attack does not have, or it does not search the norm.
    """
    fields = FIELDS[given.attack]
    values: dict[str, Any] = {}
    for flag in ("steps", "step_size", "restarts"):
        value = getattr(given, flag)
        if value is None:
            continue
        if flag not in fields:
            raise InputError(_refusal(given.attack, flag, value))
        values[fields[flag]] = float(value) if isinstance(value, Number) else value
    method = replace(ATTACKS[given.attack], **values)
    if given.norm not in method.norms:
        able = ", ".join(name for name, each in ATTACKS.items() if given.norm in each.norms)
        raise InputError(f"--attack {given.attack} does not search {given.norm} balls; expected one of {able}")
    return method


def _refusal(attack: str, flag: str, value: object) -> str:
    having = " or ".join(name for name, known in FIELDS.items() if flag in known)
    spelled = f"--{flag.replace('_', '-')} {getattr(value, 'text', value)}"
    return f"{spelled}: {attack} has no such setting; expected --attack {having}"


BALLS: dict[str, type[Ball]] = {"linf": Linf, "l2": L2, "l1": L1}
# The lesson's loop is about one image; beside others its rounding, and with it all that follows, would be another.
BATCHES = {"sgd": 1}
# Without and with a data set.
_OUT, _BATCH = ("out", "run"), (16, 64)
_STOP: tuple[Stop, Stop] = ("never", "fooled")
RADII = {"linf": Number("2/255"), "l2": Number("0.5"), "l1": Number("12")}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that holds for all images of one call.

    Attributes:
        model: the reference.
        eps: the radius as a number that remembers how it was written.
        attack: how the command line calls the attack.
        suite: the attack itself, or those of a suite.
        label: the true class of all images, or None for the prediction of each.
        target: the class to be predicted instead, or None for any other.
        box: "pixel" or "none".
        batch_size: images per pass through the model, at most.
        out: the folder for pictures, absolute.
    """

    model: str
    classifier: Classifier
    preprocessing: Preprocessing
    norm: str
    eps: Number
    attack: str
    suite: tuple[Step, ...]
    label: int | None
    target: int | None
    box: str
    seed: int
    precision: Precision
    batch_size: int
    stop: Stop
    out: Path

    @property
    def is_suite(self) -> bool:
        """Whether several attacks run in cascade."""
        return self.attack in SUITES

    @property
    def ball(self) -> Ball:
        """The set of allowed perturbations, before the box."""
        return BALLS[self.norm](float(self.eps))

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The box of pixels."""
        return (0.0, 1.0) if self.box == "pixel" else None


def settings(given: Namespace) -> Settings:
    """Return the settings that the flags stand for; cheap refusals come before the model is loaded."""
    suite, eps, out = chosen_suite(given), _radius(given), make_folder(given.out or _OUT[given.data is not None])
    classifier = load_classifier(
        given.model, weights=given.weights, mean=given.mean, std=given.std, device=given.device or _device()
    )
    label = None if given.label is None else classifier.label_of(given.label)
    target = None if given.target is None else classifier.label_of(given.target)
    if target is not None and target == label:
        raise InputError(f"--label and --target are both {classifier.name_of(target)!r}; expected two classes")
    return Settings(
        given.model,
        classifier,
        _preprocessing(classifier.preprocessing, given.resize),
        given.norm,
        eps,
        given.attack,
        suite,
        label,
        target,
        given.box,
        given.seed,
        given.precision,
        given.batch_size or BATCHES.get(given.attack, _BATCH[given.data is not None]),
        given.stop or _STOP[given.data is not None],
        out,
    )


def _preprocessing(own: Preprocessing, resize: int | None) -> Preprocessing:
    return own if resize is None else replace(own, resize=resize, crop=None)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _radius(given: Namespace) -> Number:
    eps: Number = RADII[given.norm] if given.eps is None else given.eps
    if given.norm == "linf" and eps > 1:
        raise InputError(
            f"--eps is {eps.text}; expected at most 1, pixels being in [0, 1]: did you mean {eps.text}/255?"
        )
    return eps
