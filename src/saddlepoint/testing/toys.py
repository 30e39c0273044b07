"""Classifiers whose exact answers are known, or that are small enough to attack in milliseconds."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from saddlepoint import random
from saddlepoint.classifier import Classifier
from saddlepoint.geometry import Region
from saddlepoint.typing import Images, Labels, PerExample


def pixels(count: int, shape: tuple[int, ...] = (3, 5, 4), seed: int = 0) -> Images:
    """Return random pixels in [0, 1], (count, *shape), an eighth of which are exactly 0 and an eighth exactly 1."""
    keys = torch.tensor([random.key(seed, "pixels", row) for row in range(count)])
    return ((random.uniform(keys, 0, shape) - 0.5) * (4 / 3) + 0.5).clamp(0, 1)


def linear(weight: Tensor, bias: Tensor) -> Classifier:
    """Return z = W·x + b on flattened pixels; W is (K, C·H·W), b is (K,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight.clone(), "bias": bias.clone()})
    return Classifier(nn.Sequential(nn.Flatten(), layer), name="linear").eval()


def random_linear(classes: int = 2, shape: tuple[int, ...] = (3, 5, 4), seed: int = 0) -> Classifier:
    """Return a linear classifier with normal weights, scaled so that logits of pixels are of order one."""
    size = torch.Size(shape).numel()
    keys = torch.tensor([random.key(seed, "linear", row) for row in range(classes)])
    weight = random.normal(keys, 0, (size,)) / size**0.5
    return linear(weight, -weight.sum(1) / 2)


def convolutional(classes: int = 4, channels: int = 3, seed: int = 0) -> Classifier:
    """Return a small convolutional network with batch norm and dropout, in training mode, as a careless user has it."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, classes),
    ]
    module = nn.Sequential(*layers)
    for index, parameter in enumerate(module.parameters()):
        key = torch.tensor([random.key(seed, "convolutional", index)])
        fan = max(parameter[0].numel(), 1) if parameter.ndim > 1 else 1
        scale = (6 / fan) ** 0.5 if parameter.ndim > 1 else 0.1
        parameter.data = random.normal(key, 0, tuple(parameter.shape))[0] * scale + (parameter.ndim == 1 and index == 2)
    return Classifier(module, mean=[0.5] * channels, std=[0.25] * channels, name="convolutional").train()


@cache
def digits() -> tuple[Images, Labels]:
    """Return scikit-learn's digits, (1797, 1, 8, 8) in [0, 1]; the even ones are for training."""
    from saddlepoint.data.datasets import load_dataset  # the data sets come with much that no other toy needs

    data = load_dataset("digits")
    samples = [data.read(row) for row in range(len(data))]
    return torch.stack([sample.x for sample in samples]), torch.tensor([sample.y for sample in samples])


@cache
def trained(activation: Callable[[], nn.Module] = nn.ReLU, eps: float = 1 / 8, epochs: int = 12) -> Classifier:
    """Return a network trained on the even digits, adversarially in ℓ∞: at ε = 1/8 it stands on six of ten others.

    One step of 1.25 ε from a random start (Wong, Rice & Kolter 2020, "Fast is better than free"); it takes a second.
    """
    x, y = (part[::2] for part in digits())
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        layers = nn.Conv2d(1, 16, 3, padding=1), activation(), nn.Conv2d(16, 32, 3, stride=2, padding=1), activation()
        module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))
        batches = [rows for _ in range(epochs) for rows in torch.split(torch.randperm(len(x)), 64)]
        optimiser = torch.optim.Adam(module.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=len(batches))
        for rows in batches:
            point = (x[rows] + eps * (2 * torch.rand_like(x[rows]) - 1)).requires_grad_()
            gradient = torch.autograd.grad(cross_entropy(module(point), y[rows]), point)[0]
            delta = (point.detach() + 1.25 * eps * gradient.sign() - x[rows]).clamp(-eps, eps)
            optimiser.zero_grad()
            cross_entropy(module((x[rows] + delta).clamp(0, 1)), y[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return Classifier(module, name="digits").eval()


def worst_margin(classifier: Classifier, region: Region, y: Labels) -> PerExample:
    """Return min_{δ∈Δ} min_{j≠y} z_y − z_j of a linear classifier in closed form: the margin less a support function.

    Kolter & Madry, chapter 2, for each class in turn: z_y − z_j − max_{δ∈Δ} ⟨w_j − w_y, δ⟩, exact on ball ∩ box.
    """
    layer = classifier.module[1]  # type: ignore[index]
    logits = classifier(region.x)
    margins = []
    for other in range(logits.shape[1]):
        gap = (layer.weight[other] - layer.weight[y]).detach().reshape(region.x.shape)
        worst = logits.gather(1, y[:, None])[:, 0] - logits[:, other] - region.support(gap)
        margins.append(torch.where(y == other, torch.inf, worst))
    return torch.stack(margins).amin(0).detach()
