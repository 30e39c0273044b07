"""What certificates reach and cost: the tutorial's numbers, a competition's verdicts, published accuracies, a peer.

    python benchmarks/certify.py --data DIR [--images FILE.npz] [--first 100] [--lirpa PATH] [--autoattack PATH]

DIR holds `tutorial/` (networks of chapter 3 and what its notebooks print) and `vnncomp/cifar10_resnet/` (gzipped ONNX
networks, VNN-LIB properties, `instances.csv` with verdicts). FILE holds CIFAR-10 test images, `x` in uint8 and `y`.
PATHs are checkouts of auto_LiRPA and AutoAttack, which are then timed in turns with us, on the same images and threads.
Parts whose files are not given are left out.
"""

import argparse
import csv
import gzip
import importlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import saddlepoint as sp
from saddlepoint.certificates import bounds, graphs_of
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.methods import Worst, worst_margins
from saddlepoint.certificates.milp import by_integers, program
from saddlepoint.certificates.sets import Box, around
from saddlepoint.training.intervals import intervals, worst_logits

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """Return what an action returns, and its seconds."""
    begin = time.perf_counter()
    return action(), time.perf_counter() - begin


def tutorial(data: Path) -> None:
    """Print margins of the tutorial's network of chapter 3 beside those that its notebook prints."""
    printed = json.loads((data / "targets.json").read_text())
    net = nn.Sequential(*(nn.Flatten(), nn.Linear(784, 50), nn.ReLU(), nn.Linear(50, 20), nn.ReLU(), nn.Linear(20, 10)))
    net.load_state_dict(load_file(data / "model_small.safetensors"))
    x = torch.from_numpy(np.load(data / "mnist_test_first_1000.npz")["x"][:1]).reshape(1, 1, 28, 28).float() / 255
    graph, label = graphs_of(sp.Classifier(net), (1, 28, 28))[1], printed["image0_label"]
    found = intervals(graph, around(x, sp.Linf(0.02), (0, 1)))
    folded = -worst_logits(graph, found, torch.tensor([label]))[0]
    due = torch.tensor(printed["interval_margin_bounds_small_image0_eps0.02"], dtype=torch.float64)
    print(f"intervals, eps 0.02: off the printed margins by {(folded - due).abs().max():.1g}")
    exact = {int(j): value for j, value in printed["milp_margins_small_image0_eps0.05_by_target"].items()}

    def solve() -> dict[int, float]:
        known = bounds.crown(graph, around(x, sp.Linf(0.05), (0, 1)), torch.float64)
        made, rows = program(graph, known, exact=True), np.eye(10)

        def margin(j: int) -> float:
            row = rows[label] - rows[j]
            with torch.no_grad():
                reached = lambda v: float(graph(torch.from_numpy(v).reshape(x.shape))[0].numpy() @ row)  # noqa: E731
                return by_integers(made, row, graph.terms, reached).value

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # as `method="milp"` does
            return dict(zip(exact, pool.map(margin, exact), strict=True))

    got, seconds = timed(solve)
    off = max(abs(got[j] - exact[j]) for j in exact)
    print(f"milp, eps 0.05: nine margins in {seconds:.1f} s, off the printed ones by {off:.1g}\n")


def network(data: Path, name: str = "resnet_2b") -> sp.Classifier:
    """Return a network of the competition, of normalised pixels."""
    file = Path(tempfile.mkdtemp()) / f"{name}.onnx"
    file.write_bytes(gzip.decompress((data / "onnx" / f"{name}.onnx.gz").read_bytes()))
    return sp.load_classifier(f"onnx:{file}")


def competition(data: Path, first: int) -> None:
    """Print what α-CROWN proves of the competition's first properties, each a box of normalised pixels and a label."""
    rows = list(csv.DictReader((data / "instances.csv").open()))[:first]
    graphs = {name: graphs_of(network(data, name), (3, 32, 32)) for name in {_stem(row["onnx"]) for row in rows}}
    print("| property | verdict | alpha-crown | bound | seconds |\n|---|---|---|--:|--:|")
    wrong = 0
    for number, row in enumerate(rows):
        lower, upper, label = read(gzip.decompress((data / row["vnnlib"]).read_bytes()).decode())
        found, seconds = timed(partial(_proven, graphs[_stem(row["onnx"])][0], Box(lower, upper), label))
        proven = float(found.least) > 0
        wrong += proven and row["verdict"] == "sat"
        told = "proven" if proven else "open"
        print(f"| {number} | {row['verdict']} | {told} | {float(found.least):.3f} | {seconds:.1f} |")
    print(f"\nverdicts that contradict the competition's: {wrong}\n")


def _proven(graph: Graph, box: Box, label: Tensor) -> Worst:
    return worst_margins(graph, box, label, "alpha-crown")


def read(text: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return lower and upper bounds of normalised pixels, and the label, of a VNN-LIB property of robustness."""
    lower, upper = (torch.zeros(3 * 32 * 32, dtype=torch.float64) for _ in range(2))
    for side, place, value in re.findall(r"assert \((<=|>=) X_(\d+) ([-\d.eE]+)\)", text):
        (upper if side == "<=" else lower)[int(place)] = float(value)
    (label,) = set(re.findall(r">= Y_\d+ Y_(\d+)\)", text))
    return lower.reshape(1, 3, 32, 32), upper.reshape(1, 3, 32, 32), torch.tensor([int(label)])


def _stem(path: str) -> str:
    return Path(path).name.removesuffix(".gz").removesuffix(".onnx")


def published(data: Path, images: Path, first: int, lirpa: Path | None) -> None:
    """Print CROWN-verified accuracy of resnet_2b, and the peer's bounds of the same images."""
    arrays = np.load(images)
    x, y = torch.from_numpy(arrays["x"][:first]).float() / 255, torch.from_numpy(arrays["y"][:first]).long()
    plain = network(data)
    classifier = sp.Classifier(plain.module, mean=MEAN, std=STD)
    right = (classifier.predict(x).label == y).nonzero().squeeze(1)
    graphs = graphs_of(classifier, (3, 32, 32))
    print(f"resnet_2b, first {first}: clean {len(right) / first:.2%}")
    for eps in (Fraction(1, 255), Fraction(2, 255)):
        ball = sp.Linf(float(eps))
        ours, seconds = timed(partial(sp.certify, classifier, x[right], y[right], ball, graphs=graphs))
        certified = sum(verdict == "certified" for verdict in ours.verdict)
        print(f"eps {eps}: crown certifies {certified / first:.2%}, {seconds / len(right):.3f} s an image")
        if lirpa is not None:
            found, theirs = peer(plain.module, x[right], y[right], float(eps), lirpa)
            above = found - ours.lower_bound
            verdicts = int(((found > 0) != (ours.lower_bound > 0)).sum())
            print(
                f"  auto_LiRPA: {theirs / len(right):.3f} s an image, {theirs / seconds:.2f} x; its bounds less ours: "
                f"{above.min():.2g} to {above.max():.2g}, mean {above.mean():.2g}; verdicts that differ: {verdicts}"
            )
    print()


def peer(module: nn.Module, x: Tensor, y: Tensor, eps: float, path: Path) -> tuple[Tensor, float]:
    """Return auto_LiRPA's CROWN bounds of the worst margins, one image at a time, and its seconds in all."""
    sys.path[:0] = [str(path), *map(str, path.parent.glob("*_deps"))]
    package: Any = importlib.import_module("auto_LiRPA")
    perturbations: Any = importlib.import_module("auto_LiRPA.perturbations")
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    bounded = package.BoundedModule(module, torch.zeros(1, 3, 32, 32), device="cpu", verbose=False)
    found, begin = list[Tensor](), time.perf_counter()
    for image, label in zip(x, y, strict=True):
        low, high = ((torch.clamp(image + s * eps, 0, 1)[None] - mean) / std for s in (-1, 1))
        ball = perturbations.PerturbationLpNorm(norm=float("inf"), x_L=low, x_U=high)
        unit = torch.eye(10)
        rows = (unit[label] - unit)[torch.arange(10) != label][None]
        point = package.BoundedTensor((low + high) / 2, ball)
        with torch.no_grad():
            lower, _ = bounded.compute_bounds(x=(point,), C=rows, method="CROWN", bound_upper=False)
        found.append(lower.min())
    return torch.stack(found).double(), time.perf_counter() - begin


def closing(first: int, autoattack: Path | None) -> None:
    """Print how far the bracket of a certifiably trained model is open, and what AutoAttack alone takes."""
    classifier, data = sp.load_classifier("fashion-mnist-ibp"), sp.load_dataset("fashion-mnist-sample")
    found, seconds = timed(
        lambda: sp.evaluate(classifier, data, sp.Linf(0.1), certify="alpha-crown", first=first, checks=False)
    )
    bracket = found.robust_accuracy
    print(
        f"fashion-mnist-ibp, first {first}, eps 0.1: certified {bracket.certified}, attacked {bracket.attacked}, "
        f"{bracket.counts['undecided']} undecided; {seconds:.1f} s with FAST"
    )
    samples = [data.read(i) for i in range(first)]
    x, y = torch.stack([each.x for each in samples]), torch.tensor([each.y for each in samples])
    graphs = graphs_of(classifier, (1, 28, 28))

    def cascade() -> None:
        cheap = sp.certify(classifier, x, y, sp.Linf(0.1), method="interval", graphs=graphs)
        left = torch.tensor([verdict == "unknown" for verdict in cheap.verdict])
        sp.certify(classifier, x[left], y[left], sp.Linf(0.1), method="alpha-crown", graphs=graphs)

    _, proving = timed(cascade)
    print(f"  intervals, then alpha-crown of all they leave open: {proving:.1f} s")
    if autoattack is not None:
        _, theirs = timed(lambda: original(classifier, x, y, autoattack))
        print(f"  the original AutoAttack alone: {theirs:.1f} s, {theirs / proving:.1f} x")


def original(classifier: sp.Classifier, x: Tensor, y: Tensor, path: Path) -> None:
    """Run AutoAttack's standard version."""
    sys.path.insert(0, str(path))
    base: Any = importlib.import_module("autoattack.autopgd_base")
    base.check_zero_gradients = lambda grad, logger=None: None  # fails on gradients that are not contiguous
    package: Any = importlib.import_module("autoattack")
    adversary = package.AutoAttack(
        classifier.eval(), norm="Linf", eps=0.1, version="standard", device="cpu", verbose=False
    )
    adversary.run_standard_evaluation(x, y, bs=250)


def main() -> None:
    """Print every part whose files are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=Path, help="CIFAR-10 test images, .npz")
    parser.add_argument("--first", type=int, default=100, help="images of CIFAR-10 (default: 100)")
    parser.add_argument("--sample", type=int, default=1000, help="of the shipped images (default: 1000)")
    parser.add_argument("--properties", type=int, default=12, help="of the competition (default: 12)")
    parser.add_argument("--lirpa", type=Path, help="a checkout of github.com/Verified-Intelligence/auto_LiRPA")
    parser.add_argument("--autoattack", type=Path, help="a checkout of github.com/fra31/auto-attack")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} threads\n")
    if given.data is not None:
        tutorial(given.data / "tutorial")
        resnets = given.data / "vnncomp" / "cifar10_resnet"
        competition(resnets, given.properties)
        if given.images is not None:
            published(resnets, given.images, given.first, given.lirpa)
    closing(given.sample, given.autoattack)


if __name__ == "__main__":
    main()
