"""Objectives against closed forms, brute force and Danskin's theorem; they leave the classifier as it was."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

import saddlepoint as sp
from saddlepoint.testing import toys
from saddlepoint.training import adversarial, empirical, mart, noisy, robust_linear, trades
from saddlepoint.training.objectives import free

BALL, ATTACK = sp.Linf(0.1), sp.PGD(steps=5)
ROBUST = {"adversarial": adversarial, "trades": trades, "mart": mart}


def _case(count=6):
    classifier, x = toys.convolutional(), toys.pixels(count, (3, 6, 5))
    return classifier, x, torch.arange(count) % 4


def test_the_inner_maximum_of_a_linear_model_is_that_of_all_corners():
    torch.manual_seed(0)
    classifier = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), mean=0.3, std=0.5)
    x, y = torch.rand(5, 1, 2, 2), torch.tensor([0, 1, 1, 0, 1])
    terms = robust_linear(classifier, x, y, ball=sp.Linf(0.2))
    corners = torch.tensor(list(itertools.product([-0.2, 0.2], repeat=4))).reshape(-1, 1, 1, 2, 2)
    losses = torch.stack([functional.cross_entropy(classifier(x + d), y, reduction="none") for d in corners])
    assert torch.allclose(terms.loss, losses.amax(0), atol=1e-5)
    assert torch.equal(terms.correct["robust"], losses.amax(0) < torch.log(torch.tensor(2.0)))


def test_another_model_than_a_linear_one_of_two_classes_has_no_exact_inner_maximum():
    classifier, x, y = _case()
    with pytest.raises(sp.InputError, match="not one linear layer with two outputs"):
        robust_linear(classifier, x, y, ball=BALL)


@pytest.mark.parametrize("objective", ROBUST.values(), ids=ROBUST)
def test_the_gradient_is_that_at_the_maximiser(objective):
    """Danskin's theorem: δ* is held constant; handing in the points gives the same loss and gradient."""
    classifier, x, y = _case()
    classifier.eval()
    terms = objective(classifier, x, y, ball=BALL, attack=ATTACK)
    again = objective(classifier, x, y, ball=BALL, attack=ATTACK, x_adv=terms.x_adv)
    parameters = list(classifier.parameters())
    gradients = [torch.autograd.grad(each.loss.mean(), parameters) for each in (terms, again)]
    assert torch.equal(terms.loss, again.loss)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert not terms.x_adv.requires_grad


@pytest.mark.parametrize("objective", ROBUST.values(), ids=ROBUST)
def test_the_search_stays_in_the_ball_and_leaves_the_classifier_as_it_was(objective):
    classifier, x, y = _case()
    classifier.train()
    frozen = next(classifier.parameters()).requires_grad_(False)
    before = {
        name: value.clone()
        for name, value in classifier.state_dict().items()
        if not name.startswith("module.1.") or name.endswith(("weight", "bias"))
    }
    statistics = {name: value.clone() for name, value in classifier.named_buffers() if "running_mean" in name}
    terms = objective(classifier, x, y, ball=BALL, attack=ATTACK)
    assert BALL.at(x).contains(terms.x_adv - x).all() or (terms.x_adv - x).abs().max() <= 0.1
    assert ((terms.x_adv >= 0) & (terms.x_adv <= 1)).all()
    assert all(part.training for part in classifier.modules())
    assert not frozen.requires_grad
    assert all(p.requires_grad for p in list(classifier.parameters())[1:])
    assert all(p.grad is None for p in classifier.parameters())
    after = classifier.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert statistics  # moved by the outer forward alone, once per forward of it
    assert all(not torch.equal(value, dict(classifier.named_buffers())[name]) for name, value in statistics.items())


@pytest.mark.parametrize("objective", ROBUST.values(), ids=ROBUST)
def test_a_harder_point_costs_more_than_the_clean_one(objective):
    classifier, x, y = _case()
    classifier.eval()
    y = classifier(x).argmax(1)
    loss = objective(classifier, x, y, ball=BALL, attack=ATTACK).loss
    assert (loss >= empirical(classifier, x, y).loss - 1e-6).all()


def test_without_a_ball_trades_and_adversarial_are_the_empirical_risk():
    classifier, x, y = _case()
    classifier.eval()
    plain = empirical(classifier, x, y).loss
    for objective in (adversarial, trades):
        loss = objective(classifier, x, y, ball=sp.Linf(0.0), attack=ATTACK).loss
        assert torch.allclose(loss, plain, atol=1e-6)


def test_mart_is_its_formula():
    classifier, x, y = _case()
    classifier.eval()
    terms = mart(classifier, x, y, ball=BALL, attack=ATTACK, beta=5.0)
    p, q = classifier(x).softmax(1), classifier(terms.x_adv).softmax(1)
    for i, label in enumerate(y.tolist()):
        others = max(q[i, j] for j in range(4) if j != label)
        kl = sum(p[i, j] * (p[i, j] / q[i, j]).log() for j in range(4))
        expected = -q[i, label].log() - (1.0001 - others).log() + 5.0 * kl * (1 - p[i, label])
        assert torch.allclose(terms.loss[i], expected, atol=1e-4)


def test_noise_is_drawn_by_the_keys():
    classifier, x, y = _case()
    classifier.eval()
    key = torch.arange(6)
    losses = [noisy(classifier, x, y, sigma=0.5, key=key).loss for _ in range(2)]
    assert torch.equal(*losses)
    part = noisy(classifier, x[3:], y[3:], sigma=0.5, key=key[3:]).loss
    assert torch.allclose(part, losses[0][3:], atol=1e-5)


def test_one_backward_of_free_serves_weights_and_perturbation():
    classifier, x, y = _case()
    delta = torch.zeros_like(x, requires_grad=True)
    free(classifier.eval(), x, y, delta=delta).loss.sum().backward()
    assert delta.grad.abs().sum() > 0
    assert all(p.grad is not None for p in classifier.parameters())
