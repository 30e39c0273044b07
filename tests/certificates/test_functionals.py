"""Functionals of windows are the functionals of the whole grid, at the cost of the window."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import saddlepoint as sp
from saddlepoint.certificates import bounds, crown
from saddlepoint.certificates.functionals import Patches, units
from saddlepoint.certificates.lowering import export
from saddlepoint.certificates.sets import around
from saddlepoint.losses import margin


class Residual(nn.Module):
    """x + 2 · h(x) with normalisation, constants and two paths of different reach."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.long = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=2),
        )
        self.short = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        """Return the sum."""
        return torch.relu(self.short(x) + 2 * self.long(x) - 0.1)


def network(seed: int, stride: int, padding: int, dilation: int) -> sp.Classifier:
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride, padding),
        nn.ReLU(),
        Residual(4, dilation),
        nn.ZeroPad2d((1, 0, 2, 1)),
        nn.Conv2d(4, 6, (2, 3), (1, 2)),
        nn.ReLU(),
        nn.Flatten(),
        nn.LazyLinear(3),
    )
    layers(torch.zeros(1, 2, 11, 9))
    return sp.Classifier(layers.eval(), mean=[0.4, 0.5], std=[0.3, 0.2])


def pooled(seed: int, kernel: int, stride: int, padding: int) -> sp.Classifier:
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.MaxPool2d(kernel, stride, min(padding, kernel // 2)),
        nn.Conv2d(4, 4, 2),
        nn.ReLU(),
        nn.AvgPool2d(2, 1, padding % 2, count_include_pad=seed % 3 > 0),
        nn.Conv2d(4, 3, 2),
        nn.Flatten(),
        nn.LazyLinear(3),
    )
    layers(torch.zeros(1, 2, 11, 9))
    return sp.Classifier(layers.eval(), mean=[0.4, 0.5], std=[0.3, 0.2])


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([network, pooled]),
    st.integers(0, 10_000),
    st.sampled_from([1, 2]),
    st.integers(0, 2),
    st.sampled_from([1, 2]),
)
def test_windows_and_the_whole_grid_give_one_bound(kind, seed, stride, padding, dilation):
    if kind is network:
        classifier = network(seed, stride, padding, dilation)
    else:
        classifier = pooled(seed, dilation + 1, stride, padding)
    graph = export(classifier, (2, 11, 9), torch.device("cpu")).graph(torch.float64)
    region = around(torch.rand(2, 2, 11, 9), sp.L2(0.3) if seed % 2 else sp.Linf(0.05), (0.0, 1.0))
    known = bounds.interval(graph, region, torch.float64)
    lines, lost = crown.relax(graph, crown.ranges(graph, known)), bounds.sizes(graph, known)
    grids = [i for i, node in enumerate(graph.nodes) if len(node.shape) == 3 and i > 0]
    assert grids
    if kind is pooled and padding == 0:
        assert all(graph.nodes[i].operation.stencil is not None for i in grids if graph.nodes[i].affine)
    for position in grids:
        node = graph.nodes[position]
        some = torch.randperm(node.size)[:7]
        windows = units(node.shape, some, known[0][0], 2)
        assert isinstance(windows, Patches)
        for rounding in (None, lost):
            found, due = (
                crown.backward(graph, lines, position, start, rounding=rounding) for start in (windows, windows.dense())
            )
            assert torch.allclose(found.input.dense().values, due.input.dense().values, atol=1e-12)
            assert torch.allclose(found.constant, due.constant, atol=1e-10)  # windows lose less to rounding
            assert torch.allclose(found.least(region), due.least(region), atol=1e-10)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))
def test_units_are_the_coordinates_and_their_negatives(channels, height, width):
    shape = (channels, height, width)
    z, rows = torch.rand(2, *shape), torch.arange(channels * height * width)
    found = units(shape, rows, z, 2)
    assert torch.equal(found.inner(z), torch.cat([z.flatten(1), -z.flatten(1)], 1))
    assert torch.equal(found.dense().inner(z), found.inner(z))
    assert torch.equal(found.read(z)[:, :, 0, 0, 0], z[:, :1].flatten(1).repeat(1, 2 * channels))


def test_a_window_stays_small_on_the_way():
    classifier = network(0, 1, 1, 1)
    graph = export(classifier, (2, 11, 9), torch.device("cpu")).graph(torch.float32)
    position = next(i for i, node in enumerate(graph.nodes) if node.name.startswith("relu"))
    region = around(torch.rand(1, 2, 11, 9), sp.Linf(0.05), (0.0, 1.0))
    known = bounds.interval(graph, region)
    start = units(graph.nodes[position].shape, torch.tensor([0, 50]), known[0][0], 1)
    found = crown.backward(graph, crown.relax(graph, crown.ranges(graph, known)), position, start).input
    assert isinstance(found, Patches)
    assert found.values.shape == (1, 4, 2, 3, 3)


@pytest.mark.parametrize("method", ["crown", "alpha-crown"])
def test_bounds_by_windows_hold_at_sampled_points(method):
    classifier = network(3, 2, 1, 2)
    x = torch.rand(2, 2, 11, 9)
    y = classifier.predict(x).label
    proven = sp.certify(classifier, x, y, sp.Linf(0.03), method=method)
    for k in range(50):
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(k)) * 2 - 1
        points = (x + 0.03 * noise.sign()).clamp(0, 1)
        found = margin(classifier.predict(points).logits, y)
        assert (found.double() >= proven.lower_bound - 1e-5).all()
