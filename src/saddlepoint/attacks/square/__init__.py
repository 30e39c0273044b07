"""Square: random search with square-shaped changes, which sees scores only."""

from saddlepoint.attacks.square.attack import Square

__all__ = ["Square"]
