"""Suites are values: composed by an expression, cut to the ball, and honest about who broke what."""

import inspect
from dataclasses import replace

import pytest
import torch

import saddlepoint as sp
from saddlepoint.testing import toys

attack = inspect.unwrap(sp.attack)


@pytest.fixture
def case():
    classifier, x = toys.convolutional(classes=5), toys.pixels(12, (3, 6, 5))
    return classifier, x, classifier.predict(x).label


def short(suite):
    """Return the same suite with few steps and queries."""
    return tuple(replace(each, **{"queries" if isinstance(each, sp.Square) else "steps": 8}) for each in suite)


@pytest.mark.parametrize("suite", [sp.STANDARD, sp.PLUS])
def test_stages_are_those_of_the_original(suite):
    names = [each.name for each in suite if "linf" in each.norms]
    standard = ["APGD-CE", "APGD-T", "FAB-T", "Square"]
    assert names == (standard if suite is sp.STANDARD else ["APGD-CE", "APGD-DLR", "FAB", "Square", "APGD-T", "FAB-T"])
    assert [each.name for each in suite if "l1" in each.norms] == names


SLOW = [pytest.param(ball, marks=pytest.mark.slow) for ball in (sp.L2(0.2), sp.L1(1.0))]


@pytest.mark.parametrize("ball", [sp.Linf(0.03), *SLOW], ids=lambda ball: ball.name)
def test_a_cascade_breaks_what_any_of_its_attacks_breaks(ball, case):
    classifier, x, y = case
    suite = short(sp.STANDARD)
    result = attack(classifier, x, y, ball, suite, batch_size=8)
    alone = [attack(classifier, x, y, ball, each, batch_size=8) for each in suite if ball.name in each.norms]
    broken = torch.stack([each.success for each in alone]).any(0)
    assert torch.equal(result.success, broken)
    first = {each.name: each for each in suite if ball.name in each.norms}
    for name, success in zip(result.attack, result.success.tolist(), strict=True):
        assert (name in first) == success


def test_one_expression_makes_a_suite(case):
    classifier, x, y = case
    mine = (*short(sp.STANDARD)[:1], sp.PGD(steps=3))
    assert attack(classifier, x, y, sp.Linf(0.03), mine).success.shape == y.shape


def test_an_attack_that_cannot_search_the_ball_is_refused(case):
    classifier, x, y = case
    with pytest.raises(sp.InputError, match="APGD-CE does not search l1 balls; expected a ball of l2, linf"):
        attack(classifier, x, y, sp.L1(1.0), sp.APGD())


def test_a_sweep_spends_its_effort_where_the_boundary_is_near(case):
    classifier, x, y = case
    far, near = (attack(classifier, x, y, sp.Linf(eps), sp.Sweep(flat=1), stop="never") for eps in (1e-4, 0.03))
    standing = ~near.success
    assert bool(standing.any())
    assert bool((far.steps < near.steps)[standing].all())


def test_on_flat_ground_a_sweep_makes_all_short_rounds(case):
    classifier, x, y = case
    sweep = sp.Sweep()
    result = attack(classifier, x, y, sp.Linf(1e-4), sweep, stop="never")
    right = classifier.predict(x).label == y
    assert bool((result.steps[right] == sweep.first + sweep.short * (sweep.short_steps + 1)).all())


@pytest.mark.parametrize(("scale", "shift"), [(1e-3, 0.0), (8.0, -3.0), (1e3, 0.0)])
def test_a_sweep_does_not_depend_on_the_scale_of_logits(case, scale, shift):
    classifier, x, y = case

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = classifier

        def forward(self, x):
            return scale * self.inner(x) + shift

    sweep = sp.Sweep(first=4, short=4, short_steps=3, long=1, long_steps=5)
    plain, scaled = (
        attack(model, x, y, sp.Linf(0.03), sweep, stop="never") for model in (classifier, sp.Classifier(Scaled()))
    )
    # Rounding of the scaled logits moves a point now and then; the search is the same one.
    assert int((plain.success != scaled.success).sum()) <= 1
    torch.testing.assert_close(plain.margin * scale, scaled.margin, rtol=0.05, atol=0.02 * scale)
