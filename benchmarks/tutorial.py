"""The training of Kolter & Madry's tutorial, chapters 2 to 4, beside the numbers that its notebooks print.

    python benchmarks/tutorial.py --data DIR [--epochs 4]

DIR holds MNIST as IDX files. Chapter 2 is run in full, chapter 3 on the network that ships. Chapter 4 takes hours on a
CPU with the tutorial's network; here it is the strided one of 166k parameters (`small`), for fewer epochs. As there, δ
is clamped and pixels are not.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

import saddlepoint as sp
from saddlepoint.data.datasets import load_dataset
from saddlepoint.training import Terms, empirical, load_recipe, robust_linear, train

BATCH = 100
Loss = Callable[[sp.Classifier, Tensor, Tensor], Terms]


def images(directory: str, part: str) -> tuple[Tensor, Tensor]:
    """Return all pixels and labels of one part of MNIST."""
    data = load_dataset(f"mnist:{directory}:{part}")
    samples = [data.read(index) for index in range(len(data))]
    return torch.stack([each.x for each in samples]), torch.tensor([each.y for each in samples])


def linear(x: Tensor, y: Tensor, loss: Loss, lr: float, epochs: int) -> sp.Classifier:
    """Return a linear classifier of two classes, trained by plain SGD."""
    torch.manual_seed(0)
    classifier = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(784, 2)))
    optimiser = torch.optim.SGD(classifier.parameters(), lr=lr)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(x)), BATCH):
            optimiser.zero_grad()
            torch.autograd.backward(loss(classifier, x[chosen], y[chosen]).loss.mean())
            optimiser.step()
    return classifier


def chapter_2(directory: str) -> None:
    """Print the errors of linear classifiers of zeros and ones; the inner maximum is exact."""
    ball = sp.Linf(0.2)
    (x, y), (x_test, y_test) = (
        (x[y < 2], y[y < 2]) for x, y in (images(directory, "train"), images(directory, "test"))
    )

    def robust(classifier: sp.Classifier, x: Tensor, y: Tensor) -> Terms:
        return robust_linear(classifier, x, y, ball=ball)

    told = (
        ("standard", linear(x, y, empirical, 1.0, 10), (0.0946, 84.6)),
        ("robust", linear(x, y, robust, 0.1, 20), (0.378, 2.51)),
    )
    print("chapter 2, zeros and ones, linear, ε 0.2: test error and worst-case error in %, ours (the tutorial's)")
    for name, classifier, (clean_error, worst_error) in told:
        with torch.no_grad():
            terms = robust_linear(classifier, x_test, y_test, ball=ball)
        clean, worst = (100 * (1 - terms.correct[key].double().mean().item()) for key in ("clean", "robust"))
        print(f"  {name:9} {clean:6.3f} ({clean_error:g})   {worst:6.2f} ({worst_error:g})")


def chapter_3(directory: str) -> None:
    """Print the errors of our network trained on interval bounds at ε 0.1: clean, under PGD-40, and not verified."""
    x, y = images(directory, "test")
    classifier = sp.load_classifier("mnist-ibp")
    clean = (classifier.predict(x).label != y).double().mean().item()
    pgd = sp.PGD(steps=40, step_size=0.01, random_start=False)
    attacked = sp.attack(classifier, x, y, sp.Linf(0.1), pgd, box=None, batch_size=500).success.double().mean().item()
    proven = sp.certify(classifier, x, y, sp.Linf(0.1), method="interval", box=None).verdict
    open_ = 1 - sum(each == "certified" for each in proven) / len(y)
    print("chapter 3, ε 0.1, interval bounds, `mnist-ibp` as it ships: errors in %, ours (the tutorial's)")
    told = zip(("clean", "under PGD-40", "not verified"), (clean, attacked, open_), (5.15, 7.79, 9.67), strict=True)
    print("  " + "   ".join(f"{name} {100 * ours:.2f} ({theirs})" for name, ours, theirs in told))


def chapter_4(directory: str, epochs: int) -> None:
    """Print the errors of convolutional networks at ε 0.1, under PGD with steps of 0.01 and without a pixel box."""
    x, y = images(directory, "test")
    told = (("standard", (1.06, 70.8, None)), ("pgd-at", (0.85, 2.83, 2.86)))
    print(
        f"chapter 4, ε 0.1, `small`, {epochs} epochs: test error, under PGD-20 and PGD-40 in %, ours (the tutorial's)"
    )
    for name, printed in told:
        recipe = replace(load_recipe(name, f"mnist:{directory}"), eps=0.1, epochs=epochs)
        with tempfile.TemporaryDirectory() as folder:
            classifier = train(None, f"mnist:{directory}", recipe, out=folder).classifier
        errors = [100 * (1 - (classifier.predict(x).label == y).double().mean().item())]
        for steps in (20, 40):
            pgd = sp.PGD(steps=steps, step_size=0.01, random_start=False)
            found = sp.attack(classifier, x, y, sp.Linf(0.1), pgd, box=None, batch_size=500)
            errors.append(100 * found.success.double().mean().item())
        print(
            f"  {name:9} " + "   ".join(f"{ours:5.2f} ({theirs})" for ours, theirs in zip(errors, printed, strict=True))
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=4, metavar="N")
    given = parser.parse_args()
    chapter_2(given.data)
    chapter_3(given.data)
    chapter_4(given.data, given.epochs)
