"""What a GPU changes: the same outcomes as on the CPU, and how much of a step is not the model.

    python benchmarks/gpu.py [--device cuda] [--images 200] [--batch 64] [--large]

Prints a table of Markdown in some minutes, with nothing but what the package carries:

    agreement    the default classifier on its images: predictions, verdicts of FAST and CROWN, on the CPU and there
    a step       of PGD in each norm, against one forward and one backward of the frozen module: the rest is ours
    the suites   FAST and STANDARD on the default classifier: standing, passes, seconds
    --large      a step on a ResNet-50 of random weights at 224 pixels, in float32 and bfloat16

An outcome may differ for an example within rounding of a boundary: such are counted, and their margins shown.
"""

import argparse
import copy
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

import saddlepoint as sp
from saddlepoint.classifier import Precision

TURNS, STEPS = 3, 20


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """Return the least time of a few calls, after one that prepares."""
    action()
    found = []
    for _ in range(TURNS):
        wait(device)
        begin = time.perf_counter()
        action()
        wait(device)
        found.append(time.perf_counter() - begin)
    return min(found)


def examples(count: int) -> tuple[sp.Classifier, Tensor, Tensor]:
    """Return the default classifier on the CPU, and the first of its images."""
    classifier, data = sp.load_classifier("fashion-mnist-pgd"), sp.load_dataset("fashion-mnist-sample")
    samples = [data.read(place) for place in range(count)]
    return classifier, torch.stack([each.x for each in samples]), torch.tensor([each.y for each in samples])


def agreement(classifier: sp.Classifier, x: Tensor, y: Tensor, device: torch.device, batch: int) -> None:
    """Print how many outcomes are others than on the CPU."""
    print("| outcome | on both | other than on the CPU | largest margin of those |\n|---|--:|--:|--:|")
    ball, margins = sp.Linf(0.1), dict[str, list[Tensor]]()
    for place in (torch.device("cpu"), device):
        model = classifier.to(place)
        clean = model.predict(x)
        attacked = sp.attack(model, x, y, ball, sp.FAST, batch_size=batch)
        proof = sp.certify(model, x, y, ball, method="crown")
        top = clean.logits.cpu().topk(2).values
        for name, margin in (
            ("clean prediction", (top[:, 0] - top[:, 1]) * torch.where(clean.label.cpu() == y, 1, -1)),
            ("broken by FAST", attacked.margin.cpu()),
            ("certified by CROWN", proof.lower_bound.cpu()),
        ):
            margins.setdefault(name, []).append(margin)
    for name, (here, there) in margins.items():
        other = (here > 0) != (there > 0)
        least = torch.minimum(here.abs(), there.abs())[other]
        most, count = float(least.max()) if len(least) else 0.0, int(other.sum())
        print(f"| {name} | {len(x) - count} | {count} | {most:.2g} |")


def step(
    module: nn.Module, classifier: sp.Classifier, x: Tensor, y: Tensor, ball: sp.Ball, *, low: bool
) -> tuple[float, float]:
    """Return the seconds of a step of ours, and of one forward and one backward of the module."""
    device, batch = x.device, len(x)

    def ours(steps: int) -> Callable[[], object]:
        method = sp.PGD(steps=steps, random_start=False)
        precision: Precision = "bf16" if low else "fp32"
        return lambda: sp.attack(classifier, x, y, ball, method, stop="never", batch_size=batch, precision=precision)

    kind = torch.bfloat16 if low else torch.float32
    bare = copy.deepcopy(module).to(kind)

    def floor() -> None:
        pixels = x.to(kind).requires_grad_()
        loss = functional.cross_entropy(bare(pixels).float(), y, reduction="sum")
        torch.autograd.grad(loss, pixels)

    least = seconds(floor, device)
    return (seconds(ours(STEPS + 2), device) - seconds(ours(2), device)) / STEPS, least


def steps(classifier: sp.Classifier, x: Tensor, y: Tensor, *, low: bool = False, balls: tuple[sp.Ball, ...]) -> None:
    """Print what a step costs in each ball."""
    module = classifier.module.requires_grad_(False)
    for ball in balls:
        own, least = step(module, classifier, x, y, ball, low=low)
        kind, share = f"{ball.name}{' bf16' if low else ''}", max(0.0, 1 - least / own)
        print(f"| {kind} | {1000 * own:.2f} ms | {1000 * least:.2f} ms | {own / least:.2f} × | {share:.0%} |")


def suites(classifier: sp.Classifier, x: Tensor, y: Tensor, batch: int) -> None:
    """Print what the suites find, and what that takes."""
    for name, suite in (("FAST", sp.FAST), ("STANDARD", sp.STANDARD)):
        begin = time.perf_counter()
        found = sp.attack(classifier, x, y, sp.Linf(0.1), suite, batch_size=batch)
        wait(classifier.device)
        passes = int(found.forwards.sum() + found.backwards.sum())
        print(
            f"| {name} | {int((~found.success).sum())} of {len(x)} | {passes:,} | {time.perf_counter() - begin:.1f} s |"
        )


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--large", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    device = torch.device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name} · torch {torch.__version__} · batch {given.batch}\n")
    classifier, x, y = examples(given.images)
    agreement(classifier, x, y, device, given.batch)
    there = classifier.to(device)
    some, labels = x[: given.batch].to(device), y[: given.batch].to(device)
    print("\n| a step in | ours | forward and backward | | not the model |\n|---|--:|--:|--:|--:|")
    steps(there, some, labels, balls=(sp.Linf(0.1), sp.L2(0.5), sp.L1(12.0)))
    print("\n| suite | standing | passes | time |\n|---|--:|--:|--:|")
    suites(there, x, y, given.batch)
    if given.large:
        from torchvision.models import resnet50

        torch.manual_seed(0)
        large = sp.Classifier(resnet50(weights=None).eval()).to(device)
        pixels, classes = (
            torch.rand(given.batch, 3, 224, 224, device=device),
            torch.zeros(given.batch, dtype=torch.long),
        )
        print("\n| a step on a ResNet-50 | ours | forward and backward | | not the model |\n|---|--:|--:|--:|--:|")
        for low in (False, True):
            steps(large, pixels, classes.to(device), low=low, balls=(sp.Linf(4 / 255),))


if __name__ == "__main__":
    main()
