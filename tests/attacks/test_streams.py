"""Streams hold a bounded number of inputs, and leave the model and the caller's state as they were."""

import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.attacks import Input, Setting, run_attack
from saddlepoint.testing import toys


@pytest.fixture
def case():
    classifier, x = toys.convolutional(), toys.pixels(9, (3, 6, 5))
    return classifier, x, classifier.predict(x).label


@pytest.mark.parametrize("solver", [sp.PGD(steps=5), sp.SGD(steps=5, lr=0.1)])
@pytest.mark.parametrize("around", [torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_what_the_caller_has_switched_on_changes_nothing(case, around, solver):
    classifier, x, y = case
    plain = sp.attack(classifier, x, y, sp.Linf(0.05), solver, batch_size=4)
    with around():
        inside = sp.attack(classifier, x.clone().requires_grad_(), y, sp.Linf(0.05), solver, batch_size=4)
    assert torch.equal(plain.x_adv, inside.x_adv)
    assert torch.equal(plain.margin, inside.margin)
    assert not inside.x_adv.requires_grad


def test_inference_mode_is_refused(case):
    classifier, x, y = case
    with torch.inference_mode(), pytest.raises(sp.InputError, match="inside torch.inference_mode"):
        sp.attack(classifier, x, y, sp.Linf(0.05), sp.PGD(steps=5))


@pytest.mark.slow
def test_inputs_stream_through_bounded_memory(case):
    classifier, x, y = case
    pulled, delivered, ahead = 0, 0, []

    def stream():
        nonlocal pulled
        for index in range(200):
            pulled += 1
            yield Input(index, index, x[index % 9], int(y[index % 9]), 0.05)

    setting = Setting(ball=sp.Linf(0.05), box=(0.0, 1.0), batch=4, device=torch.device("cpu"))
    for _ in run_attack(classifier, stream(), [sp.PGD(steps=5, restarts=2)], setting):
        delivered += 1
        ahead.append(pulled - delivered)
    assert delivered == 200
    assert max(ahead) <= 4 * 4


def test_an_abandoned_stream_restores_the_model(case):
    classifier, x, y = case
    inputs = [Input(i, i, x[i], int(y[i]), 0.05) for i in range(9)]
    setting = Setting(ball=sp.Linf(0.05), box=(0.0, 1.0), batch=4, device=torch.device("cpu"))
    rows = run_attack(classifier, inputs, [sp.PGD(steps=5)], setting)
    next(rows)
    assert not classifier.module.training
    rows.close()
    assert classifier.module.training


def test_a_stream_leaves_its_callers_random_numbers_alone(case):
    classifier, x, y = case
    inputs = [Input(i, i, x[i], int(y[i]), 0.01) for i in range(len(x))]
    setting = Setting(sp.Linf(0.01), (0.0, 1.0), batch=2, device=torch.device("cpu"))
    torch.manual_seed(0)
    alone = [torch.rand(1).item() for _ in range(len(x) + 2)]
    torch.manual_seed(0)
    drawn = [torch.rand(1).item() for _ in run_attack(classifier, inputs, [sp.PGD(steps=2)], setting)]
    assert [*drawn, torch.rand(1).item(), torch.rand(1).item()] == alone


class Clamps(nn.Module):
    """Works in place on what it is given."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x.clamp_(0.2, 0.8))


def test_a_module_that_works_in_place_changes_no_point(case):
    classifier, x, y = case
    inplace, before = sp.Classifier(Clamps(classifier)), x.clone()
    assert torch.equal(inplace.predict(x).label, inplace.predict(before.clone()).label)
    result = sp.attack(inplace, x, y, sp.Linf(2 / 255), sp.PGD(steps=3), stop="never")
    assert torch.equal(x, before)
    assert bool(((result.x_adv - before).abs().double() <= 2 / 255 + 1e-7).all())
