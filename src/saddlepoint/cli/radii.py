"""Default radii: one table, by norm and by the size of images, for `attack`, `evaluate` and `certify`."""

from collections.abc import Sequence

from saddlepoint.cli.arguments import Number

TABLE: tuple[tuple[int, str, dict[str, str]], ...] = (
    (28, "grey digits and garments", {"linf": "0.1", "l2": "0.5", "l1": "12"}),
    (64, "small photographs, as those of CIFAR-10", {"linf": "8/255", "l2": "0.5", "l1": "12"}),
    (2**31, "photographs, as those of ImageNet", {"linf": "4/255", "l2": "3", "l1": "60"}),
)
"""Sides of at most so many pixels, what has them, and ε by norm: those of the field's leaderboards."""


def default(norm: str, shape: Sequence[int] | None) -> tuple[Number, str]:
    """Return ε for images of a shape, (C, H, W), or for photographs when there is none yet, and why."""
    side = max(shape[1:]) if shape else TABLE[-1][0]
    _, what, radii = next(row for row in TABLE if side <= row[0])
    return Number(radii[norm]), f"--eps is {radii[norm]}, the default in {norm} for {what}"
