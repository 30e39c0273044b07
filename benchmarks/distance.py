"""One run of nearest adversarial points against attacks at single radii: what stands, and the passes.

    python benchmarks/distance.py --data npz:cifar10_test_first_1000.npz --model onnx:resnet_2b.onnx.gz \
        --mean 0.4914,0.4822,0.4465 --std 0.2471,0.2435,0.2616 --eps 1/255 2/255 4/255 8/255 [--fast]

--fast runs sp.FAST at each radius beside it.
"""

import argparse
import time

import torch

import saddlepoint as sp
from saddlepoint.words import fraction


def triple(text: str) -> tuple[float, ...]:
    """Parse numbers that commas separate."""
    return tuple(map(float, text.split(",")))


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--mean", type=triple)
    parser.add_argument("--std", type=triple)
    parser.add_argument("--eps", nargs="+", default=["2/255", "8/255"])
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--fast", action="store_true")
    given = parser.parse_args()
    classifier = sp.load_classifier(given.model, mean=given.mean, std=given.std)
    data = sp.load_dataset(given.data).select(first=given.first)
    samples = [data.read(place) for place in range(len(data))]
    x, y = torch.stack([one.x for one in samples]), torch.tensor([one.y for one in samples])
    radii = [fraction(text) for text in given.eps]
    print(f"| run | {' | '.join(f'stands at {text}' for text in given.eps)} | median | passes | s |")
    print("|---|" + "--:|" * (len(radii) + 3))
    begin = time.perf_counter()
    result = sp.attack(classifier, x, y, sp.Linf(1.0), sp.FMN())
    distance = torch.where(result.success, result.norm, torch.inf)
    right = classifier.predict(x).label == y
    stands = " | ".join(str(int((distance > eps).sum())) for eps in radii)
    median = f"{float(distance[right].median()):.5f}"
    print(f"| FMN, once | {stands} | {median} | {passes(result)} | {time.perf_counter() - begin:.0f} |", flush=True)
    for place, eps in enumerate(radii if given.fast else ()):
        begin = time.perf_counter()
        result = sp.attack(classifier, x, y, sp.Linf(eps), sp.FAST)
        cells = ["" for _ in radii]
        cells[place] = str(int((~result.success).sum()))
        seconds = time.perf_counter() - begin
        print(f"| FAST at {given.eps[place]} | {' | '.join(cells)} | | {passes(result)} | {seconds:.0f} |", flush=True)


def passes(result: sp.AttackResult) -> int:
    """Return the forwards and backwards of all examples."""
    return int(result.forwards.sum() + result.backwards.sum())


if __name__ == "__main__":
    main()
