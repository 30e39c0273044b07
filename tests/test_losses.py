"""The losses, against the formulas written out in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import saddlepoint as sp
from saddlepoint import losses

SCORES = st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=2, max_size=6)


def gap(z, *places):
    """Return z_π1 minus the mean of the z_π at these places (1 with two classes)."""
    ordered = sorted(z, reverse=True)
    return max(z) - sum(ordered[place - 1] for place in places) / len(places) if len(z) > 2 else 1


def ratio(rise, gap):
    return rise / gap if gap else rise / 1e-12


def rescaled(z, y):
    first, second = sorted(z, reverse=True)[:2]
    scale = first - second or 1
    return math.log(sum(math.exp((v - z[y]) / scale) for v in z))


@given(SCORES, st.data())
def test_formulas(z, data):
    classes = st.integers(0, len(z) - 1)
    y, t = data.draw(classes), data.draw(classes)
    logits, label, target = torch.tensor([z], dtype=torch.float64), torch.tensor([y]), torch.tensor([t])
    total = math.log(sum(math.exp(v) for v in z))
    rival = max(v for j, v in enumerate(z) if j != y)
    wrong = [rival, *z[:y], *z[y + 1 :]]  # 1 + p_rival − p_y = p_rival + Σ_{j≠y} p_j, with nothing cancelled
    expected = {
        losses.cross_entropy(logits, label): total - z[y],
        losses.margin(logits, label): z[y] - rival,
        losses.targeted_cross_entropy(logits, target): z[t] - total,
        losses.targeted_margin(logits, target): z[t] - max(v for j, v in enumerate(z) if j != t),
        losses.targeted_difference(logits, label, target): z[t] - z[y],
        losses.dlr(logits, label): ratio(rival - z[y], gap(z, 3)),
        losses.targeted_dlr(logits, label, target): ratio(z[t] - z[y], gap(z, *((3, 4) if len(z) > 3 else (2, 3)))),
        losses.softmax_margin(logits, label): math.log(sum(math.exp(v) for v in wrong)) - total,
        losses.rescaled_cross_entropy(logits, label): rescaled(z, y),
    }
    for value, number in expected.items():
        assert value.shape == (1,)
        assert value.item() == pytest.approx(number, abs=1e-9)


@pytest.mark.parametrize("name", losses.UNTARGETED)
def test_a_confident_row_keeps_its_gradient(name):
    logits = torch.tensor([[60.0, 1.0, 0.0, -2.0]], requires_grad=True)
    for target in (None, torch.tensor([1])):
        loss = losses.named(name, logits, torch.tensor([0]), target)
        direction = torch.autograd.grad(loss.sum(), logits)[0]
        vanishes = name in ("cross-entropy", "difference") and target is None
        assert (direction[0, 0] == 0) == vanishes


@pytest.mark.parametrize("name", losses.UNTARGETED)
@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_every_target_has_a_gradient(name, classes):
    logits = torch.tensor([[2.0, 0.5, -0.25, -1.0, -1.5][:classes]], requires_grad=True)
    for target in range(1, classes):
        loss = losses.named(name, logits, torch.tensor([0]), torch.tensor([target]))
        assert (torch.autograd.grad(loss.sum(), logits)[0][0, [0, target]] != 0).all()


@pytest.mark.parametrize("name", losses.UNTARGETED)
def test_losses_are_per_example_and_differentiable(name):
    logits = torch.randn(5, 7, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    y, target = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([6, 6, 6, 6, 6])
    for goal in (None, target):
        together = losses.named(name, logits, y, goal)
        alone = [
            losses.named(name, logits[i : i + 1], y[i : i + 1], None if goal is None else goal[i : i + 1])
            for i in range(5)
        ]
        assert torch.allclose(together, torch.cat(alone))
        if name != "rescaled-cross-entropy":  # its scale is a constant to the gradient
            assert torch.autograd.gradcheck(lambda z, goal=goal: losses.named(name, z, y, goal), logits)


def test_an_unknown_loss_is_named():
    with pytest.raises(sp.InputError, match="unknown loss 'hinge': expected one of cross-entropy, difference, dlr"):
        losses.named("hinge", torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
