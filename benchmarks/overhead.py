"""What the loops cost beside the model: one call of `sp.attack`, and `sp.maximise` against the loop written by hand.

    python benchmarks/overhead.py

The model of the first figure costs nothing, so what is left is bookkeeping. The second compares the two loops in turns
on the same frozen network, and takes the least of each.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

import saddlepoint as sp

BATCH, STEPS, TURNS = 128, 10, 8
EPS, ALPHA = 0.3, 0.075


def seconds(action: Callable[[], object]) -> float:
    """Return how long one call takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def fixed() -> float:
    """Return the least seconds of one call of `sp.attack` on a batch, with one step on a model that costs nothing."""
    classifier = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 10)))
    x = torch.rand(BATCH, 3, 2, 2)
    y = classifier.predict(x).label
    return min(
        seconds(lambda: sp.attack(classifier, x, y, sp.Linf(1e-4), sp.PGD(steps=1), batch_size=BATCH))
        for _ in range(TURNS)
    )


def by_hand(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return δ of projected gradient ascent, as one writes it."""
    low, high = torch.maximum(-x, torch.full_like(x, -EPS)), torch.minimum(1 - x, torch.full_like(x, EPS))
    delta = torch.zeros_like(x)
    for _ in range(STEPS):
        delta.requires_grad_()
        loss = functional.cross_entropy(model(x + delta), y, reduction="sum")
        gradient = torch.autograd.grad(loss, delta)[0]
        delta = torch.clamp(delta.detach() + ALPHA * gradient.sign(), low, high)
    return delta


def main() -> None:
    """Print both."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten())
    model = nn.Sequential(*layers, nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10)).requires_grad_(False)
    x, y = torch.rand(BATCH, 1, 28, 28), torch.randint(10, (BATCH,))
    attack = sp.PGD(steps=STEPS, step_size=ALPHA, random_start=False)

    def ours() -> Tensor:
        return sp.maximise(attack, sp.pose(x, y, sp.Linf(EPS)), model, goal=sp.Last())

    found, due = (functional.cross_entropy(model(x + delta), y).item() for delta in (ours(), by_hand(model, x, y)))
    assert abs(found - due) < 0.01 * due, f"the loops end at losses {found} and {due}"
    turns = [(seconds(ours), seconds(lambda: by_hand(model, x, y))) for _ in range(TURNS)]
    loop, hand = (min(column) for column in zip(*turns, strict=True))
    print(f"one call of sp.attack at batch {BATCH}, beside the model: {fixed() * 1e3:.1f} ms")
    print(f"sp.maximise: {loop * 1e3:.1f} ms; by hand: {hand * 1e3:.1f} ms; {loop / hand:.2f} x")


if __name__ == "__main__":
    main()
