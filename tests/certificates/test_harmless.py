"""Code that computes nothing, or what a certificate can follow, is certified: the bound is that of the plain module."""

import ctypes
import inspect

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision import transforms

import saddlepoint as sp
from saddlepoint.certificates import graphs_of
from saddlepoint.certificates.bounds import work
from saddlepoint.certificates.sets import around

certify = inspect.unwrap(sp.certify)
BALL = sp.Linf(0.004)


class Net(nn.Module):
    def __init__(self, forward):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.lin = nn.Conv2d(1, 4, 3, 2, 1), nn.Linear(16, 3)
        self.register_buffer("mix", torch.randn(4, 4))
        self.normal = transforms.Normalize([0.5], [0.25])
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


def plain(net, x):
    return net.lin(net.conv(x).relu().flatten(1))


def asserting(net, x):
    assert x.dim() == 4
    return plain(net, x)


NOTHING = {
    "float": lambda net, x: plain(net, x.float()),
    "to its dtype": lambda net, x: plain(net, x.to(torch.float32)),
    "to the weights": lambda net, x: plain(net, x.to(net.lin.weight)),
    "an assertion": asserting,
    "len in a reshape": lambda net, x: net.lin(net.conv(x).relu().reshape(len(x), -1)),
    "log-softmax": lambda net, x: plain(net, x).log_softmax(1),
    "log-softmax, last axis": lambda net, x: functional.log_softmax(plain(net, x), dim=-1),
}
FOLLOWED = {
    "Normalize": lambda net, x: plain(net, net.normal(x)),
    "matrix times maps": lambda net, x: net.lin((net.mix @ net.conv(x).relu().flatten(2)).flatten(1)),
    "maps times matrix": lambda net, x: net.lin((net.conv(x).relu().flatten(2) @ net.mix).flatten(1)),
    "shuffle": lambda net, x: net.lin(functional.channel_shuffle(net.conv(x).relu(), 2).flatten(1)),
    "maximum with a mean": lambda net, x: net.lin(
        torch.maximum(net.conv(x), net.conv(x).mean((2, 3), keepdim=True)).flatten(1)
    ),
    "minimum with a mean": lambda net, x: net.lin(
        torch.minimum(net.conv(x).mean(1, keepdim=True), net.conv(x)).flatten(1)
    ),
}


@pytest.fixture(scope="module")
def x():
    return torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def bounds(forward, x, method="crown"):
    classifier = sp.Classifier(Net(forward).eval())
    y = classifier.predict(x).label
    return classifier, y, certify(classifier, x, y, BALL, method=method).lower_bound


@pytest.mark.parametrize("name", NOTHING)
def test_what_computes_nothing_changes_no_bound(name, x):
    assert torch.equal(bounds(NOTHING[name], x)[2], bounds(plain, x)[2])


@pytest.mark.parametrize("method", ["interval", "crown", "alpha-crown"])
@pytest.mark.parametrize("name", FOLLOWED)
def test_what_is_followed_holds_at_the_worst_point_found(name, method, x):
    classifier, y, bound = bounds(FOLLOWED[name], x, method)
    found = inspect.unwrap(sp.attack)(classifier, x, y, BALL, sp.APGD(loss="margin", steps=20), stop="never")
    assert torch.isfinite(bound).all()
    assert (bound <= found.margin + 1e-6).all()
    assert (bound > 0).any()


REFUSED = {
    "LayerNorm": (
        lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 3)),
        r"uses LayerNorm \(at module\.1\)",
    ),
    "instance norm": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 1), nn.InstanceNorm2d(4), nn.Flatten(), nn.Linear(64, 3)),
        r"module\.1, InstanceNorm2d\) has no certificate",
    ),
    "bfloat16": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).bfloat16(), "computes in torch.bfloat16"),
    "branch on x": (
        lambda: Net(lambda net, x: plain(net, x) if x.sum().item() > 0 else plain(net, -x)),
        "torch.export cannot follow|reads numbers",
    ),
    "a number of rows": (
        lambda: Net(lambda net, x: plain(net, x) * len(x) + (len(x) == 1)),
        "number of examples|expected one function|computes otherwise",
    ),
    "a branch on len": (
        lambda: Net(lambda net, x: plain(net, x) * (2 if 100 < len(x) < 5000 else 1)),
        "for other numbers",
    ),
    "a branch on shape": (
        lambda: Net(lambda net, x: plain(net, x) * (2 if x.shape[0] > 2000 else 1)),
        "computes otherwise for other numbers of images",
    ),
    "log-softmax twice over rows": (lambda: Net(lambda net, x: plain(net, x).log_softmax(0)), "_log_softmax"),
    "a buffer that remembers": (
        lambda: Net(lambda net, x: net.mix.copy_(x[0, 0]) is None or plain(net, x)),
        "writes to the buffer|cannot follow",
    ),
}


def by_pointer(x):
    x = x.detach().contiguous()
    return (ctypes.c_float * x.numel()).from_address(x.data_ptr())[:]


LEAVES = {
    "numpy": lambda x: x.detach().numpy().ravel().tolist(),
    "an array": lambda x: np.asarray(x.detach()).ravel().tolist(),
    "a list": lambda x: x.flatten().tolist(),
    "back again": lambda x: [torch.tensor(x.detach().numpy()).min().item()],
    "a pointer": by_pointer,
    "an iterator": lambda x: [float(each) for each in x.flatten()],
    "a random number": lambda x: [torch.rand(1).item()],
}


@pytest.mark.parametrize("name", LEAVES)
def test_no_number_leaves_the_module_in_eager_mode_alone(name, x):
    """What an export never sees: another branch for the darkest pixel, taken for no image that is tried."""

    def forward(net, x):
        z = plain(net, x)
        eager = not (torch.compiler.is_compiling() or torch.compiler.is_exporting())
        return z.flip(1) if eager and min(LEAVES[name](x)) < 1e-9 else z

    classifier = sp.Classifier(Net(forward).eval())
    with pytest.raises(sp.ModelError, match="the module reads numbers that it computes"):
        certify(classifier, x, classifier.predict(x).label, BALL)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_one_line(name, x):
    make, said = REFUSED[name]
    classifier = sp.Classifier(make().eval())
    with pytest.raises(sp.ModelError, match=said) as caught:
        certify(classifier, x, torch.zeros(4, dtype=torch.long), BALL)
    assert "\n" not in str(caught.value)


def test_one_image_costs_what_it_costs_and_bounds_are_the_same_in_company(x):
    classifier, y, together = bounds(plain, x, "interval")
    alone = [certify(classifier, x[i : i + 1], y[i : i + 1], BALL, method="interval").lower_bound for i in range(4)]
    assert torch.equal(torch.cat(alone), together)


def test_work_grows_with_the_neurons_that_intervals_leave_open(x):
    once = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    twice = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    graph, deep = (graphs_of(sp.Classifier(net), (1, 4, 4))[0] for net in (once, twice))
    small, large = (work(deep, around(x[:1], sp.Linf(eps), (0, 1))) for eps in (1e-6, 0.5))
    assert 0 <= small < large
    assert work(graph, around(x[:1], sp.Linf(0.5), (0, 1))) == 0  # one layer of a box: nothing to tighten
