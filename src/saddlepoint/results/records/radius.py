"""How a radius is written: as its user typed it, `8/255`."""

from fractions import Fraction

_GREYS = 64
"""Radii of at most so many grey levels are written in 255ths."""


def spelled(eps: float) -> str:
    """Return a radius as a decimal where that is exact, else as a fraction where that is, of 255 if it can be."""
    text = f"{eps:g}"
    if float(text) == eps:
        return text
    greys = round(255 * eps)
    if greys <= _GREYS and greys / 255 == eps:
        return f"{greys}/255"
    fraction = Fraction(eps).limit_denominator(2550)
    return f"{fraction}" if float(fraction) == eps else text
