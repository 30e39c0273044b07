"""A module that clamps its input to [0, 1] is the same function on pixels, and must be attacked as hard."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import saddlepoint as sp
from saddlepoint.attacks.engine.oracle import clipped
from saddlepoint.testing import toys
from saddlepoint.testing.traps import Cut

CLAMPS = {
    "torch.clamp": lambda x: torch.clamp(x, 0, 1),
    "clamp_": lambda x: x.clamp_(0.0, 1.0),
    "clip": lambda x: x.clip(min=0.0, max=1.0),
    "clamp_min": lambda x: x.clamp_min(0.0).clamp_max(1.0),
    "tensors": lambda x: torch.clamp(x, torch.tensor(0.0), torch.tensor(1.0)),
    "hardtanh": lambda x: functional.hardtanh(x, 0.0, 1.0),
    "in place": nn.Hardtanh(0.0, 1.0, inplace=True),
    "relu6": lambda x: functional.relu6(x) / 1.0,
}


class Before(nn.Module):
    def __init__(self, function, net):
        super().__init__()
        self.function, self.net = function, net

    def forward(self, x):
        return self.net(self.function(x))


@pytest.mark.parametrize("name", CLAMPS)
@pytest.mark.parametrize("attack", [sp.PGD(steps=10), sp.FGSM(), sp.APGD(steps=10)], ids=lambda attack: attack.name)
def test_black_and_white_pixels_are_moved(name, attack):
    plain, x = toys.convolutional(), toys.pixels(12, (3, 6, 5)).round()
    y = plain.predict(x).label
    clamped = sp.Classifier(Before(CLAMPS[name], plain))
    due, found = (sp.attack(each, x, y, sp.Linf(0.1), attack, stop="never") for each in (plain, clamped))
    assert torch.equal(found.x_adv, due.x_adv)
    assert (due.x_adv != x).flatten(1).any(1).all()


def test_a_clamp_that_cannot_be_replaced_is_named_and_an_honest_network_is_not():
    plain, x = toys.convolutional(), toys.pixels(16, (3, 6, 5)).round()
    y = plain.predict(x).label
    cut = sp.Classifier(Before(Cut(), plain))
    for attack in (sp.PGD(steps=10), sp.APGD(steps=10)):
        assert sp.attack(plain, x, y, sp.Linf(0.02), attack).findings == ()
        with pytest.warns(sp.MaskingWarning, match="zero gradient: .* bounds of the box"):
            sp.attack(cut, x, y, sp.Linf(0.02), attack)


@pytest.mark.parametrize(
    ("at_bounds", "between", "sign"),
    [(0, 1, True), (1e-9, 1, False), (0, 0, False)],
    ids=["clamped", "sound", "dead"],
)
def test_only_a_gradient_that_misses_every_bound_and_meets_most_of_the_rest_is_clipped(at_bounds, between, sign):
    pixels = torch.full((1, 1, 8, 8), 0.5)
    pixels[..., :2], pixels[..., 2:4] = 0, 1
    gradient = torch.full_like(pixels, between)
    gradient[..., :4] = 0
    gradient[..., 0, 0] = at_bounds
    assert clipped(gradient, pixels, (0.0, 1.0)).tolist() == [sign]
    assert clipped(gradient, pixels, None).tolist() == [False]
    assert clipped(gradient[..., :2], pixels[..., 1:3], (0.0, 1.0)).tolist() == [False]  # nothing between
    assert clipped(gradient[..., 3:], pixels[..., 3:], (0.0, 1.0)).tolist() == [False]  # eight pixels: too few


def test_beyond_its_bounds_a_clamp_passes_nothing_and_its_values_are_torchs():
    from saddlepoint.classifier import PassingClamps

    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, torch.nan], requires_grad=True)
    with PassingClamps():
        y = x.clamp(0, 1)
        gradient = torch.autograd.grad(y[:5].sum(), x)[0]
    assert torch.equal(y.nan_to_num(9), torch.clamp(x, 0, 1).nan_to_num(9))
    assert gradient[:5].tolist() == [0, 1, 1, 1, 0]
