"""The graph of the last classifier is given again while it is of the classifier as it is, and never after."""

import gc
import weakref

import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.certificates import graphs_of
from saddlepoint.certificates.kept import _last
from saddlepoint.testing import toys

SHAPE = (3, 6, 5)
X = toys.pixels(4, SHAPE)


class Config:
    """Settings that do not say what they are."""

    def __init__(self):
        self.gain, self.shift = 1.0, torch.zeros(3)


class Net(nn.Module):
    """Everything that a forward may read: parameters, buffers, settings, loose tensors, modes, globals."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten())
        self.head = nn.Linear(48, 3)
        self.scale, self.loose, self.settings = 1.0, torch.ones(3), {"shift": 0.0}
        self.config = Config()
        self.register_buffer("silent", torch.zeros(3), persistent=False)

    def forward(self, x):
        z = self.head(self.body(x)) * self.scale * self.config.gain * FACTOR[0] * self.loose
        return z + self.silent + self.settings["shift"] + self.config.shift + SHIFT


FACTOR, SHIFT = [1.0], torch.zeros(3)


def _weight(net):
    net.head.weight.data.mul_(1.5)


def _bits(net):
    net.head.bias.data.numpy()[0] += 0.25


def _hook(net):
    net.body.register_forward_hook(lambda module, given, output: output * 0.5)


def _forward(net):
    net.body.forward = lambda x: nn.Sequential.forward(net.body, x) * 0.5


CHANGES = {
    "a weight": _weight,
    "one number, through numpy": _bits,
    "statistics": lambda net: net.body[1].running_mean.add_(0.3),
    "a silent buffer": lambda net: net.silent.copy_(torch.tensor([0.5, 0.0, 0.0])),
    "a loose tensor": lambda net: net.loose.mul_(torch.tensor([1.0, 2.0, 1.0])),
    "a setting": lambda net: setattr(net, "scale", 2.0),
    "a setting of a setting": lambda net: net.settings.update(shift=torch.tensor([0.5, 0.0, 0.0])),
    "a global": lambda net: FACTOR.__setitem__(0, 2.0),
    # Less than rounding explains, so that no comparison of answers sees it.
    "a global, a little": lambda net: FACTOR.__setitem__(0, 1 + 1e-6),
    "a global tensor, a little": lambda net: SHIFT.add_(1e-7),
    "a hidden setting, a little": lambda net: setattr(net.config, "gain", 1 + 1e-6),
    "a hidden tensor, a little": lambda net: net.config.shift.add_(torch.tensor([1e-7, 0.0, 0.0])),
    "a layer": lambda net: setattr(net, "head", nn.Linear(48, 3)),
    "an activation": lambda net: net.body.__setitem__(2, nn.LeakyReLU(0.1)),
    "a hook": _hook,
    "a forward": _forward,
}


def bounds(model):
    return sp.certify(model, X, model.predict(X).label, sp.Linf(0.01), method="crown").lower_bound


@pytest.fixture(autouse=True)
def _factor():
    yield
    FACTOR[0] = 1.0
    SHIFT.zero_()


def test_it_is_given_again_and_the_bounds_are_the_same():
    model = sp.Classifier(Net().eval(), mean=0.5, std=0.25)
    first = graphs_of(model, SHAPE)
    before = bounds(model)
    assert graphs_of(model, SHAPE) is first
    assert torch.equal(bounds(model), before)
    assert graphs_of(sp.Classifier(Net().eval(), mean=0.5, std=0.25), SHAPE) is not first


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_the_module_makes_it_anew(change):
    model, twin = (sp.Classifier(Net().eval(), mean=0.5, std=0.25) for _ in range(2))
    before, first = bounds(model), graphs_of(model, SHAPE)
    torch.manual_seed(1)
    CHANGES[change](model.module)
    after = bounds(model)
    assert graphs_of(model, SHAPE) is not first
    assert not torch.equal(after, before) or "tensor" in change
    if "a global" not in change:
        torch.manual_seed(1)
        CHANGES[change](twin.module)
    _last.clear()
    assert torch.equal(bounds(twin), after)


def test_a_module_that_can_no_longer_be_certified_is_refused():
    model = sp.Classifier(Net().eval())
    bounds(model)
    model.module.body[2] = nn.Sequential(nn.ReLU(), nn.LayerNorm(3))
    with pytest.raises(sp.ModelError):
        bounds(model)


def test_it_goes_with_its_classifier():
    model = sp.Classifier(Net().eval())
    graph = weakref.ref(graphs_of(model, SHAPE)[0])
    del model
    gc.collect()
    assert graph() is None
