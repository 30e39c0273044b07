"""What a step of training costs: PGD-7 against the tutorial's loop and the floor; IBP against a plain step.

    python benchmarks/training_cost.py

The network is the tutorial's (four convolutions, 1×28×28, batch 100). Its loop, written by hand: the batch's mean loss,
`.backward()` into all parameters at every step of the attack. The floor: eight forwards and backwards of the module.
Contenders take turns; the least of each is compared.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

import saddlepoint as sp
from saddlepoint.training import adversarial
from saddlepoint.training.certified import ibp, program_of

BATCH, STEPS, EPS, ALPHA, TURNS = 100, 7, 0.1, 0.01, 5


def network() -> nn.Module:
    """Return the network of the tutorial's chapter 4."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((1, 32, 1), (32, 32, 2), (32, 64, 1), (64, 64, 2)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3136, 100), nn.ReLU(), nn.Linear(100, 10))


def by_hand(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the loss at the point of the tutorial's `pgd_linf`, a graph attached."""
    delta = torch.zeros_like(x, requires_grad=True)
    for _ in range(STEPS):
        torch.autograd.backward(functional.cross_entropy(module(x + delta), y))
        assert delta.grad is not None
        delta.data = (delta + ALPHA * delta.grad.detach().sign()).clamp(-EPS, EPS)
        delta.grad.zero_()
    return functional.cross_entropy(module(x + delta.detach()), y)


def floor(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the loss of the last of eight passes forward and backward."""
    for _ in range(STEPS):
        torch.autograd.backward(functional.cross_entropy(module(x), y))
    return functional.cross_entropy(module(x), y)


def ours(precision: str) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """Return the mean of the adversarial objective."""
    attack = sp.PGD(steps=STEPS, step_size=ALPHA, random_start=False)

    def loss(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        classifier = sp.Classifier(module)
        return adversarial(classifier, x, y, ball=sp.Linf(EPS), attack=attack, precision=precision).loss.mean()

    return loss


def plain(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the loss."""
    return functional.cross_entropy(module(x), y)


def intervals(module: nn.Module) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """Return the mean of IBP's objective as the recipe `ibp` has it, whose graph is made once."""
    classifier = sp.Classifier(module)
    program = program_of(classifier, (1, 28, 28))

    def loss(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return ibp(classifier, x, y, ball=sp.Linf(EPS), program=program, kappa=0.0, tightness=0.5).loss.mean()

    return loss


def seconds(loss: Callable[[nn.Module, Tensor, Tensor], Tensor], module: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return how long one step of training takes."""
    optimiser = torch.optim.SGD(module.parameters(), lr=0.01)
    begin = time.perf_counter()
    optimiser.zero_grad()
    torch.autograd.backward(loss(module, x, y))
    optimiser.step()
    return time.perf_counter() - begin


if __name__ == "__main__":
    x, y = torch.rand(BATCH, 1, 28, 28), torch.randint(10, (BATCH,))
    contenders = {
        "floor: 8 forwards and backwards": (floor, network()),
        "the tutorial's loop": (by_hand, network()),
        "saddlepoint": (ours("fp32"), network().to(memory_format=torch.channels_last)),
        "saddlepoint, bf16 inside": (ours("bf16"), network().to(memory_format=torch.channels_last)),
        "a plain step": (plain, network().to(memory_format=torch.channels_last)),
        "an IBP step": (
            intervals(bounded := network().to(memory_format=torch.channels_last)),
            bounded,
        ),
    }
    least = dict.fromkeys(contenders, float("inf"))
    for _ in range(TURNS):
        for name, (loss, module) in contenders.items():
            least[name] = min(least[name], seconds(loss, module, x, y))
    base, hand = least["floor: 8 forwards and backwards"], least["the tutorial's loop"]
    for name, value in least.items():
        print(f"{name:32} {1000 * value:7.1f} ms  {value / base:.2f} × floor  1/{hand / value:.2f} of the tutorial's")
    print(f"IBP: {least['an IBP step'] / least['a plain step']:.2f} × a plain step")
