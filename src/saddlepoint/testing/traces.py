"""The plain loop on a whole batch, with every point that is asked for written down."""

from dataclasses import dataclass

import torch
from torch import Tensor

from saddlepoint.attacks.maximise import evaluate, told
from saddlepoint.attacks.protocol import Attack, Problem
from saddlepoint.classifier import DECISION, Classifier
from saddlepoint.geometry import Ball
from saddlepoint.typing import Images, Labels, Logits


@dataclass(frozen=True, slots=True)
class Trace:
    """What was asked for: δ, (N, B, C, H, W), the attack's objective there, (N, B), and its states."""

    delta: Tensor
    loss: Tensor
    states: tuple[object, ...]


def trace(
    attack: Attack,
    classifier: Classifier,
    x: Images,
    y: Labels,
    ball: Ball,
    *,
    start: Images | None = None,
    target: Labels | None = None,
    box: tuple[float, float] | None = (0.0, 1.0),
) -> Trace:
    """Run one attack to its end on all rows at once, to compare it step by step with another implementation.

    Args:
        attack: the attack to run.
        classifier: the network.
        x: images, (B, C, H, W).
        y: labels, (B,).
        ball: the set of perturbations.
        start: δ to begin at, (B, C, H, W); None for the attack's own.
        target: the class to reach, (B,); None for an untargeted attack.
        box: the bounds of the pixels; None where there are none.
    """
    with classifier.frozen() as model:
        region = ball.at(x, *(box or (None, None)))
        problem = Problem(x, y, target, region, model.decide(x), torch.arange(len(x)), start)
        state = attack.init(problem)
        points, losses, steps = list[Tensor](), list[Tensor](), list[object]()

        def given(pixels: Images) -> Logits:
            return model.logits(pixels, DECISION)

        while not bool(attack.finished(state).all()):
            delta, steps = attack.ask(problem, state), [*steps, state]
            look = evaluate(attack, problem, state, delta, given, differentiate=True)
            points.append(look.delta)
            losses.append(look.objective)
            state = attack.tell(problem, state, told(attack, look, look.logits.argmax(1) != y))
    return Trace(torch.stack(points), torch.stack(losses), tuple(steps))
