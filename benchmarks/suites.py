"""Robust accuracy and its price, side by side in one run: AutoAttack, its namesakes, STANDARD, FAST and Sweep.

    python benchmarks/suites.py --autoattack PATH --model REF --data REF --eps 2/255 [--first 200] [--mean … --std …]

PATH is a checkout of github.com/fra31/auto-attack; without it the original is left out. Each contender has a process of
its own. Passes are counted per example where the model is called, padding left out. "only" counts the examples that
stay robust under this suite alone, against the first of the table.
"""

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import saddlepoint as sp

NAMES = ("autoattack", "torchattacks", "art", "standard", "fast", "sweep")

Run = Callable[["Counted", Tensor, Tensor, float], Tensor]
"""Return adversarial points of a model, given pixels, labels and ε."""


class Counted(torch.nn.Module):
    """A classifier that counts what passes through it."""

    def __init__(self, classifier: sp.Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        self.forwards += len(x)
        logits: Tensor = self.classifier(x)
        if logits.requires_grad:
            logits.register_hook(self._count)  # type: ignore[no-untyped-call]
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def autoattack(given: argparse.Namespace) -> Run:
    """Return the original AutoAttack, standard version, seed 0."""
    sys.path.insert(0, str(given.autoattack))
    base: Any = importlib.import_module("autoattack.autopgd_base")
    base.check_zero_gradients = lambda grad, logger=None: None  # fails on gradients that are not contiguous
    package: Any = importlib.import_module("autoattack")

    def run(model: Counted, x: Tensor, y: Tensor, eps: float) -> Tensor:
        attack = package.AutoAttack(model, norm="Linf", eps=eps, seed=0, verbose=False, device="cpu")
        points: Tensor = attack.run_standard_evaluation(x, y, bs=500)
        return points

    return run


def torchattacks(given: argparse.Namespace) -> Run:
    """Return the namesake in torchattacks."""
    package: Any = importlib.import_module("torchattacks")

    def run(model: Counted, x: Tensor, y: Tensor, eps: float) -> Tensor:
        classes = model.classifier(x[:1]).shape[1]
        points: Tensor = package.AutoAttack(model, norm="Linf", eps=eps, n_classes=classes, seed=0)(x, y)
        return points

    return run


def art(given: argparse.Namespace) -> Run:
    """Return the namesake in the Adversarial Robustness Toolbox."""
    attacks: Any = importlib.import_module("art.attacks.evasion")
    estimators: Any = importlib.import_module("art.estimators.classification")

    def run(model: Counted, x: Tensor, y: Tensor, eps: float) -> Tensor:
        estimator = estimators.PyTorchClassifier(
            model=model,
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=tuple(x.shape[1:]),
            nb_classes=model.classifier(x[:1]).shape[1],
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )
        attack = attacks.AutoAttack(estimator=estimator, norm="inf", eps=eps, batch_size=given.batch)
        return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))

    return run


def ours(suite: Any) -> Callable[[argparse.Namespace], Run]:  # noqa: ANN401 - an attack or a suite
    """Return one of Saddlepoint's suites; the loop counts its passes."""

    def prepare(given: argparse.Namespace) -> Run:
        def run(model: Counted, x: Tensor, y: Tensor, eps: float) -> Tensor:
            found = sp.attack(model.classifier, x, y, sp.Linf(eps), suite, batch_size=given.batch)
            model.forwards = int(found.forwards.sum() + found.speculative.sum())
            model.backwards = int(found.backwards.sum())
            return found.x_adv

        return run

    return prepare


CONTENDERS: dict[str, Callable[[argparse.Namespace], Run]] = {
    "autoattack": autoattack,
    "torchattacks": torchattacks,
    "art": art,
    "standard": ours(sp.STANDARD),
    "fast": ours(sp.FAST),
    "sweep": ours(sp.Sweep()),
}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Run one contender in this process."""
    torch.set_num_threads(given.threads)
    classifier = sp.load_classifier(given.model, mean=given.mean, std=given.std)
    data = sp.load_dataset(given.data, classifier=classifier).select(first=given.first)
    samples = [data.read(index) for index in range(len(data))]
    x, y = torch.stack([sample.x for sample in samples]), torch.tensor([sample.y for sample in samples])
    eps, model = float(given.eps), Counted(classifier.eval().requires_grad_(False))
    run, begin = CONTENDERS[given.only](given), time.perf_counter()
    points = run(model, x, y, eps).detach()
    seconds, forwards, backwards = time.perf_counter() - begin, model.forwards, model.backwards
    inside = (points.double() - x.double()).abs().flatten(1).amax(1) <= eps + 1e-6
    robust = (classifier.predict(points.clamp(0, 1)).label == y) | ~inside
    return {
        "robust": robust.tolist(),
        "forwards": forwards,
        "backwards": backwards,
        "seconds": seconds,
        "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def row(name: str, found: dict[str, Any], first: dict[str, Any]) -> str:
    """Return a line of the table."""
    only = [
        sum(a and not b for a, b in zip(*pair, strict=True))
        for pair in (
            (found["robust"], first["robust"]),
            (first["robust"], found["robust"]),
        )
    ]
    passes = (first["forwards"] + first["backwards"]) / (found["forwards"] + found["backwards"])
    seconds, faster = found["seconds"], first["seconds"] / found["seconds"]
    return (
        f"| {name} | {sum(found['robust'])} | {only[0]} / {only[1]} | {found['forwards']:,} | {found['backwards']:,} "
        f"| 1/{passes:.1f} | {seconds:.1f} | 1/{faster:.1f} | {found['MiB']:.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--autoattack", type=Path, help="a checkout of github.com/fra31/auto-attack")
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--mean", type=json.loads, help="such as [0.49,0.48,0.45]")
    parser.add_argument("--std", type=json.loads)
    parser.add_argument("--eps", type=Fraction, default=Fraction(2, 255))
    parser.add_argument("--first", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--names", nargs="+", choices=NAMES, default=NAMES, help="of the contenders, the first first")
    parser.add_argument("--only", choices=NAMES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measure(given)))
        return
    print("| suite | robust | only here / there | forwards | backwards | passes | seconds | time | MiB |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    first = None
    for name in given.names:
        if name == "autoattack" and given.autoattack is None:
            continue
        command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "TQDM_DISABLE": "1"}
        )
        if done.returncode:
            print(f"| {name} | failed |", flush=True)
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        first = first or found
        print(row(name, found, first), flush=True)


if __name__ == "__main__":
    main()
