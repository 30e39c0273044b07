"""A classifier of scikit-learn's digits, trained in a second whenever it is loaded.

saddlepoint attack --data digits --model examples/digits.py:make --eps 1/16 --out run
"""

import torch
from torch import nn

import saddlepoint as sp


def make() -> nn.Module:
    """Return a small convolutional network, trained on the even examples."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 16, 10),
        )
        data = sp.load_dataset("digits")
        samples = [data.read(index) for index in range(0, len(data), 2)]
        x, y = torch.stack([sample.x for sample in samples]), torch.tensor([sample.y for sample in samples])
        optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
        for _ in range(60):
            loss = nn.functional.cross_entropy(module(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return module
