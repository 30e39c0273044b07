"""From parsed flags to the values of the library; what does not go together is refused in one line."""

from argparse import Namespace
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch

from saddlepoint.attacks import Attack, Step, Stop, able
from saddlepoint.attacks.registry import ATTACKS, SUITES
from saddlepoint.classifier import Classifier, Precision
from saddlepoint.cli.arguments import Number
from saddlepoint.cli.classifiers import classifier_of
from saddlepoint.cli.radii import default
from saddlepoint.data.datasets import load_dataset, matched
from saddlepoint.errors import InputError
from saddlepoint.files import make_folder
from saddlepoint.geometry import BALLS, Ball
from saddlepoint.geometry.binding import check_radius
from saddlepoint.models import code
from saddlepoint.words import meant

# What the flags of the search may be called in an attack; one without a field of such a name refuses the flag.
FIELDS: dict[str, tuple[str, ...]] = {
    "steps": ("steps", "queries"),
    "step_size": ("step_size", "lr"),
    "restarts": ("restarts",),
}


def chosen_suite(args: Namespace) -> tuple[Step, ...]:
    """Return the attack that the flags stand for, or those of a suite that search the norm.

    Raises:
        InputError: a flag was given that the attack does not have, or it does not search the norm, or a suite was asked
            of photographs.
    """
    if args.attack not in SUITES:
        return (chosen_method(args),)
    for flag in FIELDS:
        if getattr(args, flag) is not None:
            raise InputError(_refusal(args.attack, flag, getattr(args, flag)))
    if args.data is None:
        raise InputError(f"--attack {args.attack} is a suite, for data sets; expected --data, or one attack")
    return able(SUITES[args.attack], BALLS[args.norm](1.0))


def chosen_method(args: Namespace) -> Attack:
    """Return the attack that the flags stand for.

    Raises:
        InputError: a flag was given that the attack does not have, or it does not search the norm.
    """
    method, values = named_attack(args.attack), dict[str, Any]()
    for flag in FIELDS:
        value, name = getattr(args, flag), _field(method, flag)
        if value is None:
            continue
        if name is None:
            raise InputError(_refusal(args.attack, flag, value))
        values[name] = float(value) if isinstance(value, Number) else value
    method = replace(method, **values) if values else method  # type: ignore[type-var]
    if args.norm not in method.norms:
        able = ", ".join(name for name, attack in ATTACKS.items() if args.norm in attack.norms)
        raise InputError(f"--attack {args.attack} does not search {args.norm} balls; expected one of {able}")
    return method


def named_attack(name: str, flag: str = "--attack") -> Attack:
    """Return the attack of a name that a flag was given, or of one's own code, FILE.py:CLASS.

    Raises:
        InputError: there is none.
    """
    if name in ATTACKS:
        return ATTACKS[name]
    if not code.claims(name):
        hint = meant(name, [*ATTACKS, *SUITES], shown=str)
        raise InputError(
            f"{flag} is {name!r}{hint or ';'} expected one of {', '.join([*ATTACKS, *SUITES])}, or FILE.py:CLASS"
        )
    attack = code.named(name)
    made = attack() if isinstance(attack, type) and issubclass(attack, Attack) else attack
    if not isinstance(made, Attack):
        raise InputError(f"{flag} {name} is a {type(made).__name__}; expected a subclass of sp.Attack, or an instance")
    return made


def _field(attack: Attack, flag: str) -> str | None:
    """Return what a flag of the search is called in an attack; None if it has no such setting."""
    own = {field.name for field in fields(attack)} if is_dataclass(attack) else set[str]()
    return next((name for name in FIELDS[flag] if name in own), None)


def _refusal(attack: str, flag: str, value: object) -> str:
    having = " or ".join(name for name, attack in ATTACKS.items() if _field(attack, flag))
    spelled = f"--{flag.replace('_', '-')} {getattr(value, 'text', value)}"
    return f"{spelled}: {attack} has no such setting; expected --attack {having}"


# The lesson's loop is about one image; beside others its rounding, and with it all that follows, would be another.
BATCHES = {"sgd": 1}
# Without and with a data set.
_OUT, _BATCH = ("out", "run"), (16, 64)
_STOP: tuple[Stop, Stop] = ("never", "fooled")


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


def settings(args: Namespace) -> Settings:
    """Return the settings that the flags stand for; cheap refusals come before the model is loaded."""
    suite, out = chosen_suite(args), make_folder(args.out or _OUT[args.data is not None])
    if args.eps is not None:
        check_radius(args.norm, float(args.eps), args.eps.text, name="--eps")
    classifier = classifier_of(args, args.device or _device())
    label = None if args.label is None else classifier.label_of(args.label)
    target = None if args.target is None else classifier.label_of(args.target)
    if target is not None and target == label:
        raise InputError(f"--label and --target are both {classifier.name_of(target)!r}; expected two classes")
    return Settings(
        args.model,
        classifier,
        args.norm,
        _radius(args, classifier) if args.eps is None else args.eps,
        args.attack,
        suite,
        label,
        target,
        args.box,
        args.seed,
        args.precision,
        args.batch_size or BATCHES.get(args.attack, _BATCH[args.data is not None]),
        args.stop or _STOP[args.data is not None],
        out,
    )


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _radius(args: Namespace, classifier: Classifier) -> Number:
    """Return the default for such images."""
    if not args.images and args.data is None and args.norm == "linf":
        return Number("2/255")  # the lesson's, of the photograph that comes along
    shape, crop = None, classifier.preprocessing.crop
    if args.data is not None:
        shape = matched(load_dataset(args.data).select(first=1), classifier).shape
    elif crop is not None:
        shape = (3, crop, crop)
    return default(args.norm, shape)[0]
