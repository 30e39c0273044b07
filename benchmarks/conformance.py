"""Our Auto-PGD beside the original's, step by step: how far their iterates and losses differ.

    python benchmarks/conformance.py --autoattack PATH [--write tests/attacks/golden/apgd.json]

PATH is a checkout of github.com/fra31/auto-attack. Both start from the same points of a small network, in float32.
`--write` keeps norms and losses of the original's iterates, which the tests then hold ours against. An ascent decides
by comparing losses that may differ in the last bit only: now and then a row parts from the original for that reason,
and is counted.
"""

import argparse
import importlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import saddlepoint as sp
from saddlepoint import losses, random
from saddlepoint.attacks import APGD, APGDL1, Attack
from saddlepoint.geometry import Ball
from saddlepoint.testing import toys
from saddlepoint.testing.traces import trace

KEPT = (0, 1, 2, 3, 5, 10, 21, 22, 23, 41, 57, 80, 99, 100)
LOSSES = {"cross-entropy": "cross-entropy", "dlr": "dlr", "targeted dlr": "dlr"}
SEEDS, PARTED = range(5), 1e-4
BALLS = (sp.Linf(0.05), sp.L2(0.3), sp.L1(2.0))


def case() -> tuple[sp.Classifier, Tensor, Tensor]:
    """Return a small convolutional network, five images and its predictions."""
    classifier, x = toys.convolutional(classes=6).eval().requires_grad_(False), toys.pixels(5, (3, 6, 5))
    return classifier, x, classifier(x).argmax(1)


def start(ball: Ball, x: Tensor, seed: int) -> Tensor:
    """Return where both begin: in ℓ1, normal noise projected on the widest of the three balls."""
    keys = torch.arange(len(x)) + len(x) * seed
    if ball.name == "l1":
        return type(ball)(3 * float(ball.eps)).at(x).project(random.normal(keys, 0, tuple(x.shape[1:])))
    return ball.at(x).start(keys)


def ours(ball: Ball, loss: str) -> Attack:
    """Return the attack of that name, in its reference form."""
    kind: Any = {"loss": "dlr" if "dlr" in loss else loss, "targets": 9 * loss.startswith("targeted")}
    return APGDL1(**kind) if ball.name == "l1" else APGD(**kind, reference=True)


def theirs(base: Any, classifier: sp.Classifier, ball: Ball, loss: str, target: Tensor, begin: Tensor) -> Tensor:  # noqa: ANN401
    """Return the δ at which the original calls the model, (N, B, C, H, W)."""
    points: list[Tensor] = []
    (_, x, y), eps = case(), float(ball.eps)

    def watched(pixels: Tensor) -> Tensor:
        points.append(pixels.detach() - x)
        logits: Tensor = classifier(pixels)
        return logits

    kind: dict[str, Any] = {"norm": {"linf": "Linf", "l2": "L2", "l1": "L1"}[ball.name], "eps": eps, "device": "cpu"}
    targeted = loss.startswith("targeted")
    attack = (
        base.APGDAttack_targeted(watched, **kind)
        if targeted
        else base.APGDAttack(watched, loss="ce" if loss == "cross-entropy" else loss, **kind)
    )
    attack.y_target = target
    attack.init_hyperparam(x)
    first = x + begin
    for stretch, steps in ((3, 30), (2, 30), (1, 40)) if ball.name == "l1" else ((1, 100),):
        attack.eps, attack.n_iter = stretch * eps, steps
        if ball.name == "l1":
            first = first + base.L1_projection(x, first - x, stretch * eps)
        first = attack.attack_single_run(x, y, x_init=first)[0]
    result: Tensor = torch.stack(points)
    return result


@dataclass(frozen=True)
class Pair:
    """The original's δ and ℓ, (N, B, …), and how far ours are from them, (N, B)."""

    points: Tensor
    heights: Tensor
    gap: Tensor
    rise: Tensor

    def kept(self) -> dict[str, list[list[float]]]:
        """Return ‖δ‖₂ and ℓ at some steps of the rows that stay together."""
        rows = (self.gap.amax(0) < PARTED).nonzero()[:, 0]
        steps = torch.tensor(KEPT)[:, None]
        norms = self.points.flatten(2).norm(dim=2)
        return {"rows": rows.tolist(), "norm": norms[steps, rows].tolist(), "loss": self.heights[steps, rows].tolist()}


def compare(base: Any, ball: Ball, loss: str, seed: int) -> Pair:  # noqa: ANN401
    """Run both from the same points."""
    classifier, x, y = case()
    target, begin = classifier(x).argsort(1, descending=True)[:, 1], start(ball, x, seed)
    points = theirs(base, classifier, ball, loss, target, begin)
    aim = target if loss.startswith("targeted") else None
    run = trace(ours(ball, loss), classifier, x, y, ball, start=begin, target=aim)
    heights = torch.stack([losses.named(LOSSES[loss], classifier(x + delta), y, aim) for delta in points])
    return Pair(points, heights, (run.delta - points).abs().flatten(2).amax(2), (run.loss - heights).abs())


def main() -> None:
    """Print the largest differences; write what the tests compare with."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--autoattack", required=True, type=Path, help="a checkout of github.com/fra31/auto-attack")
    parser.add_argument("--write", type=Path, help="where to keep what the tests compare with")
    given = parser.parse_args()
    sys.path.insert(0, str(given.autoattack))
    base: Any = importlib.import_module("autoattack.autopgd_base")
    base.check_zero_gradients = lambda grad, logger=None: None  # fails on gradients that are not contiguous
    golden: dict[str, object] = {"steps": KEPT}
    print(f"ball  loss             largest difference of δ   of ℓ      rows that part, of {len(SEEDS) * 5}")
    for ball in BALLS:
        for loss in LOSSES:
            pairs = [compare(base, ball, loss, seed) for seed in SEEDS]
            gap = torch.stack([pair.gap.amax(0) for pair in pairs])
            rise = torch.stack([pair.rise.amax(0) for pair in pairs])
            same = gap < PARTED
            print(f"{ball.name:5} {loss:16} {gap[same].max():<25.1e} {rise[same].max():<9.1e} {int((~same).sum())}")
            golden[f"{ball.name} {loss}"] = pairs[0].kept()
    if given.write:
        text = json.dumps(golden)
        given.write.write_text(re.sub(r"(\d\.\d{7})\d+", r"\1", text).replace('}, "', '},\n"') + "\n")


if __name__ == "__main__":
    main()
