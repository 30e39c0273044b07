"""Channels folded into the operations beside them, and strided convolutions transposed: against what they stand for."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import saddlepoint as sp
from saddlepoint.certificates.aten.strides import transposed
from saddlepoint.certificates.folding import folded
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.lowering import export
from saddlepoint.certificates.relu import ReLU


def _normed(norm):
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2), norm.weight.data.normal_(), norm.bias.data.normal_()
    return norm


class Shared(nn.Module):
    """A convolution whose result is read twice: by a batch norm, and as it is."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 3), _normed(nn.BatchNorm2d(3))

    def forward(self, x):
        z = self.conv(x)
        return torch.relu(self.norm(z)) + z


NETS = {
    "norms": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, 2, 1), _normed(nn.BatchNorm2d(4)), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2),
        _normed(nn.BatchNorm2d(4)), nn.Flatten(), nn.Linear(16, 5), _normed(nn.BatchNorm1d(5)), nn.ReLU(),
        nn.Linear(5, 3), _normed(nn.BatchNorm1d(3)),
    ),
    "transposed": lambda: nn.Sequential(
        _normed(nn.BatchNorm2d(2)), nn.ConvTranspose2d(2, 3, 3, 2), _normed(nn.BatchNorm2d(3)), nn.Flatten(),
        nn.Linear(675, 3),
    ),
    "shared": lambda: nn.Sequential(Shared(), nn.Flatten(), nn.Linear(75, 3)),
    "image": lambda: nn.Sequential(nn.Flatten(), nn.Linear(98, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_a_folded_graph_computes_what_the_module_does(name):
    torch.manual_seed(0)
    net = sp.Classifier(NETS[name](), mean=(0.3, 0.5), std=(0.2, 0.4)).double().eval()
    graph, x = export(net, (2, 7, 7)).graph(torch.float64), torch.rand(5, 2, 7, 7, dtype=torch.float64)
    assert torch.allclose(graph(x), net(x), atol=1e-12)
    scaling = [node.name for node in graph.nodes if getattr(node.operation, "channelwise", False)]
    assert len(scaling) == {"shared": 1, "image": 1}.get(name, 0)  # what two read stays, as does what meets no weight
    assert folded(graph.nodes) == list(graph.nodes)


def test_what_cancels_in_a_batch_norm_is_allowed_for():
    """bias − mean · scale is 1e6 − 1e6: its rounding is that of its terms, not of what is left."""
    norm = nn.BatchNorm1d(3, eps=1e-12)
    norm.running_mean.fill_(1e6), norm.bias.data.fill_(1e6), norm.eval()
    graph = export(nn.Sequential(nn.Flatten(), norm), (3, 1, 1)).graph()
    (operation,) = [node.operation for node in graph.nodes if getattr(node.operation, "parts", None) is not None]
    assert operation.offset.abs().max() < 1
    lost = operation.rounding(torch.ones(1, 3))
    assert (lost >= 2e6 * torch.finfo(torch.float32).eps / 2).all()


def test_no_factor_of_rows_or_single_pixels_is_taken_for_one_of_channels():
    class Rows(nn.Module):
        def forward(self, x):
            return nn.functional.conv2d(x * torch.arange(1.0, 5.0), torch.ones(1, 2, 3, 3)).flatten(1)

    graph, x = export(Rows(), (2, 4, 4)).graph(), torch.rand(3, 2, 4, 4)
    assert torch.allclose(graph(x), Rows()(x), atol=1e-5)
    assert len(graph.nodes) == 4
    assert isinstance(graph, Graph)
    assert not any(isinstance(node.operation, ReLU) for node in graph.nodes)


@given(
    *(st.integers(*ends) for ends in ((2, 4), (0, 3), (1, 6), (1, 6), (5, 12), (5, 12), (0, 10**6)))
)  # stride, padding, kernel, size, seed
def test_the_transpose_of_a_stride_is_that_of_autograd(stride, padding, high, wide, height, width, seed):
    assume(height + 2 * padding >= high and width + 2 * padding >= wide)
    draw = torch.Generator().manual_seed(seed)
    x = torch.zeros(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, 3, high, wide, generator=draw, dtype=torch.float64)
    y = torch.conv2d(x, w, None, stride, padding)
    functional = torch.randn(y.shape, generator=draw, dtype=torch.float64)
    (due,) = torch.autograd.grad(y, x, functional)
    assert torch.allclose(transposed(functional, w, stride, padding, (height, width)), due, atol=1e-12)


def test_rounding_is_allowed_for_what_an_offset_was_summed_of():
    """Normalisation by 10⁶ cancels in the folded offset, not in its rounding."""
    conv = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        conv.weight.fill_(1.0)
        conv.bias.fill_(1e6)
    net = sp.Classifier(nn.Sequential(conv, nn.Flatten(), nn.Linear(4, 2)), mean=1e6, std=1.0)
    (node,) = [node for node in export(net, (1, 2, 2)).graph().nodes if node.shape == (1, 2, 2) and node.parents]
    assert node.operation.offset.abs().max() == 0
    lost = node.operation.rounding(torch.zeros(1, 1, 2, 2))
    assert (lost > 1e6 * torch.finfo(torch.float32).eps).all()
