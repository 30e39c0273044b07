"""Stochastic models: the expectation is attacked, and fresh draws decide."""

import inspect
import math

import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.testing import toys

attack = inspect.unwrap(sp.attack)


class Noisy(nn.Module):
    """A classifier with normal noise on its logits, drawn from torch's global generator."""

    def __init__(self, twin, sigma):
        super().__init__()
        self.twin, self.sigma = twin, sigma

    def forward(self, x):
        logits = self.twin(x)
        return logits + self.sigma * torch.randn_like(logits)


class Lucky(nn.Module):
    """A classifier that errs in a tenth of its draws, whatever the image is."""

    def forward(self, x):
        right = (torch.rand(len(x), 1) > 0.1).float() * 2 - 1
        return torch.cat([right, -right], 1) + 0 * x.flatten(1).sum(1, keepdim=True)


@pytest.fixture
def linear():
    classifier, x = toys.random_linear(), toys.pixels(8)
    return classifier, x, classifier.predict(x).label


@pytest.mark.parametrize("ball", [sp.Linf(0.02), sp.L2(0.1)], ids=lambda ball: ball.name)
def test_accuracy_is_the_expectation_at_the_worst_point(linear, ball):
    """The margin of z + σn is normal with standard deviation √2·σ, so E[right] = Φ(margin / √2σ)."""
    classifier, x, y = linear
    sigma = 0.3
    suite = sp.EOT(sp.PGD(steps=30, loss="margin"), draws=8)
    result = attack(sp.Classifier(Noisy(classifier, sigma)), x, y, ball, suite)
    worst = toys.worst_margin(classifier, ball.at(x), y).double()
    expected = 0.5 * (1 + torch.erf(worst / (math.sqrt(2) * sigma) / math.sqrt(2)))
    missed = attack(sp.Classifier(Noisy(classifier, sigma)), x, y, type(ball)(0.0), suite).accuracy.mean()
    assert result.accuracy.mean().item() == pytest.approx(expected.mean().item(), abs=0.06)
    assert result.accuracy.mean() < missed - 0.05
    assert torch.equal(result.success, result.accuracy < 0.5)


def test_no_lucky_draw_counts():
    x, y = toys.pixels(6), torch.zeros(6, dtype=torch.int64)
    with pytest.warns(sp.MaskingWarning, match="zero gradient"):
        result = attack(sp.Classifier(Lucky()), x, y, sp.Linf(0.1), sp.EOT(sp.PGD(steps=20), draws=4))
    assert not bool(result.success.any())
    assert 0.75 < result.accuracy.mean() < 1
    assert result.attack == [None] * 6


def test_a_stochastic_model_is_refused_without_means_over_draws(linear):
    classifier, x, y = linear
    with pytest.raises(sp.ModelError, match=r"the model is stochastic; .* attack it with sp.RAND"):
        attack(sp.Classifier(Noisy(classifier, 0.3)), x, y, sp.Linf(0.02), sp.STANDARD)


def test_draws_of_a_deterministic_model_are_all_alike(linear):
    classifier, x, y = linear
    ball, solver = sp.Linf(0.02), sp.PGD(steps=10)
    once, thrice = (attack(classifier, x, y, ball, each, stop="never") for each in (solver, sp.EOT(solver, draws=2)))
    assert torch.equal(once.success, thrice.success)
    assert torch.equal(once.x_adv, thrice.x_adv)
    assert torch.equal(2 * once.backwards, thrice.backwards)
    assert torch.equal(thrice.accuracy, (~once.success).float())


def test_the_same_call_draws_the_same_and_nothing_from_the_caller(linear):
    classifier, x, y = linear
    noisy = sp.Classifier(Noisy(classifier, 0.3))
    before = torch.get_rng_state()
    found = [attack(noisy, x, y, sp.Linf(0.02), sp.EOT(sp.PGD(steps=4), draws=3), batch_size=3) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found[0].x_adv, found[1].x_adv)
    assert torch.equal(found[0].accuracy, found[1].accuracy)
    torch.rand(1)
    again = attack(noisy, x, y, sp.Linf(0.02), sp.EOT(sp.PGD(steps=4), draws=3), batch_size=3)
    assert torch.equal(found[0].x_adv, again.x_adv)
    other = attack(noisy, x, y, sp.Linf(0.02), sp.EOT(sp.PGD(steps=4), draws=3), batch_size=3, seed=1)
    assert not torch.equal(found[0].x_adv, other.x_adv)


class Mixture(nn.Module):
    """In seven of ten draws a linear classifier, else one of another kind with logits a hundred times as large."""

    def __init__(self, usual):
        super().__init__()
        self.usual, self.loud = usual, toys.random_linear(seed=5)

    def forward(self, x):
        return torch.where(torch.rand(len(x), 1) < 0.7, self.usual(x), 100 * self.loud(x))


def test_no_draw_outweighs_another(linear):
    """What breaks the usual draws leaves 0.3 at most, whatever the loud ones say."""
    classifier, x, y = linear
    mixture, ball = sp.Classifier(Mixture(classifier)), sp.Linf(0.3)
    assert bool((toys.worst_margin(classifier, ball.at(x), y) < 0).all())
    start = attack(classifier, x, y, ball, sp.PGD(loss="margin"), stop="never").x_adv - x
    start = ball.at(x, 0.0, 1.0).project(start)
    result = attack(mixture, x, y, ball, sp.EOT(sp.Square(queries=30), draws=12), start=start, stop="never")
    assert result.accuracy.mean() < 0.4


@pytest.mark.parametrize("draws", [1, 0, -3])
def test_draws_are_a_whole_number(draws):
    with pytest.raises(sp.InputError, match="EOT got draws=.*; expected a whole number of at least 2"):
        sp.EOT(sp.PGD(), draws=draws)


def test_budgets_count_every_draw(linear):
    classifier, x, y = linear
    method = sp.EOT(sp.PGD(steps=40), draws=4)
    result = attack(classifier, x, y, sp.Linf(1e-4), method, budget=100, stop="never", batch_size=8)
    search = result.forwards - 4 - 20 + result.backwards  # less the clean evaluation and the verification
    assert search.tolist() == [96] * len(x)  # twelve steps of eight passes, and four in reserve to confirm
