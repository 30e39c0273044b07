"""Recipes: how a model is trained, as a file that can be read, copied and passed.

A recipe is TOML. Its keys are the fields of `Recipe`; a table [data.NAME] overrides them for a data set.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from saddlepoint.attacks import PGD, Attack
from saddlepoint.attacks.registry import from_dict, to_dict
from saddlepoint.errors import InputError
from saddlepoint.geometry import BALLS, Ball
from saddlepoint.geometry.binding import check_radius
from saddlepoint.models import require_no_code
from saddlepoint.training.catalogue import OBJECTIVES
from saddlepoint.words import fraction, meant

SCHEDULES = ("constant", "cosine", "one-cycle", "step")
OPTIMISERS = ("sgd", "adam", "adamw")
AUGMENTATIONS = ("crop", "flip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is trained.

    Attributes:
        name: of the recipe.
        about: what it is, and where it comes from.
        objective: one of `OBJECTIVES`, in `saddlepoint.training.catalogue`.
        arch: the architecture: a name of `saddlepoint.models.nets`, timm:NAME, or FILE.py:FACTORY.
        norm: of Δ.
        eps: ε in pixel units of [0, 1]; 0 for none.
        attack: the inner maximisation.
        precision: of the inner maximisation: "fp32", or "bf16".
        mixed: whether the outer step is computed under bf16 autocast, too; not of bounds.
        beta: weight of the second term of TRADES and MART.
        kappa: final weight of the clean loss in IBP and CROWN-IBP; it falls from 1 while ε rises.
        share: λ of SABR, α of MTL-IBP.
        tightness: weight of IBP's regulariser, which falls to 0 while ε rises (Shi et al. 2021).
        sigma: deviation of the noise.
        awp: γ of adversarial weight perturbation (Wu, Xia & Wang 2020); 0 for none.
        replays: how often each minibatch is used in a row; δ goes on in the objective "free".
        epochs: passes over the training examples.
        batch_size: examples of one step, over all processes.
        optimiser: "sgd" with Nesterov momentum, "adam" or "adamw".
        lr: the highest learning rate.
        momentum: of SGD.
        weight_decay: of all parameters.
        schedule: of the learning rate: "constant", "cosine" to 0, "one-cycle" (linear up, then down to 0) or "step" (a
            tenth after a half, and again after three quarters).
        warmup: share of the run in which the learning rate rises; of "one-cycle" its peak.
        ramp: share of the run in which ε rises from 0.
        ema: decay of an average of the weights, which then is the model; 0 for none.
        clip: largest norm of a gradient; 0 for none.
        smoothing: of labels.
        augment: of images: "crop" (pad by an eighth, crop at random) and "flip".
        normalise: whether pixels are normalised by the training set's mean and deviation, inside the model.
        validation: share of the training examples that is held out, and chooses the best checkpoint.
    """

    name: str = "custom"
    about: str = ""
    objective: str = "empirical"
    arch: str = "small"
    norm: str = "linf"
    eps: float = 0.0
    attack: Attack = field(default_factory=lambda: PGD(steps=7))
    precision: str = "fp32"
    mixed: bool = False
    beta: float = 6.0
    kappa: float = 0.5
    share: float = 0.5
    tightness: float = 0.0
    sigma: float = 0.25
    awp: float = 0.0
    replays: int = 1
    epochs: int = 10
    batch_size: int = 128
    optimiser: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "one-cycle"
    warmup: float = 0.3
    ramp: float = 0.0
    ema: float = 0.0
    clip: float = 0.0
    smoothing: float = 0.0
    augment: tuple[str, ...] = ()
    normalise: bool = True
    validation: float = 0.05

    def __post_init__(self) -> None:
        _one_of(self, "objective", tuple(OBJECTIVES))
        _one_of(self, "norm", tuple(BALLS))
        _one_of(self, "schedule", SCHEDULES)
        _one_of(self, "optimiser", OPTIMISERS)
        _one_of(self, "precision", ("fp32", "bf16"))
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise InputError(f"{name} is {value!r}; expected a number from {low} to {high}")
        for name in ("epochs", "batch_size", "replays"):
            if not isinstance(getattr(self, name), int):
                raise InputError(f"{name} is {getattr(self, name)!r}; expected a whole number")
        if unknown := set(self.augment) - set(AUGMENTATIONS):
            raise InputError(f"augment has {min(unknown)!r}; expected some of {', '.join(AUGMENTATIONS)}")
        self._check_ball()

    def _check_ball(self) -> None:
        if self.eps == 0 and OBJECTIVES[self.objective].robust:
            raise InputError(f"the objective {self.objective} needs a ball; expected eps > 0, such as --eps 8/255")
        if self.norm != "linf" and OBJECTIVES[self.objective].bounds:
            raise InputError(f"the objective {self.objective} trains cubes; expected the norm linf, not {self.norm}")
        check_radius(self.norm, self.eps)

    @property
    def ball(self) -> Ball:
        """Δ without the pixel box."""
        return BALLS[self.norm](self.eps)

    def plain(self) -> dict[str, Any]:
        """Return the recipe as plain data, for a card or a specification."""
        rest = replace(self, attack=PGD())
        return {**asdict(rest), "augment": list(self.augment), "attack": to_dict(self.attack)}


_BIG = 10**9
_RANGES = (
    *(("kappa", 0, 1), ("share", 0, 1), ("tightness", 0, _BIG)),
    *(("eps", 0, _BIG), ("beta", 0, _BIG), ("sigma", 0, _BIG), ("awp", 0, 1), ("replays", 1, 1000)),
    *(("epochs", 1, _BIG), ("batch_size", 1, _BIG), ("lr", 0, 1000), ("momentum", 0, 1), ("weight_decay", 0, 1)),
    *(("warmup", 0, 1), ("ramp", 0, 1), ("ema", 0, 1), ("clip", 0, _BIG), ("smoothing", 0, 1), ("validation", 0, 0.9)),
)


def names() -> list[str]:
    """Return the recipes that come with the package."""
    return sorted(path.name.removesuffix(".toml") for path in _folder().iterdir() if path.name.endswith(".toml"))


def load_recipe(reference: str, data: str = "", changes: Mapping[str, Any] | None = None) -> Recipe:
    """Return a recipe of the package, or of a file, as it is for a data set.

    Args:
        reference: a name, or a file *.toml.
        data: the reference of the data set, whose table [data.NAME] of the recipe applies.
        changes: fields to set, over everything else; an attack's own as "attack.steps".

    Raises:
        InputError: there is no such recipe, it has unknown keys or unusable values, or it names code as architecture.
    """
    content = _parsed(reference)
    if isinstance(content.get("arch"), str) and "arch" not in (changes or {}):
        require_no_code(content["arch"], f"the recipe {reference}", "--arch")
    tables = content.pop("data", {})
    own = tables.get(data.partition(":")[0], {}) if isinstance(tables, dict) else {}
    merged = _merged(_merged({"name": reference, **content}, own), _nested(changes or {}))
    known = {field.name for field in fields(Recipe)}
    for key in merged:
        if key not in known:
            hint = meant(key, known, otherwise=f"; expected some of {', '.join(sorted(known))}")
            raise InputError(f"the recipe {reference} has no key {key!r}{hint}")
    if isinstance(attack := merged.get("attack"), dict):
        merged["attack"] = from_dict({"name": "PGD", **attack})
    merged["eps"] = _radius(merged.get("eps", 0.0))
    if "augment" in merged:
        names = merged["augment"]
        merged["augment"] = tuple(names.split(",") if isinstance(names, str) else names)
    try:
        return Recipe(**merged)
    except TypeError as error:
        raise InputError(f"the recipe {reference} cannot be read: {error}") from None


def _radius(value: object) -> object:
    """Return the number that a fraction such as "8/255" stands for; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return fraction(value)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"eps is {value!r}; expected a number or a fraction, such as 0.1 or 8/255") from None


def _parsed(reference: str) -> dict[str, Any]:
    path = Path(reference)
    if path.suffix == ".toml":
        if not path.is_file():
            raise InputError(
                f"there is no file {reference!r}; expected a recipe *.toml, or one of {', '.join(names())}"
            )
        text = path.read_text(encoding="utf-8")
    elif reference in names():
        text = (_folder() / f"{reference}.toml").read_text(encoding="utf-8")
    else:
        hint = meant(reference, names())
        raise InputError(f"unknown recipe {reference!r}: expected one of {', '.join(names())}, or a file *.toml{hint}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the recipe {reference} is no TOML: {error}") from None


def _folder() -> Any:  # noqa: ANN401 - a Traversable, whose module moved between Python versions
    return resources.files("saddlepoint.training") / "recipes"


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {**base, **over}
    for key in base.keys() & over.keys():
        if isinstance(base[key], dict) and isinstance(over[key], dict):
            both[key] = {**base[key], **over[key]}
    return both


def _nested(changes: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in changes.items():
        outer, dot, inner = key.partition(".")
        nested[outer] = {**nested.get(outer, {}), inner: value} if dot else value
    return nested


def _one_of(recipe: Recipe, name: str, allowed: tuple[str, ...]) -> None:
    if getattr(recipe, name) not in allowed:
        raise InputError(f"{name} is {getattr(recipe, name)!r}; expected one of {', '.join(allowed)}")
