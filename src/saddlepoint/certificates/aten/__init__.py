"""What each core ATen operation is: affine in its varying arguments, or made of affine operations and ReLUs."""

from saddlepoint.certificates.aten import activations, matrices, maxima, moves, sums
from saddlepoint.certificates.aten.rules import RULES, Examples, Value, decompositions, typed

__all__ = [
    "RULES",
    "Examples",
    "Value",
    "activations",
    "decompositions",
    "matrices",
    "maxima",
    "moves",
    "sums",
    "typed",
]
