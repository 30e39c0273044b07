"""The mathematics of perturbation sets: tensors only, row by row, exact to the last bit."""

from saddlepoint.geometry.balls import BALLS, L1, L2, Linf
from saddlepoint.geometry.regions import Ball, Region

__all__ = ["BALLS", "L1", "L2", "Ball", "Linf", "Region"]
