"""Arguments of the command line: a parser that fails in one line, and the types of its flags."""

import argparse
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from saddlepoint.errors import InputError
from saddlepoint.words import fraction, meant


class Parser(argparse.ArgumentParser):
    """An argument parser that raises InputError instead of printing its usage and leaving."""

    def __init__(self, **options: object) -> None:
        super().__init__(
            **{"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **options}  # type: ignore[arg-type]
        )

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, and refuse what is unknown here, where the flags that it may have meant are known."""
        known, extra = super().parse_known_args(args, namespace)
        if hasattr(known, "images"):  # argparse takes no more of them after the first flag
            known.images += [text for text in extra if not text.startswith("-")]
            extra = [text for text in extra if text.startswith("-")]
        if extra:
            hint = meant(extra[0].partition("=")[0], self._option_string_actions, shown=str)
            self.error(f"unknown argument {extra[0]!r}{hint}")
        return known, extra

    def error(self, message: str) -> NoReturn:
        """Raise InputError with argparse's finding."""
        raise InputError(f"{message} (see {self.prog} --help)")


class Number(float):
    """A number ≥ 0 that remembers how it was written: "2/255" is shown as 2/255."""

    text: str

    def __new__(cls, text: str) -> "Number":
        """Parse a decimal number or a fraction of two."""
        try:
            value = fraction(text)
        except (ValueError, ZeroDivisionError):
            value = math.nan
        if not 0 <= value < math.inf:
            raise argparse.ArgumentTypeError(
                f"{text!r} given; expected a number ≥ 0 or a fraction, such as 0.1 or 2/255"
            )
        number = super().__new__(cls, value)
        number.text = text.strip()
        return number


def numbers(text: str) -> list[float]:
    """Parse finite numbers or fractions, separated by commas."""
    try:
        values = [fraction(part) for part in text.split(",")]
    except (ValueError, ZeroDivisionError):
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"{text!r} given; expected one number, or one per channel: 0.49,0.48,0.45")
    return values


def positive(text: str) -> int:
    """Parse an integer ≥ 1."""
    return _integer(text, 1)


def natural(text: str) -> int:
    """Parse an integer ≥ 0."""
    return _integer(text, 0)


def _integer(text: str, least: int) -> int:
    if not (text.isascii() and text.isdecimal() and least <= int(text) < 2**63):
        raise argparse.ArgumentTypeError(f"{text!r} given; expected a whole number ≥ {least}")
    return int(text)


def requirement(text: str) -> tuple[str, float, float | None, str | None]:
    """Return what a rule asks for: which accuracy, at least how much, at which ε of which norm, if it says so.

    Raises:
        InputError: it is none.
    """
    match = re.fullmatch(
        r"(clean|attacked|certified|robust)>=([0-9.]+)(?:@(?:(linf|l2|l1):)?([0-9./e-]+))?", text.replace(" ", "")
    )
    try:
        share = float(match[2]) if match else -1.0
        eps: Any = None if match is None or match[4] is None else float(Number(match[4]))
    except (ValueError, argparse.ArgumentTypeError):
        share, eps = -1.0, None
    if match is None or not 0 <= share <= 1:
        raise InputError(f'--require {text!r} given; expected a rule such as "certified>=0.8@8/255"')
    return ("certified" if match[1] == "robust" else match[1]), share, eps, match[3]
