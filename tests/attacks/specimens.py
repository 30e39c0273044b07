"""Models that several files of tests attack."""

import torch

from saddlepoint.testing import toys


def mirror(rows):
    """A linear classifier that changes its mind when x becomes 1 − x, and pixels on one side of it."""
    classifier = toys.linear(torch.cat([torch.ones(1, 12), -torch.ones(1, 12)]), torch.tensor([-6.0, 6.0]))
    return classifier, 0.5 + toys.pixels(rows, (3, 2, 2)) / 4, torch.zeros(rows, dtype=torch.int64)
