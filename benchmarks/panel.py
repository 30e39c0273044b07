"""FAST beside STANDARD on ordinary networks, trained without an adversary, and on robust ones.

    python benchmarks/panel.py --mnist DIR [--onnx DIR] [--shipped] [--first 100] [--names NAME …]

DIR of --mnist holds `train.npz` and `test.npz`, with `x` in uint8, (N, 1, 28, 28), and `y`; on the former networks are
trained (a minute each, kept in --models). DIR of --onnx holds `mnist-net_256x{2,4,6}.onnx.gz` of the competition
of 2022 (VNN-COMP); --shipped adds the networks that come with Saddlepoint. Passes are forward plus backward, in all.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import saddlepoint as sp

Make = Callable[[], nn.Module]


class Scaled(nn.Module):
    """Logits a thousand times as large: an overconfident network."""

    def forward(self, z: Tensor) -> Tensor:
        """Return 1000 z."""
        return 1000 * z


def dense(widths: list[int], act: Callable[[], nn.Module], *last: nn.Module) -> nn.Module:
    """Return a network of linear layers."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in zip([784, *widths], [*widths, 10], strict=True):
        layers += [nn.Linear(before, after), act()]
    return nn.Sequential(*layers[:-1], *last)


def convolutional() -> nn.Module:
    """Return a network of two convolutions."""
    convolutions = (nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU())
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10))


def lenet() -> nn.Module:
    """Return LeNet-5, with tanh."""
    first = (nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2))
    second = (nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2))
    head = (nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10))
    return nn.Sequential(*first, *second, nn.Flatten(), *head)


TRAINED: dict[str, tuple[Make, str, float]] = {
    "sigmoid": (lambda: dense([200, 100], nn.Sigmoid), "cross-entropy", 0.04),
    "tanh": (lambda: dense([200, 100], nn.Tanh), "cross-entropy", 0.03),
    "sigmoid, squared error": (lambda: dense([100], nn.Sigmoid, nn.Sigmoid()), "squared error", 0.05),
    "deep and narrow": (lambda: dense([32] * 9, nn.ReLU), "cross-entropy", 0.03),
    "squared error": (lambda: dense([256, 256], nn.ReLU), "squared error", 0.03),
    "overconfident": (lambda: dense([256, 256], nn.ReLU), "cross-entropy", 0.03),
    "CNN": (convolutional, "cross-entropy", 0.08),
    "CNN, squared error": (convolutional, "squared error", 0.1),
    "LeNet, tanh": (lenet, "cross-entropy", 0.08),
    "int8 weights": (convolutional, "cross-entropy", 0.08),
}
"""By name: the network, the loss that it is trained on, and ε."""
EPOCHS = 3


def trained(name: str, mnist: Path, models: Path) -> nn.Module:
    """Return a trained network, from `models` if it is there."""
    make, loss, _ = TRAINED[name]
    torch.manual_seed(0)
    net, path = make(), models / f"{name.replace(' ', '-')}.pt"
    if path.exists():
        net.load_state_dict(torch.load(path, weights_only=True))
    else:
        with np.load(mnist / "train.npz") as file:
            x, y = torch.from_numpy(file["x"]).float() / 255, torch.from_numpy(file["y"])
        fit(net, x, y, loss)
        models.mkdir(parents=True, exist_ok=True)
        torch.save(net.state_dict(), path)
    if name == "int8 weights":
        rounded(net)
    return nn.Sequential(net, Scaled()) if name == "overconfident" else net


def fit(net: nn.Module, x: Tensor, y: Tensor, loss: str) -> None:
    """Train by Adam on one cycle."""
    batches = len(x) // 128
    optimiser = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=EPOCHS * batches)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x))[: batches * 128].reshape(batches, 128):
            z, labels = net(x[batch]), y[batch]
            squared = (z - functional.one_hot(labels, 10)).square().sum(1).mean()
            value = squared if loss == "squared error" else functional.cross_entropy(z, labels)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()


def rounded(net: nn.Module) -> None:
    """Round weights to 256 levels, as quantisation of weights does."""
    for weight in net.parameters():
        weight.data = (weight.data * (127 / weight.data.abs().max())).round() / (127 / weight.data.abs().max())


def panel(given: argparse.Namespace) -> Iterator[tuple[str, sp.Classifier, Tensor, Tensor, float]]:
    """Yield the networks, with the images that each is tried on and ε."""
    with np.load(given.mnist / "test.npz") as file:
        x = torch.from_numpy(file["x"][: given.first]).float() / 255
        y = torch.from_numpy(file["y"][: given.first])
    for name, (_, _, eps) in TRAINED.items():
        yield name, sp.Classifier(trained(name, given.mnist, given.models)), x, y, eps
    if given.onnx is not None:
        for depth, eps in ((2, 0.03), (2, 0.05), (4, 0.03), (4, 0.05), (6, 0.03), (6, 0.05)):
            path = given.onnx / f"mnist-net_256x{depth}.onnx.gz"
            yield f"256x{depth} at {eps}", sp.load_classifier(f"onnx:{path}"), x, y, eps
    if given.shipped:
        for name, eps in (("mnist-standard", 0.08), ("mnist-pgd", 0.2), ("mnist-ibp", 0.2)):
            yield name, sp.load_classifier(name), x, y, eps
        data = sp.load_dataset("fashion-mnist-sample").select(first=given.first)
        samples = [data.read(place) for place in range(len(data))]
        x, y = torch.stack([each.x for each in samples]), torch.tensor([each.y for each in samples])
        for name, eps in (("fashion-mnist-standard", 0.03), ("fashion-mnist-pgd", 0.1)):
            yield name, sp.load_classifier(name), x, y, eps


def measured(
    classifier: sp.Classifier, x: Tensor, y: Tensor, eps: float, suite: object
) -> tuple[Tensor, int, float, str]:
    """Return which examples stand, the passes, the seconds and the names of findings."""
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sp.attack(classifier, x, y, sp.Linf(eps), suite, batch_size=64)  # type: ignore[arg-type]
    passes = int(found.forwards.sum() + found.backwards.sum())
    return ~found.success, passes, time.perf_counter() - begin, ", ".join(each.name for each in found.findings)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--shipped", action="store_true")
    parser.add_argument("--models", type=Path, default=Path("panel-models"))
    parser.add_argument("--first", type=int, default=100)
    parser.add_argument("--names", nargs="+")
    given = parser.parse_args()
    print("| network | ε | STANDARD stands | FAST stands | only in FAST / STANDARD | passes | findings |")
    print("|---|--:|--:|--:|--:|--:|---|")
    for name, classifier, x, y, eps in panel(given):
        if given.names and name not in given.names:
            continue
        full, price, _, _ = measured(classifier, x, y, eps, sp.STANDARD)
        fast, spent, _, said = measured(classifier, x, y, eps, sp.FAST)
        only = f"{int((fast & ~full).sum())} / {int((full & ~fast).sum())}"
        print(
            f"| {name} | {eps} | {int(full.sum())} | {int(fast.sum())} | {only} | {spent:,}, 1/{price / spent:.0f} "
            f"| {said} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
