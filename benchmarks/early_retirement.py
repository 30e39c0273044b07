"""How many passes early retirement saves PGD-40 on an undefended model.

    python benchmarks/early_retirement.py [--images 48]

The images are crops of the photograph that comes with Saddlepoint, at random places and sizes, each labelled as the
embedded model predicts it: an undefended model, and examples that it gets right.
"""

import argparse
import random
import time

import torch
from PIL import Image

import saddlepoint as sp
from saddlepoint.attacks import Stop
from saddlepoint.data import COFFEE, pixels, preprocess, read_image


def crops(photograph: Image.Image, count: int) -> list[Image.Image]:
    """Return random square crops of at least half the shorter side."""
    draw, shorter = random.Random(0), min(photograph.size)  # noqa: S311 - a benchmark
    squares = []
    for _ in range(count):
        side = draw.randint(shorter // 2, shorter)
        left, top = (draw.randint(0, length - side) for length in photograph.size)
        squares.append(photograph.crop((left, top, left + side, top + side)))
    return squares


def main() -> None:
    """Attack the crops with and without early retirement and print passes and seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=48)
    count = parser.parse_args().images
    classifier = sp.load_classifier("efficientnet-lite0")
    images = [preprocess(image, classifier.preprocessing) for image in crops(read_image(COFFEE), count)]
    x = pixels(torch.stack(images))
    y = classifier.predict(x).label
    print("| PGD-40, ε = 2/255 | broken | forwards | backwards | seconds |\n|---|--:|--:|--:|--:|")
    ways: dict[str, Stop] = {"all steps": "never", "early retirement": "fooled"}
    for name, stop in ways.items():
        start = time.perf_counter()
        result = sp.attack(classifier, x, y, sp.Linf(2 / 255), sp.PGD(steps=40), batch_size=16, stop=stop)
        seconds = time.perf_counter() - start
        passes = f"{result.forwards.sum()} | {result.backwards.sum()}"
        print(f"| {name} | {result.success.sum()} of {count} | {passes} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
