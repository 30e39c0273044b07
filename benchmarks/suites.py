"""Robust accuracy and its price: the original AutoAttack, STANDARD and Sweep side by side in one run.

    python benchmarks/suites.py --autoattack PATH --model REF --data REF --eps 2/255 [--first 200] [--mean … --std …]

PATH is a checkout of github.com/fra31/auto-attack; without it the original is left out. Passes are counted per example
where the model is called, padding left out. "only" counts the examples that stay robust under this suite alone, against
the first of the table.
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import saddlepoint as sp

Outcome = tuple[Tensor, int, int]
"""Which examples stay robust, and the forward and backward passes of all."""


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


def original(path: Path, batch: int) -> Callable[..., Outcome]:
    """Return the original AutoAttack, standard version, seed 0."""
    sys.path.insert(0, str(path))
    base: Any = importlib.import_module("autoattack.autopgd_base")
    base.check_zero_gradients = lambda grad, logger=None: None  # fails on gradients that are not contiguous
    package: Any = importlib.import_module("autoattack")

    def run(classifier: sp.Classifier, x: Tensor, y: Tensor, eps: float) -> Outcome:
        model = Counted(classifier.eval().requires_grad_(False))
        attack = package.AutoAttack(model, norm="Linf", eps=eps, seed=0, verbose=False, device="cpu")
        points = attack.run_standard_evaluation(x, y, bs=batch)
        forwards, backwards = model.forwards, model.backwards
        return classifier.predict(points).label == y, forwards, backwards

    return run


def ours(suite: Any, batch: int) -> Callable[..., Outcome]:  # noqa: ANN401 - an attack or a suite
    """Return one of Saddlepoint's suites."""

    def run(classifier: sp.Classifier, x: Tensor, y: Tensor, eps: float) -> Outcome:
        found = sp.attack(classifier, x, y, sp.Linf(eps), suite, batch_size=batch)
        forwards = int(found.forwards.sum() + found.speculative.sum())
        return ~found.success, forwards, int(found.backwards.sum())

    return run


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
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    classifier = sp.load_classifier(given.model, mean=given.mean, std=given.std)
    data = sp.load_dataset(given.data, classifier=classifier).select(first=given.first)
    samples = [data.read(index) for index in range(len(data))]
    x, y = torch.stack([sample.x for sample in samples]), torch.tensor([sample.y for sample in samples])
    contenders = {"AutoAttack": original(given.autoattack, 500)} if given.autoattack else {}
    contenders |= {"STANDARD": ours(sp.STANDARD, given.batch), "Sweep": ours(sp.Sweep(), given.batch)}
    print("suite        robust    only    forwards   backwards   passes  seconds    time")
    reference = None
    for name, run in contenders.items():
        begin = time.perf_counter()
        robust, forwards, backwards = run(classifier, x, y, float(given.eps))
        seconds = time.perf_counter() - begin
        reference = reference or (robust, forwards + backwards, seconds)
        only = f"{int((robust & ~reference[0]).sum())}/{int((reference[0] & ~robust).sum())}"
        shares = f"1/{reference[1] / (forwards + backwards):<5.1f} {seconds:8.1f}  1/{reference[2] / seconds:.1f}"
        print(f"{name:11} {int(robust.sum()):7} {only:>7} {forwards:11,} {backwards:11,}   {shares}", flush=True)


if __name__ == "__main__":
    main()
