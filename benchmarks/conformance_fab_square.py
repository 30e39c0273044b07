"""Our FAB and Square beside the original's, step by step: how far their points and margins differ.

    python benchmarks/conformance_fab_square.py --autoattack PATH

PATH is a checkout of github.com/fra31/auto-attack. FAB draws nothing in a first run: the points to which its steps
lead are compared. Square draws at every proposal: what the original drew is given to ours, and margins are compared. In
ℓ1 a row may part where a window holds rounding errors alone, which the original takes for a shape; those are counted.
"""

import argparse
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import saddlepoint as sp
from conformance import PARTED, SEEDS, case
from saddlepoint.attacks.square import proposals, schedule
from saddlepoint.geometry import Ball
from saddlepoint.testing.traces import trace

NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
STEPS, QUERIES = 30, 300
BALLS = (sp.Linf(2e-3), sp.L2(1e-2), sp.L1(2e-2))
"""So small that nothing succeeds: the original stops to draw for an example that has been broken."""


def fab(package: Any, ball: Ball, *, targeted: bool) -> Tensor:  # noqa: ANN401
    """Return how far the points after each step differ, (steps, B)."""
    classifier, x, y = case()
    target = classifier(x).argsort(1)[:, -3] if targeted else None
    points: list[Tensor] = []

    def watched(pixels: Tensor) -> Tensor:
        points.append(pixels.detach() - x)
        logits: Tensor = classifier(pixels)
        return logits

    attack = package.FABAttack_PT(watched, norm=NORMS[ball.name], n_iter=STEPS, eps=1.0, device="cpu")
    attack.target_class = 3
    attack.attack_single_run(x, y, is_targeted=targeted)
    checked = points[-2 * STEPS :][1::2]
    found = trace(sp.FAB(steps=STEPS), classifier, x, y, ball, target=target)
    fresh = [bool(state.fresh.all()) for state in found.states]  # type: ignore[attr-defined]
    return (found.delta[torch.tensor(fresh)] - torch.stack(checked)).abs().flatten(2).amax(2)


@contextmanager
def recorded(log: list[Tensor]) -> Iterator[None]:
    """Note every uniform number that torch draws."""
    draw = torch.rand

    def rand(*args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        log.append(draw(*args, **kwargs))
        return log[-1]

    with patch.object(torch, "rand", rand):
        yield


def signs(uniform: Tensor) -> Tensor:
    """Return the signs that the original makes of uniform numbers."""
    return torch.sign(2 * uniform - 1)


def square(package: Any, ball: Ball, seed: int) -> Tensor:  # noqa: ANN401
    """Return how far the margins of all points that were tried differ, (queries, B)."""
    torch.manual_seed(seed)
    (classifier, x, y), log, margins = case(), list[Tensor](), list[Tensor]()
    (channels, height, width), flat = x.shape[1:], ball.name == "linf"

    def watched(pixels: Tensor) -> Tensor:
        logits: Tensor = classifier(pixels)
        margins.append(-sp.losses.margin(logits.detach(), y))
        return logits

    attack = package.SquareAttack(
        watched,
        norm=NORMS[ball.name],
        n_queries=QUERIES,
        eps=float(ball.eps),
        p_init=0.8,
        loss="margin",
        resc_schedule=False,
        device="cpu",
        verbose=False,
    )
    attack.init_hyperparam(x)
    with recorded(log):
        attack.attack_single_run(x, y)
    region, tiles = ball.at(x), 0 if flat else proposals.tile_count(height, width)
    if flat:
        start, per = proposals.stripes(region, signs(log[0])), 3
    else:
        turned = torch.cat(log[0 : 2 * tiles : 2]) > 0.5
        signed = torch.stack([signs(each)[:, :, 0, 0] for each in log[1 : 2 * tiles : 2]], 2)
        start, per = proposals.tiles(region, turned.expand(len(x), -1), signed), 6
    drawn_log = log[1 if flat else 2 * tiles :]

    def given(words: object, proposal: Tensor, side: Tensor, shape: object, dtype: object) -> schedule.Draw:
        drawn = drawn_log[per * (int(proposal[0]) - 1) :][:per] or drawn_log[-per:]
        corners = [
            (draw * (size - side)).long()
            for draw, size in zip(drawn[: per - per // 3], (height, width) * 2, strict=False)
        ]
        first, second = torch.stack(corners[:2], 1), torch.stack(corners[-2:], 1)
        turn = torch.zeros(len(x), dtype=torch.bool) if flat else (drawn[4] > 0.5).expand(len(x))
        return schedule.Draw(first, second, turn, signs(drawn[-1]).flatten(-3).expand(len(x), channels))

    # The original tries proposals that change nothing, where ours paints in the opposite colours.
    with patch.object(schedule, "draw", given), patch.object(proposals, "repaint", proposals.paint):
        found = trace(sp.Square(queries=QUERIES), classifier, x, y, ball, start=start)
    return (found.loss - torch.stack(margins)).abs()


def main() -> None:
    """Print the largest differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--autoattack", required=True, type=Path, help="a checkout of github.com/fra31/auto-attack")
    sys.path.insert(0, str(parser.parse_args().autoattack))
    fabs, squares = (importlib.import_module(f"autoattack.{name}") for name in ("fab_pt", "square"))
    print(f"ball  δ of FAB-T, {STEPS} steps  δ of FAB   margins of Square, {QUERIES} queries   rows that part, of 25")
    for ball in BALLS:
        aimed, free = (float(fab(fabs, ball, targeted=targeted).max()) for targeted in (True, False))
        gaps = torch.stack([square(squares, ball, seed).amax(0) for seed in SEEDS])
        same = gaps < PARTED
        print(f"{ball.name:5} {aimed:<22.1e}{free:<11.1e}{float(gaps[same].max()):<33.1e}{int((~same).sum())}")


if __name__ == "__main__":
    main()
