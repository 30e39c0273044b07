"""What `model.json` says, as data: every value is checked before anything is built from it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from saddlepoint.classifier import Preprocessing
from saddlepoint.classifier.preprocessing import Interpolation
from saddlepoint.errors import WeightsError

FORMAT, VERSION = "saddlepoint-model", 1
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)


@dataclass(frozen=True, slots=True)
class Card:
    """A classifier but for its tensors.

    Attributes:
        architecture: the reference that builds the module.
        mean: per channel; None if nothing is normalised.
        std: likewise.
        names: of the classes.
        preprocessing: what is done to a photograph.
        digests: SHA-256 of the files beside the card, by their key in it: weights, and network if there is one.
    """

    architecture: str
    mean: list[float] | None
    std: list[float] | None
    names: list[str] | None
    preprocessing: Preprocessing
    digests: dict[str, str]


def read(content: object) -> Card:
    """Return what the content of a `model.json` says.

    Raises:
        WeightsError: naming the first value that is none of a model folder's, or the newer version that wrote it.
    """
    card = _part("model.json", content)
    if card.get("format") != FORMAT:
        raise WeightsError(f"it is of format {_show(card.get('format'))}; expected {FORMAT!r}")
    version = _typed(card, "version", _is_count, "a positive integer")
    if version > VERSION:
        raise WeightsError(f"it was saved by a newer saddlepoint (version {version}); update saddlepoint")
    return Card(
        _typed(card, "architecture", _is_text, "a reference to an architecture"),
        _typed(card, "mean", _optional(_is_numbers), "finite numbers, or null"),
        _typed(card, "std", _optional(_is_numbers), "finite numbers, or null"),
        _typed(card, "names", _optional(_is_texts), "a list of strings, or null"),
        preprocessing(**_part("preprocessing", card.get("preprocessing"))),
        {key: _digest(key, card.get(key)) for key in ("weights", "network") if key == "weights" or key in card},
    )


def preprocessing(**values: Any) -> Preprocessing:  # noqa: ANN401 - that is what is checked
    """Return a preprocessing whose values are of the right types.

    Raises:
        WeightsError: naming the first that is not, or that is unknown.
    """
    known = {
        "resize": (_optional(_is_count), "a positive integer, or null"),
        "crop": (_optional(_is_count), "a positive integer, or null"),
        "interpolation": (lambda value: value in INTERPOLATIONS, " or ".join(INTERPOLATIONS)),
        "squash": (lambda value: isinstance(value, bool), "true or false"),
    }
    for key in values:
        if key not in known:
            raise WeightsError(f"its preprocessing has {_show(key)}; expected {', '.join(known)}")
        _typed(values, key, *known[key])
    return Preprocessing(**values)


def _digest(key: str, entry: object) -> str:
    return str(_typed(_part(key, entry), "sha256", _is_text, "the SHA-256 of that file"))


def _part(key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WeightsError(f"its {key} is {_show(value)}; expected an object")
    return value


def _typed(values: Mapping[str, Any], key: str, fits: Callable[[Any], bool], expected: str) -> Any:  # noqa: ANN401
    if not fits(values.get(key)):
        raise WeightsError(f"its {key} is {_show(values.get(key))}; expected {expected}")
    return values.get(key)


def _optional(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_numbers(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_number, value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _show(value: object) -> str:
    return "missing" if value is None else repr(value)[:60]
