"""Which examples another batch shape decides otherwise: convolutions of 16 and of 128 images round differently.

    python benchmarks/shapes.py --model REF --data REF --eps 2/255 [--first 200] [--shapes 16 128] [--mean … --std …]

An ascent repeats the last bits of its gradients in its signs, so that two shapes follow two paths. The margins tell how
near the boundary such examples lie: their clean margin is not near zero, what the attack left of it is.
"""

import argparse
import json
from fractions import Fraction
from typing import Any

import torch

import saddlepoint as sp

SUITES: dict[str, Any] = {
    "standard": sp.STANDARD,
    "fast": sp.FAST,
    "sweep": sp.Sweep(),
    "apgd": sp.APGD(),
    "square": sp.Square(),
}


def main() -> None:
    """Print one line for each suite, and one for each example that differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--mean", type=json.loads, help="such as [0.49,0.48,0.45]")
    parser.add_argument("--std", type=json.loads)
    parser.add_argument("--eps", type=Fraction, default=Fraction(2, 255))
    parser.add_argument("--first", type=int, default=200)
    parser.add_argument("--shapes", type=int, nargs=2, default=(16, 128))
    parser.add_argument("--names", nargs="+", choices=SUITES, default=["fast"])
    given = parser.parse_args()
    classifier = sp.load_classifier(given.model, mean=given.mean, std=given.std)
    data = sp.load_dataset(given.data, classifier=classifier).select(first=given.first)
    samples = [data.read(index) for index in range(len(data))]
    x, y = torch.stack([sample.x for sample in samples]), torch.tensor([sample.y for sample in samples])
    for name in given.names:
        a, b = (
            sp.attack(classifier, x, y, sp.Linf(float(given.eps)), SUITES[name], batch_size=shape)
            for shape in given.shapes
        )
        differ = (a.success != b.success).nonzero().flatten().tolist()
        print(f"{name}: {len(differ)} of {len(x)} differ; robust {int((~a.success).sum())}, {int((~b.success).sum())}")
        for index in differ:
            print(f"  {samples[index].id}: margins {float(a.margin[index]):.2e} and {float(b.margin[index]):.2e}")


if __name__ == "__main__":
    main()
