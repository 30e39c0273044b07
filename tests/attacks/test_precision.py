"""Searches in bf16 find what float32 finds, and claim nothing that float32 does not confirm."""

import pytest
import torch
from torch import nn

import saddlepoint as sp
from attacks.specimens import mirror
from saddlepoint.testing import toys


@pytest.fixture
def case():
    classifier, x = toys.convolutional(), toys.pixels(9, (3, 6, 5))
    return classifier, x, classifier.predict(x).label


class Viewing(nn.Module):
    """Relies on contiguous activations, as many a tutorial's network does."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Linear(8 * 30, 4)

    def forward(self, x):
        return self.last(self.second(self.first(x).relu()).relu().view(len(x), -1))


class Attending(nn.Module):
    """A patch-wise transformer: its attention takes another path when nothing is differentiated."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(3, 8), nn.Linear(8, 4)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.head(self.block(self.embed(x.flatten(2).transpose(1, 2))).mean(1))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", [Viewing, Attending])
def test_other_architectures_give_the_same_rows_always(kind, precision):
    torch.manual_seed(0)
    classifier, x = sp.Classifier(kind().eval()), toys.pixels(24, (3, 6, 5))
    y = classifier.predict(x).label
    solver, options = sp.PGD(steps=6, restarts=2), {"batch_size": 4, "precision": precision}
    whole = sp.attack(classifier, x, y, sp.Linf(0.1), solver, ids=range(24), **options)
    assert whole.success.any()
    for row in range(24):
        alone = sp.attack(classifier, x[[row]], y[[row]], sp.Linf(0.1), solver, ids=[row], **options)
        assert torch.equal(alone.x_adv[0], whole.x_adv[row])
        assert alone.margin[0] == whole.margin[row]


def test_bf16_names_the_restart_that_found_the_point(case):
    classifier, x, y = case
    solver = sp.PGD(steps=12, restarts=4)
    low = sp.attack(classifier, x, y, sp.Linf(0.02), solver, batch_size=4, precision="bf16", stop="never")
    assert set(low.restart) > {0}


class Coarse(nn.Module):
    """Tells a success in low precision that float32 refutes, as rounding may: autocast moves its decision."""

    def __init__(self, shift):
        super().__init__()
        self.layer, self.shift = nn.Linear(12, 2), shift
        self.layer.load_state_dict(
            {"weight": torch.stack([torch.ones(12), -torch.ones(12)]), "bias": torch.tensor([-6.0, 6.0])}
        )

    def forward(self, x):
        logits = self.layer(x.flatten(1))
        low = torch.is_autocast_enabled("cpu")
        return logits + torch.tensor([self.shift, 0.0]) if low else logits


def test_a_claim_of_low_precision_is_confirmed_before_it_counts():
    _, x, y = mirror(6)
    lying = sp.Classifier(Coarse(-100.0))
    result = sp.attack(lying, x, y, sp.Linf(1e-4), sp.PGD(steps=5), precision="bf16", batch_size=4)
    assert not result.success.any()
    assert (result.margin > 0).all()


def test_low_precision_never_is_a_masked_gradient():
    _, x, y = mirror(6)
    blind = sp.Classifier(Coarse(+1e6))
    solver = sp.PGD(steps=40, travel=20)
    result = sp.attack(blind, x, y, sp.Linf(0.5), solver, precision="bf16", batch_size=4)
    assert result.success.all()
    assert (result.forwards > 1 + 41 + 1).all()


def test_bf16_finds_what_float32_finds(case):
    classifier, x, y = case
    for ball in (sp.Linf(0.1), sp.L2(0.5), sp.L1(3.0)):
        exact = sp.attack(classifier, x, y, ball, sp.PGD(steps=30), batch_size=4)
        low = sp.attack(classifier, x, y, ball, sp.PGD(steps=30), batch_size=4, precision="bf16")
        assert (low.success | ~exact.success).all()  # low precision never acts as a masked gradient
        assert (ball.norm(low.x_adv.double() - x.double()) <= ball.eps).all()


def test_rows_of_bf16_are_the_same_in_any_order(case):
    classifier, x, y = case
    solver, ball, order = sp.PGD(steps=12, restarts=2), sp.Linf(0.05), [5, 0, 3, 8, 1, 2, 7, 4, 6]
    options = {"precision": "bf16", "batch_size": 4}
    one = sp.attack(classifier, x, y, ball, solver, ids=range(9), **options)
    two = sp.attack(classifier, x[order], y[order], ball, solver, ids=order, **options)
    assert torch.equal(one.x_adv[order], two.x_adv)
    assert torch.equal(one.forwards[order], two.forwards)


def test_attacks_without_a_refinement_search_in_float32(case):
    classifier, x, y = case
    for attack, steps in ((sp.SGD(steps=6), 6), (sp.FGSM(), 1)):
        result = sp.attack(classifier, x, y, sp.Linf(1 / 255), attack, precision="bf16", stop="never")
        assert result.steps.tolist() == [steps] * len(x)


def test_an_observer_may_predict_during_a_search_in_low_precision(case):
    classifier, x, y = case
    seen, expected = [], classifier.predict(x).logits

    def look(_):
        seen.append(torch.equal(classifier.predict(x).logits, expected))

    options = {"batch_size": 4, "precision": "bf16"}
    watched = sp.attack(classifier, x, y, sp.Linf(0.05), sp.PGD(steps=5), observe=look, **options)
    assert seen
    assert all(seen)
    alone = sp.attack(classifier, x, y, sp.Linf(0.05), sp.PGD(steps=5), **options)
    assert torch.equal(watched.x_adv, alone.x_adv)
