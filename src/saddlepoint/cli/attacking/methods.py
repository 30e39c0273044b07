"""The attacks of the command line, and which of its flags each of them has."""

from argparse import Namespace
from dataclasses import replace
from typing import Any

from saddlepoint.attacks import FGSM, PGD, SGD, Attack
from saddlepoint.cli.flags import Number
from saddlepoint.errors import InputError

ATTACKS: dict[str, FGSM | PGD | SGD] = {"pgd": PGD(), "fgsm": FGSM(), "sgd": SGD()}
# What the flags of the search are called in each attack; a flag without a name there is refused.
FIELDS: dict[str, dict[str, str]] = {
    "pgd": {"steps": "steps", "step_size": "step_size", "restarts": "restarts"},
    "fgsm": {},
    "sgd": {"steps": "steps", "step_size": "lr"},
}


def chosen_method(given: Namespace) -> Attack:
    """Return the attack that the flags stand for.

    Raises:
        InputError: a flag was given that the attack does not have.
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
    return replace(ATTACKS[given.attack], **values)


def _refusal(attack: str, flag: str, value: object) -> str:
    having = " or ".join(name for name, known in FIELDS.items() if flag in known)
    spelled = f"--{flag.replace('_', '-')} {getattr(value, 'text', value)}"
    return f"{spelled}: {attack} has no such setting; expected --attack {having}"
