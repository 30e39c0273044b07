"""The lesson's loop on the embedded model: the same losses, to the last bit."""

import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.data import COFFEE, pixels, preprocess, read_image


def plain_loop(classifier, x, y, target, eps, lr, steps):
    """Run the lesson's loop, written out with torch.optim."""
    delta, losses = torch.zeros_like(x, requires_grad=True), []
    optimiser = torch.optim.SGD([delta], lr=lr)
    for _ in range(steps):
        logits = classifier(x + delta)
        loss = -nn.CrossEntropyLoss()(logits, y)
        if target is not None:
            loss = loss + nn.CrossEntropyLoss()(logits, target)
        losses.append(-loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        delta.data.clamp_(-eps, eps)
    return losses, (x + delta).detach()


@pytest.mark.parametrize(("lr", "target"), [(0.1, None), (0.005, "airliner")])
def test_sgd_has_the_losses_of_the_plain_loop_to_the_last_bit(lr, target):
    classifier, eps, steps = sp.load_classifier("efficientnet-lite0"), 2 / 255, 12
    x = pixels(preprocess(read_image(COFFEE), classifier.preprocessing))[None]
    y = classifier.predict(x).label
    goal = None if target is None else torch.tensor([classifier.label_of(target)])
    losses, point = plain_loop(classifier, x, y, goal, eps, lr, steps)
    seen = []
    result = sp.attack(
        classifier,
        x,
        y,
        sp.Linf(eps),
        sp.SGD(steps=steps, lr=lr),
        target=goal,
        box=None,
        observe=lambda progress: seen.append(progress.loss.item()),
    )
    assert seen[:steps] == losses
    assert torch.allclose(result.x_adv, point, rtol=0, atol=2**-22)
    assert (result.norm <= eps).all()
