"""The list of operations is the module, and its three forms belong together."""

import copy
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import saddlepoint as sp
from audit.nets import NETS, SHAPE, case
from saddlepoint.certificates.listing import listing_of
from saddlepoint_audit.enclosures import FLOAT32, REAL, Enclosure, Region
from saddlepoint_audit.files import Refused
from saddlepoint_audit.operations import Network


def enclosed(network: Network, x: np.ndarray, eps: float, unit: float) -> Enclosure:
    enclosure = Enclosure(network, Region.around(x, eps, "linf", None), unit)
    for _ in network.operations[1:]:
        enclosure.step()
    return enclosure


@pytest.mark.parametrize("name", NETS)
def test_the_list_computes_what_the_module_does(name):
    classifier, x, _ = case(name)
    network = listing_of(classifier, SHAPE).network
    wide = copy.deepcopy(classifier).double()
    with torch.no_grad():
        single, double = classifier(x).double().numpy(), wide(x.double()).numpy()
    for one, executed, real in zip(x.numpy(), single, double, strict=True):
        float32, exact = (enclosed(network, one, 0.0, unit) for unit in (FLOAT32, REAL))
        assert ((float32.lower[-1] <= executed) & (executed <= float32.upper[-1])).all()
        assert ((exact.lower[-1] - 1e-12 <= real) & (real <= exact.upper[-1] + 1e-12)).all()
        assert (exact.upper[-1] - exact.lower[-1]).max() < 1e-8
        assert (float32.upper[-1] - float32.lower[-1]).max() < 1e-2


@pytest.mark.parametrize("name", NETS)
def test_transposes_and_magnitudes_are_of_the_same_matrix(name):
    network, rng = listing_of(case(name)[0], SHAPE).network, np.random.default_rng(0)
    for operation in network.operations[1:]:
        if operation.linear is None:
            continue
        x = [rng.normal(size=(2, network.operations[parent].size)) for parent in operation.parents]
        a = rng.normal(size=(2, operation.size))
        image, back = operation.linear(x, False), operation.transpose(a)
        pulled = sum((part * v).sum(1) for part, v in zip(back, x, strict=True) if part is not None)
        assert np.allclose((a * image).sum(1), pulled)
        assert (np.abs(image) <= operation.linear([np.abs(v) for v in x], True) + 1e-12).all()
        if operation.kind != "max":  # whose third parent is read by its interval alone
            ones = [np.ones_like(v[:1]) for v in x]
            assert (operation.linear(ones, True) >= np.abs(operation.linear(ones, False)) - 1e-12).all()


LISTED = [
    {"kind": "input", "parents": [], "shape": [2]},
    {"kind": "dense", "parents": [0], "shape": [2]},
    {"kind": "relu", "parents": [1], "shape": [2]},
    {"kind": "dense", "parents": [2], "shape": [2]},
]
ARRAYS = {
    "1/weight": np.array([[1.0, -1.0], [0.5, 2.0]], np.float32),
    "1/offset": np.array([0.25, -0.5], np.float32),
    "3/weight": np.array([[1.0, 1.0], [-1.0, 0.5]], np.float32),
}


@pytest.mark.parametrize(
    ("place", "change", "line"),
    [
        (1, {"kind": "gelu"}, "does not know"),
        (1, {"parents": [1]}, "does not stand before"),
        (1, {"parents": [True]}, "does not stand before"),
        (1, {"shape": [3]}, "malformed"),
        (2, {"shape": [3]}, "does not fit"),
        (0, {"kind": "relu", "parents": []}, "does not fit"),
        (2, {"kind": "max"}, "malformed"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(place, change, line):
    listed = [entry | change if i == place else entry for i, entry in enumerate(LISTED)]
    with pytest.raises(Refused, match=line):
        Network.of(listed, ARRAYS)


@pytest.mark.parametrize(
    "setting",
    [{"groups": 0}, {"stride": [0, 0]}, {"padding": [-1, -1]}, {"dilation": ["x", 1]}, {"input": [1, 10**9, 10**9]}],
)
def test_settings_that_none_has_are_refused(setting):
    entry = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "transposed": False, "groups": 1}
    entry |= {"kind": "conv", "parents": [0], "shape": [1, 2, 2], "input": [1, 3, 3], "output": [1, 2, 2]}
    listed = [{"kind": "input", "parents": [], "shape": [1, 3, 3]}, entry]
    arrays = {"1/weight": np.ones((1, 1, 2, 2), np.float32)}
    assert Network.of(listed, arrays).operations[1].size == 4
    with pytest.raises(Refused):
        Network.of([listed[0], entry | setting], arrays)


@pytest.mark.parametrize(
    "layer",
    [
        nn.AvgPool2d(1, divisor_override=2),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AdaptiveAvgPool2d((3, 5)),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Upsample(scale_factor=2),
        nn.ReflectionPad2d(2),
        nn.ConstantPad2d(1, 0.5),
        nn.PixelShuffle(1),
        nn.BatchNorm2d(3, affine=False),
        nn.Conv2d(3, 2, (1, 3), (2, 1), (0, 2), (1, 2), bias=False),
    ],
    ids=repr,
)
def test_a_layer_is_listed_as_it_computes(layer):
    torch.manual_seed(0)
    size = layer(torch.zeros(2, *SHAPE)).shape[1:].numel()
    classifier = sp.Classifier(nn.Sequential(layer, nn.Flatten(), nn.Linear(size, 3)).eval())
    network, x = listing_of(classifier, SHAPE).network, torch.rand(SHAPE)
    exact = enclosed(network, x.numpy(), 0.0, REAL)
    with torch.no_grad():
        wanted = copy.deepcopy(classifier).double()(x[None].double())[0].numpy()
    assert np.allclose((exact.lower[-1] + exact.upper[-1]) / 2, wanted, atol=1e-7)


@pytest.mark.parametrize("number", [np.nan, np.inf, 2.0**101])
def test_numbers_that_are_none_are_refused(number):
    with pytest.raises(Refused, match="no number, or too large"):
        Network.of(LISTED, ARRAYS | {"1/weight": np.array([[number, 0.0], [0.0, 1.0]])})


def test_intervals_hold_those_of_rationals():
    network, rng = Network.of(LISTED, ARRAYS), np.random.default_rng(1)
    for _ in range(50):
        x = rng.random(2).astype(np.float32)
        exact = [Fraction(float(v)) for v in x]
        for place in (1, 3):
            w, b = ARRAYS[f"{place}/weight"], ARRAYS.get(f"{place}/offset", np.zeros(2))
            exact = [
                sum((Fraction(float(w[i, j])) * exact[j] for j in range(2)), Fraction(float(b[i]))) for i in range(2)
            ]
            exact = [max(v, Fraction(0)) for v in exact] if place == 1 else exact
        real = enclosed(network, x, 0.0, REAL)
        assert all(
            Fraction(float(low)) <= v <= Fraction(float(high))
            for low, v, high in zip(real.lower[-1], exact, real.upper[-1], strict=True)
        )
