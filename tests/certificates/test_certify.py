"""Bounds against sampled points, closed forms, gradients and each other; verdicts against planted counterexamples."""

import inspect
import re
from pathlib import Path
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import saddlepoint as sp
from saddlepoint.certificates import bounds, crown
from saddlepoint.certificates.functionals import Dense
from saddlepoint.certificates.lipschitz import steepness
from saddlepoint.certificates.lowering import export
from saddlepoint.certificates.methods import METHODS as TABLE
from saddlepoint.certificates.methods import Name
from saddlepoint.certificates.sets import Box, around
from saddlepoint.cli.main import main
from saddlepoint.geometry import L1, L2, Linf
from saddlepoint.training.intervals import ends, intervals

ROOT = Path(__file__).parents[2]
METHODS = tuple(name for name, method in TABLE.items() if not method.solver)  # those: test_programs.py


class Block(nn.Module):
    """A residual block with batch norm, as ResNets have it."""

    def __init__(self, channels):
        super().__init__()
        self.one, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.two = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.two(torch.relu(self.norm(self.one(x)))))


class Parts(nn.Module):
    """Slices, concatenation, padding and arithmetic with constants."""

    def forward(self, x):
        left, right = x[:, :, :, :3], x[:, :, :, 3:]
        joined = torch.cat([left * 2 - 0.5, 1 - right / 3], 3)
        return nn.functional.pad(joined, (1, 0, 0, 1), value=0.25).transpose(2, 3).flatten(1)


def _conv(*layers, out=16):
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *layers, nn.Flatten(), nn.Linear(out, 3))


NETS = {
    "dense": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)
    ),
    "residual": lambda: _conv(Block(4), nn.AvgPool2d(3), out=16),
    "pool": lambda: _conv(nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1), out=36),
    "leaky": lambda: _conv(nn.LeakyReLU(0.1), nn.AdaptiveAvgPool2d(2)),
    "six": lambda: _conv(nn.ReLU6(), nn.Dropout(), nn.AvgPool2d(3)),
    "sigmoid": lambda: _conv(nn.Sigmoid(), nn.AvgPool2d(3)),
    "tanh": lambda: _conv(nn.Tanh(), nn.AvgPool2d(3)),
    "gelu": lambda: _conv(nn.GELU(), nn.AvgPool2d(3)),
    "silu": lambda: _conv(nn.SiLU(), nn.AvgPool2d(3)),
    "softplus": lambda: _conv(nn.Softplus(), nn.ELU(), nn.AvgPool2d(3)),
    "transposed": lambda: nn.Sequential(
        nn.ConvTranspose2d(1, 2, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(338, 3)
    ),
    "parts": lambda: nn.Sequential(Parts(), nn.Linear(49, 6), nn.Hardtanh(), nn.Linear(6, 3)),
}


def _net(name, seed=0, scale=1.0):
    torch.manual_seed(seed)
    net = NETS[name]()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(scale)
    return net.eval()


def _points(x, ball, count=400):
    """Points of ball ∩ [0, 1], half of them corners."""
    region = ball.at(x.expand(count, *x.shape[1:]))
    noise = torch.randn(count, *x.shape[1:])
    delta = region.project(noise * torch.as_tensor(ball.eps) * torch.rand(count, 1, 1, 1) * 3)
    return torch.cat([x + delta, x + region.maximiser(noise)])


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("ball", [Linf(0.05), L2(0.3), L1(0.8)], ids=lambda b: b.name)
def test_no_point_of_the_set_leaves_the_bounds(name, ball):
    net, x = _net(name, scale=1.5), torch.rand(1, 1, 6, 6)
    graph = export(net, (1, 6, 6)).graph(torch.float64)
    values = graph.forward(_points(x, ball).double())
    region = around(x, ball, (0, 1))
    for known in (bounds.interval(graph, region, torch.float64), bounds.crown(graph, region, torch.float64)):
        for value, (lower, upper) in zip(values, known, strict=True):
            assert (value >= lower - 1e-7).all()  # points are float32 sums
            assert (value <= upper + 1e-7).all()


@pytest.mark.parametrize("name", NETS)
def test_intervals_that_train_are_those_that_prove_but_for_rounding(name):
    graph = export(_net(name), (1, 6, 6)).graph(torch.float64)
    region = around(torch.rand(3, 1, 6, 6), Linf(0.05), (0, 1))
    for trained, proven in zip(
        ends(intervals(graph, region)), bounds.interval(graph, region, torch.float64), strict=True
    ):
        assert torch.allclose(torch.stack(trained), torch.stack(proven), atol=1e-11)


def test_a_graph_in_float64_computes_in_float64_throughout():
    class Cast(nn.Module):
        def forward(self, x):
            return x.sum(1, dtype=torch.float32).mean(2, dtype=torch.float32).to(torch.float32)

    graph, x = export(Cast(), (2, 3, 4)).graph(torch.float64), torch.rand(2, 2, 3, 4).double()
    assert all(value.dtype == torch.float64 for value in graph.forward(x))
    assert torch.allclose(graph(x), x.sum(1).mean(2), atol=1e-15)


@pytest.mark.parametrize("name", NETS)
def test_the_graph_is_the_module(name):
    net, x = _net(name), torch.rand(7, 1, 6, 6)
    assert torch.allclose(export(net, (1, 6, 6)).graph()(x), net(x), atol=1e-5)
    assert torch.allclose(export(net, (1, 6, 6)).graph(torch.float64)(x.double()), net.double()(x.double()), atol=1e-12)


@pytest.mark.slow
@given(st.sampled_from(sorted(NETS)), st.integers(0, 10**6), st.floats(0, 0.2))
@settings(max_examples=20, deadline=None)
def test_claims_hold_for_every_point_and_crown_is_not_below_intervals(name, seed, eps):
    net, x = sp.Classifier(_net(name, seed)), torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    ball = Linf(eps)
    y = net.predict(x).label
    found = {method: sp.certify(net, x, y, ball, method=method) for method in METHODS}
    logits = net(_points(x, ball, 100)).detach().double()
    others = logits.masked_fill(nn.functional.one_hot(y, 3).bool(), -torch.inf).amax(1)
    worst = (logits[:, int(y)] - others).min()
    for proof in found.values():
        assert proof.lower_bound[0] <= worst + 1e-5
        assert (proof.verdict[0] == sp.Verdict.CERTIFIED) == bool(proof.lower_bound[0] > 0)
        assert proof.tolerance[0] >= 0
    assert found["crown"].lower_bound[0] >= found["interval"].lower_bound[0] - 1e-4
    assert found["crown-ibp"].lower_bound[0] >= found["interval"].lower_bound[0] - 1e-4
    assert found["alpha-crown"].lower_bound[0] >= found["crown"].lower_bound[0] - 1e-4


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.5), L1(1.5)], ids=lambda b: b.name)
@pytest.mark.parametrize("method", METHODS[1:])
def test_bounds_of_a_linear_model_are_exact(ball, method):
    net = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(36, 4)))
    x = torch.rand(5, 1, 6, 6) * 0.2 + 0.4
    y = net.predict(x).label
    w, logits = net.module[1].weight.detach().double(), net(x).detach().double()
    rows = torch.stack([w[int(c)] - w for c in y])
    clean = logits.gather(1, y[:, None]) - logits
    exact = clean - ball.eps * ball.dual_norm(rows.reshape(-1, 36)).reshape(5, 4)
    exact = exact.masked_fill(nn.functional.one_hot(y, 4).bool(), torch.inf).amin(1)
    proof = sp.certify(net, x, y, ball, method=method, box=(-9, 9))
    assert torch.allclose(proof.lower_bound, exact, atol=1e-4)
    assert (proof.lower_bound <= exact + 1e-6).all()


def test_a_radius_of_zero_proves_what_the_model_says():
    net, x = sp.Classifier(_net("residual")), torch.rand(3, 1, 6, 6)
    logits = net(x).detach()
    top = logits.topk(2).values
    proof = sp.certify(net, x, logits.argmax(1), Linf(0.0))
    assert torch.allclose(proof.lower_bound.float(), top[:, 0] - top[:, 1], atol=1e-4)
    assert set(proof.verdict) == {sp.Verdict.CERTIFIED}
    wrong = sp.certify(net, x, (logits.argmax(1) + 1) % 3, Linf(0.0))
    assert set(wrong.verdict) == {sp.Verdict.FALSIFIED}
    assert (wrong.lower_bound < 0).all()


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_never_certify(poison):
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        net[1].weight[1, 2] = poison
    with pytest.raises(sp.ModelError):
        sp.certify(sp.Classifier(net), torch.rand(1, 1, 2, 2), torch.tensor([0]), Linf(0.1))


def test_an_operation_without_a_rule_is_named_with_those_that_have_one():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.sin(x).flatten(1)

    with pytest.raises(sp.ModelError, match=r"operation sin \(.*Odd\) has no certificate; docs/certificates.md"):
        export(Odd(), (1, 2, 2))
    with pytest.raises(sp.InputError, match="method is 'magic'; expected one of interval"):
        inspect.unwrap(sp.certify)(
            sp.Classifier(nn.Flatten()), torch.rand(1, 1, 1, 2), torch.tensor([0]), Linf(0.1), method="magic"
        )


@pytest.mark.parametrize("method", ["interval", pytest.param("crown-ibp", marks=pytest.mark.slow)])
def test_bounds_are_differentiable(method):
    net = _net("dense").double()
    program = export(net, (1, 6, 6))

    def bound(x, weight):
        graph = program.graph(torch.float64, live=True, instead={net[1].weight: weight})
        region = Box(x - 0.05, x + 0.05)
        known = ends(intervals(graph, region))
        if method == "interval":
            return known[-1]
        lines = crown.relax(graph, crown.ranges(graph, known))
        return crown.backward(graph, lines, len(graph.nodes) - 1, Dense(torch.eye(3, dtype=torch.float64)[None])).least(
            region
        )

    x = torch.rand(2, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    weight = net[1].weight.detach()[:, :36].clone().requires_grad_()
    assert torch.autograd.gradcheck(bound, (x, weight), atol=1e-5)


def test_rounding_is_allowed_for_where_a_sign_is_open_and_what_is_no_number_proves_nothing():
    graph = export(_net("dense"), (1, 6, 6)).graph()
    known = bounds.interval(graph, around(torch.rand(1, 1, 6, 6), Linf(0.02), (0, 1)), graph.dtype)
    (first, *_) = graph.activations
    low, high = (
        torch.tensor([[-1.0, -1, 1, -1, 1, torch.nan]]),
        torch.tensor([[1.0, -0.5, 2, torch.nan, 2, torch.nan]]),
    )
    wide = [torch.cat([side, side], 1) for side in (low, high)]
    lost = bounds.sizes(graph, (*known[: first - 1], tuple(wide), *known[first:]))[first].rate[0, :6]
    assert lost[0] > 0
    assert lost[[1, 2, 4]].eq(0).all()
    assert lost[[3, 5]].isnan().all()


@pytest.mark.slow
def test_memory_changes_no_bound():
    net, x = sp.Classifier(_net("pool")), torch.rand(2, 1, 6, 6)
    y = net.predict(x).label
    whole, small = (sp.certify(net, x, y, Linf(0.05), memory=m) for m in (2**30, 1))
    assert torch.allclose(whole.lower_bound, small.lower_bound, atol=1e-5)


def test_certifying_leaves_the_classifier_as_it_was():
    net = sp.Classifier(_net("residual")).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    sp.certify(net, torch.rand(1, 1, 6, 6), torch.tensor([0]), Linf(0.01))
    assert all(child.training for child in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_slopes_move_and_tighten_what_lines_leave_open():
    """torch's clamp has no gradient at its bounds, where slopes begin: clamped in the forward they would never move."""
    net = sp.Classifier(_net("dense", seed=3, scale=2.0))
    x = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    y, ball = net.predict(x).label, Linf(0.1)
    fixed, free = (sp.certify(net, x, y, ball, method=method) for method in ("crown", "alpha-crown"))
    gained = free.lower_bound - fixed.lower_bound
    assert (gained >= -1e-4).all()
    assert (gained[fixed.lower_bound <= 0] > 1e-3).all()
    assert (fixed.lower_bound <= 0).any()


def test_a_module_that_is_not_its_graph_is_refused():
    class Alternating(nn.Module):
        def forward(self, x):
            shift = 1.0 if torch.compiler.is_exporting() else 0.0
            return x.flatten(1) + shift

    with pytest.raises(
        sp.ModelError, match=r"the module's logit of class 0 is .*, its graph's .*expected one function"
    ):
        sp.certify(sp.Classifier(Alternating()), torch.rand(1, 1, 1, 3), torch.tensor([0]), Linf(0.1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "residual", "gelu", "transposed"])
@pytest.mark.parametrize("ball", [Linf(0.05), L2(0.3), L1(0.8)], ids=lambda b: b.name)
def test_no_gradient_in_the_set_is_steeper_than_its_bound(name, ball):
    net, x = _net(name), torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(5))
    graph = export(sp.Classifier(net), (1, 6, 6), torch.device("cpu")).graph(torch.float64)
    region = around(x, ball, (0.0, 1.0))
    known = bounds.crown(graph, region, torch.float64)
    most = steepness(graph, known, torch.eye(3, dtype=torch.float64).reshape(3, *graph.nodes[-1].shape))
    points = _points(x, ball, 50).double().requires_grad_()
    for k in range(3):
        (gradient,) = torch.autograd.grad(net.double()(points)[:, k].sum(), points)
        assert (gradient.abs() <= most[k] * (1 + 1e-9)).all()


def test_the_methods_are_told_everywhere(capsys):
    """Types, help and docs name what the table holds."""
    assert set(get_args(Name)) == set(TABLE)
    for command in ("certify", "evaluate"):
        assert main([command, "--help"]) == 0
        told = re.split(r"[\s,]+", capsys.readouterr().out)
        assert set(TABLE) <= set(told)
    rows = re.findall(
        r"^\| `([a-z-]+)` \|.*\| (.*) \|$", (ROOT / "docs/certificates.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {name: method.source for name, method in TABLE.items()}.items() <= dict(rows).items()


def test_a_node_that_several_activations_read_is_tightened_for_each_of_them():
    """A sigmoid gains from tighter bounds also where the ReLU beside it, of a known sign, does not."""

    class Both(nn.Module):
        def __init__(self, relu_last):
            super().__init__()
            torch.manual_seed(0)
            self.one, self.two, self.three = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)
            self.relu_last = relu_last

        def forward(self, x):
            z = self.two(torch.relu(self.one(x.flatten(1)))) + 3
            first, second = (torch.relu, torch.sigmoid)[:: 1 if self.relu_last else -1]
            a, b = second(z), first(z)
            return self.three(a + b)

    region = around(torch.full((1, 1, 2, 2), 0.5), Linf(0.2), (0, 1))
    widths = []
    for relu_last in (False, True):
        graph = export(sp.Classifier(Both(relu_last)), (1, 2, 2), torch.device("cpu")).graph(torch.float64)
        (shared,) = (
            i for i in graph.inputs if len([j for j in graph.activations if graph.nodes[j].parents[0] == i]) == 2
        )
        low, high = bounds.crown(graph, region, torch.float64)[shared]
        plain_low, plain_high = bounds.interval(graph, region, torch.float64)[shared]
        assert (low >= plain_low).all()
        widths.append(float((high - low).sum()))
        assert widths[-1] < float((plain_high - plain_low).sum()) - 1e-3
    assert widths[0] == pytest.approx(widths[1], abs=1e-9)
