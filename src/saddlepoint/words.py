"""What users type, and what they meant: names that are nearly right, and numbers as fractions."""

import difflib
from collections.abc import Callable, Iterable


def meant(
    typed: str,
    known: Iterable[str],
    *,
    most: int = 1,
    shown: Callable[[str], str] = repr,
    otherwise: str = "",
) -> str:
    """Return "; did you mean 'resnet50'?" for the end of an error message.

    Args:
        typed: what is unknown.
        known: the names that exist.
        most: how many are offered.
        shown: how a name is written.
        otherwise: what is returned where no name is near.
    """
    near = difflib.get_close_matches(typed, list(known), n=most)
    return f"; did you mean {', '.join(map(shown, near))}?" if near else otherwise


def fraction(text: str) -> float:
    """Return the number that "0.1" or "8/255" stands for.

    Raises:
        ValueError, ZeroDivisionError: it stands for none.
    """
    top, slash, bottom = text.partition("/")
    return float(top) / float(bottom) if slash else float(top)
