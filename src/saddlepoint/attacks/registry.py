"""Every attack and suite by the name that the command line and specifications use: one line each.

`--attack` and its settings, `saddlepoint attacks`, and the check that each one stands under the laws follow from here.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from saddlepoint.attacks.apgd import APGD
from saddlepoint.attacks.apgd_l1 import APGDL1
from saddlepoint.attacks.fab import FAB
from saddlepoint.attacks.fgsm import FGSM
from saddlepoint.attacks.fmn import FMN
from saddlepoint.attacks.mifgsm import MIFGSM
from saddlepoint.attacks.pgd import PGD
from saddlepoint.attacks.protocol import Attack
from saddlepoint.attacks.sgd import SGD
from saddlepoint.attacks.square import Square
from saddlepoint.attacks.suites import FAST, PLUS, RAND, STANDARD, Suite
from saddlepoint.attacks.sweep import Sweep
from saddlepoint.attacks.wrappers import EOT, IfDoubted, OnSample, Step
from saddlepoint.errors import InputError

ATTACKS: dict[str, Attack] = {
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
    "fmn": FMN(),
}
SUITES: dict[str, Suite] = {"fast": FAST, "standard": STANDARD, "plus": PLUS, "rand": RAND}


def to_dict(step: Step) -> dict[str, Any]:
    """Return an attack, with what is wrapped around it, as plain data: its class and every field.

    An objective of one's own is written as module:name, which `from_dict` does not read back.
    """
    return {"name": type(step).__name__, **{name: _plain(getattr(step, name)) for name in _names(step)}}


def from_dict(data: Mapping[str, Any]) -> Step:
    """Return the attack that `to_dict` wrote.

    Raises:
        InputError: no attack is called so, or it has no such fields.
    """
    known: dict[str, type[Step]] = {type(attack).__name__: type(attack) for attack in ATTACKS.values()}
    known |= {"EOT": EOT, "IfDoubted": IfDoubted, "OnSample": OnSample}
    name, values = data.get("name"), {key: value for key, value in data.items() if key != "name"}
    kind = known.get(str(name))
    if kind is None:
        raise InputError(f"there is no attack {name!r}; expected one of {', '.join(sorted(known))}")
    own = _names(kind)
    if not set(values) <= set(own):
        raise InputError(f"{name} has no field {min(set(values) - set(own))!r}; expected some of {', '.join(own)}")
    make: Callable[..., Step] = kind
    settings = {key: from_dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    try:
        return make(**settings)
    except TypeError:
        raise InputError(f"{name} cannot have the settings {values!r:.160}; expected values of their types") from None


def _names(step: Step | type[Step]) -> list[str]:
    """Return the names of an attack's settings; one that is no dataclass has none."""
    return [field.name for field in fields(step)] if is_dataclass(step) else []


def _plain(value: Any) -> Any:  # noqa: ANN401 - a field
    if isinstance(value, Step):
        return to_dict(value)
    return f"{value.__module__}:{value.__qualname__}" if callable(value) else value
