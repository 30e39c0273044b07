"""An attack without the loop: every row asks at every step, and what it asks for is written down."""

from dataclasses import dataclass

import torch
from torch import Tensor

from saddlepoint.attacks.protocol import Answer, Attack, Need, Problem
from saddlepoint.classifier import Classifier
from saddlepoint.geometry import Ball
from saddlepoint.typing import Images, Labels


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
    """Run one attack to its end on all rows at once, to compare it step by step with another implementation."""
    with classifier.frozen() as model:
        region = ball.at(x, *(box or (None, None)))
        problem = Problem(x, y, target, region, model.decide(x), torch.arange(len(x)), start)
        state = attack.init(problem)
        points, losses, states = [], [], []
        while not bool(attack.finished(state).all()):
            delta = attack.ask(problem, state).detach().requires_grad_()
            logits = model.logits(x + delta, as_given=True)
            loss = attack.objective(problem, state, logits)
            gradient = torch.autograd.grad(loss.sum(), delta)[0] if attack.needs is Need.GRADIENT else None
            points.append(delta.detach())
            losses.append(loss.detach())
            states.append(state)
            label = logits.argmax(1)
            answer = Answer(points[-1], label, label != y, logits.detach(), losses[-1], gradient)
            state = attack.tell(problem, state, answer)
    return Trace(torch.stack(points), torch.stack(losses), tuple(states))
