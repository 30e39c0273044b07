"""Domains: their bounds hold wherever the signs do, the search ends at the minimum, and no planted point is refuted."""

import math
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import saddlepoint as sp
from saddlepoint.certificates import bounds
from saddlepoint.certificates.api import graphs_of
from saddlepoint.certificates.branching import refutation, splitting
from saddlepoint.certificates.branching.boxes import Boxes, Forms, _bounded, _clipped
from saddlepoint.certificates.branching.conjunctions import violations
from saddlepoint.certificates.branching.neurons import Neurons
from saddlepoint.certificates.branching.refutation import refute
from saddlepoint.certificates.branching.rounds import branch
from saddlepoint.certificates.branching.splitting import Targets
from saddlepoint.certificates.branching.tightening import bounded, tightened
from saddlepoint.certificates.effort import Effort
from saddlepoint.certificates.sets import Box
from saddlepoint.testing.certifier_laws import least_largest, least_margin


class Residual(nn.Module):
    """A block whose ReLUs are read twice."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x):
        z = torch.relu(self.one(x))
        return torch.relu(z + self.two(z))


NETWORKS = {
    "dense": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 3)
    ),
    "residual": lambda: nn.Sequential(nn.Flatten(), Residual(), nn.Linear(12, 3)),
    "convolutional": lambda: nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)),
    "leaky": lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.LeakyReLU(0.2), nn.Linear(8, 3)),
    "pooled": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 3)),
    "smooth": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3)
    ),
}

KINDS = [kind if kind in ("residual", "pooled") else pytest.param(kind, marks=pytest.mark.slow) for kind in NETWORKS]


def problem(kind, seed, scale=1.0, eps=0.3):
    """Return a network's graphs, a box, and the classifier."""
    torch.manual_seed(seed)
    module = NETWORKS[kind]().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape))
        list(module.parameters())[-2].mul_(scale)
        list(module.parameters())[-1].mul_(scale)
    classifier = sp.Classifier(module)
    x = torch.rand(1, 3, 2, 2)
    low, high = ((x.double() + side).clamp(0, 1) for side in (-eps, eps))
    return classifier, graphs_of(classifier, (3, 2, 2)), Box(low, high)


def inside(box, count):
    """Return points of a box: corners and others."""
    draws = torch.rand(count, *box.lower.shape[1:], dtype=torch.float64)
    draws[::2] = draws[::2].round()
    return box.lower + (box.upper - box.lower) * draws


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-4, 1.0, 1e5]), size=st.sampled_from([0.0, 0.3, 30.0]))
def test_a_bound_holds_wherever_the_signs_do(kind, seed, scale, size):
    """For any signs, slopes and multipliers: a point with these signs has no lower value; size is that of β."""
    _, graphs, box = problem(kind, seed, scale)
    for graph in graphs:
        neurons = Neurons(graph, box, bounds.crown(graph, box, graph.dtype))
        points = inside(box, 16)
        values = graphs[1].forward(points)
        inputs = {i: values[graph.nodes[i].parents[0]] for i in neurons.places}
        signs = (neurons.gathered(inputs).sign() * (torch.rand(16, neurons.count) < 0.5)).to(torch.int8)
        slopes = torch.rand(16, neurons.count, dtype=graph.dtype)
        multipliers = size * scale * torch.rand(16, neurons.count, dtype=graph.dtype) * (signs != 0)
        rows = torch.randn(16, *graph.nodes[-1].shape).to(graph.dtype)
        bounded = neurons.bound(rows, signs, slopes, multipliers, neurons.upper(signs), careful=True)
        due = (values[-1].flatten(1) * rows.flatten(1).double()).sum(1)
        assert bool((bounded.least <= due + 1e-12 * scale).all())


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-4, 1.0, 1e5]), depth=st.sampled_from([0, 1, 3]))
def test_tightened_neurons_hold_every_value(kind, seed, scale, depth):
    """Bounds by parts hold what every point makes of a neuron, are no looser than what was known, and repeat."""
    _, graphs, box = problem(kind, seed, scale)
    known = bounds.interval(graphs[0], box, torch.float32)
    tight, domains = tightened(graphs, box, known, depth, Effort())
    again, _ = tightened(graphs, box, known, depth, Effort())
    values = graphs[1].forward(inside(box, 64))
    for (low, high), (before, after), value, same in zip(tight, known, values, again, strict=True):
        assert bool(((low.double() <= value) & (value <= high.double())).all())
        assert bool(((low >= before) & (high <= after)).all())
        assert torch.equal(low, same[0])
        assert torch.equal(high, same[1])
    assert (domains > 0) == (bounded(graphs[0], known) > 0)


def test_splitting_narrows_the_ranges_of_neurons():
    _, graphs, box = problem("dense", 3)
    known = bounds.crown(graphs[0], box, torch.float32)
    second = sorted(graphs[0].inputs)[1]
    widths = [float((known[second][1] - known[second][0]).sum())]
    for depth in (1, 4, 9):
        low, high = tightened(graphs, box, known, depth, Effort())[0][second]
        widths.append(float((high - low).sum()))
    values = graphs[1].forward(inside(box, 4096))[second]
    assert widths == sorted(widths, reverse=True)
    assert float((values.amax(0) - values.amin(0)).sum()) <= widths[-1] < 0.9 * widths[0]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-4, 1.0, 1e5]))
def test_boxes_are_bounded_and_clipped_to_what_may_be_left(kind, seed, scale):
    """No point has a lower value than its box's bound or form says; none where a target is 0 or less is cut off."""
    _, graphs, box = problem(kind, seed, scale)
    for graph in graphs:
        middle = (box.lower + box.upper) / 2
        halves = [Boxes.of(graph, Box(box.lower, middle)), Boxes.of(graph, Box(middle, box.upper))]
        targets = Targets(torch.randn(3, *graph.nodes[-1].shape).to(graph.dtype), torch.randn(3).double() * scale)
        both, forms, _ = _bounded(graph, targets, halves[0].joined(halves[1]))
        clipped = _clipped(forms, torch.ones(2, 3, dtype=torch.bool), both)
        for place, part in enumerate((Box(box.lower, middle), Box(middle, box.upper))):
            points = inside(part, 200)
            values = graphs[1](points) @ targets.rows.flatten(1).double().T - targets.thresholds
            flat = points.flatten(1)
            assert bool((values >= forms.least[place] - 1e-12 * scale).all())
            assert bool((values >= flat @ forms.slope[place].T + forms.constant[place] - 1e-9 * scale).all())
            met = (values <= 0).any(1)
            kept = (flat >= clipped.low[place]) & (flat <= clipped.high[place])
            assert bool(kept[met].all())


def test_a_form_that_is_no_number_cuts_nothing_off():
    graph = problem("dense", 0)[1][0]
    whole = Boxes.of(
        graph, Box(torch.zeros(1, 3, 2, 2, dtype=torch.float64), torch.ones(1, 3, 2, 2, dtype=torch.float64))
    )
    for slope, constant in ((math.nan, 0.0), (1.0, math.nan), (math.inf, 5.0), (1.0, math.inf)):
        forms = Forms(
            torch.full((1, 1), -1.0).double(),
            torch.full((1, 1, 12), slope).double(),
            torch.tensor([[constant]]).double(),
        )
        clipped = _clipped(forms, torch.ones(1, 1, dtype=torch.bool), whole)
        assert torch.equal(clipped.low, whole.low)
        assert torch.equal(clipped.high, whole.high)


def margins(graph, label):
    """Return every margin of a label as a disjunct, with a threshold for all."""
    rows = [torch.eye(graph.outputs)[label] - torch.eye(graph.outputs)[j] for j in range(3) if j != label]
    return lambda threshold: [below(graph, row[None], threshold) for row in rows]


def below(graph, rows, threshold):
    """Return the conjunction of ⟨r, y⟩ ≤ t for some r and one t."""
    thresholds = torch.full((len(rows),), threshold, dtype=torch.float64)
    return Targets(rows.to(graph.dtype).reshape(-1, *graph.nodes[-1].shape), thresholds)


@pytest.fixture(params=[0, 20], ids=["by signs", "by boxes"])
def _split(request, monkeypatch):
    """Split at the signs of neurons, or the box."""
    monkeypatch.setattr(refutation, "FEW", request.param)


def asked(graphs, box, disjuncts, seconds=30.0, limit=math.inf):
    """Refute without attacks."""
    effort = Effort(deadline=time.monotonic() + seconds, domains=limit)
    return refute(graphs, box, disjuncts, effort, lambda points, targets: False)


@pytest.mark.usefixtures("_split")
@pytest.mark.parametrize("early", [500, 0])
def test_the_search_ends_at_the_minimum(monkeypatch, early):
    """Enumeration of all patterns gives it: a little below is proven, a little above never.

    So it is where the search is given up at once, and begun again six times behind tighter neurons.
    """
    monkeypatch.setattr(splitting, "_EARLY", early)
    for seed in range(3):
        (layers, graphs), x = drawn(seed), torch.rand(1, 1, 2, 2)
        box = Box(*((x.double() + side).clamp(0, 1) for side in (-0.4, 0.4)))
        least = min(least_margin(layers, x, 0.4, 0, j) for j in (1, 2))
        question = margins(graphs[0], 0)
        below = asked(graphs, box, question(least - 1e-2), limit=4000)
        above = asked(graphs, box, question(least + 1e-5), limit=300)
        assert below.proven, (seed, below)
        assert 0 < min(below.least) <= 1e-2 + 1e-6
        assert not above.proven, (seed, above)


def drawn(seed):
    """Three layers of a network of four pixels and eight ReLUs, and its graphs."""
    torch.manual_seed(seed)
    layers = [nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(3, 3)]
    for parameter in (parameter for layer in layers for parameter in layer.parameters()):
        parameter.data.copy_(torch.randn(parameter.shape))
    module = nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    return layers, graphs_of(sp.Classifier(module), (1, 2, 2))


@pytest.mark.usefixtures("_split")
def test_a_conjunction_is_refuted_where_no_point_meets_all_of_it():
    """Also where each of its constraints is met somewhere: enumeration of all patterns gives the least violation."""
    for seed in range(2):
        layers, graphs = drawn(seed)
        x, rows = torch.rand(1, 1, 2, 2), torch.randint(-3, 4, (3, 3)).float()
        least = least_largest(layers, x, 0.4, rows.double().numpy())
        box = Box(*((x.double() + side).clamp(0, 1) for side in (-0.4, 0.4)))
        for shift, proven in ((-0.1, True), (1e-5, False)):
            answer = asked(graphs, box, [below(graphs[0], rows, least + shift)], limit=4000)
            assert answer.proven == proven, (seed, shift, answer)


@pytest.mark.usefixtures("_split")
def test_a_linear_network_refutes_a_conjunction():
    """Y₀ = x₀ − x₁ and Y₁ = x₁ − x₀ are each negative somewhere, never both."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    module[1].weight.data = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    graphs, one = graphs_of(sp.Classifier(module), (1, 1, 2)), torch.ones(1, 1, 1, 2, dtype=torch.float64)
    box, single = Box(0 * one, one), below(graphs[0], torch.eye(2)[:1], -2.0)
    for threshold, proven in ((-1e-3, True), (0.0, False), (1e-3, False)):
        both = below(graphs[0], torch.eye(2), threshold)
        assert asked(graphs, box, [both], limit=200).proven == proven
        assert asked(graphs, box, [single, both], limit=200).proven == proven
    assert not asked(graphs, box, [single, below(graphs[0], torch.eye(2)[:0], 0.0)]).proven  # all points meet nothing


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), counts=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_the_largest_violation_is_what_the_graph_computes(seed, counts):
    """In both types, of thresholds that float32 does not hold, too: they are rounded up, which claims less."""
    _, graphs = drawn(seed)
    some = [Targets(torch.randint(-3, 4, (count, 3)).float(), torch.randn(count).double() / 3) for count in counts]
    first, second = (violations(graph, some, torch.float32) for graph in graphs)
    x = torch.rand(20, 1, 2, 2, dtype=torch.float64)
    y = graphs[1](x)
    exact = torch.stack([(y @ own.rows.double().T - own.thresholds).amax(1) for own in some], 1)
    assert bool((second(x) <= exact + 1e-12).all())
    assert torch.allclose(second(x), exact, atol=1e-6)
    assert torch.allclose(first(x.float()).double(), exact, atol=1e-4)


@pytest.mark.usefixtures("_split")
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_point_meets_is_never_refuted(kind):
    """The least value of many points is the threshold: equality counts as met."""
    for seed in range(2):
        _, graphs, box = problem(kind, seed)
        values = graphs[1](inside(box, 4000))
        reached = float(torch.minimum(values[:, 0] - values[:, 1], values[:, 0] - values[:, 2]).min())
        assert not asked(graphs, box, margins(graphs[0], 0)(reached), seconds=5, limit=300).proven


@pytest.mark.usefixtures("_split")
def test_nothing_open_is_decided_by_bounds_alone():
    """A linear network, a box of one point, and an effort of nothing."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    graphs = graphs_of(sp.Classifier(module), (3, 2, 2))
    point = torch.rand(1, 3, 2, 2, dtype=torch.float64)
    value = float((graphs[1](point)[0, 0] - graphs[1](point)[0, 1:]).min())
    box, question = Box(point, point), margins(graphs[0], 0)
    assert asked(graphs, box, question(value - 1e-4)).proven
    assert not asked(graphs, box, question(value)).proven
    assert not asked(graphs, box, question(value - 1e-4), seconds=-1.0).domains


@pytest.mark.usefixtures("_split")
def test_a_search_can_be_repeated_and_is_limited_by_domains():
    _, graphs, box = problem("dense", 3, eps=0.5)
    values = graphs[1](inside(box, 4000))
    label = int(values.mean(0).argmax())
    question = margins(graphs[0], label)(float((values[:, label, None] - values).sort(1).values[:, 1].min()) - 0.05)
    first, second = (asked(graphs, box, question, limit=64) for _ in range(2))
    assert first == second
    assert first.domains <= 64 + 1024


@pytest.mark.parametrize("early", [64, 0])
@pytest.mark.parametrize("limit", [0, 100, 700])
def test_no_more_domains_are_bounded_than_are_allowed(monkeypatch, early, limit):
    """But for the last batch: also where a search is given up and neurons are tightened in between."""
    monkeypatch.setattr(splitting, "_EARLY", early)
    _, graphs, box = problem("residual", 4, eps=0.5)
    known = bounds.crown(graphs[0], box, torch.float32)
    never = Targets(torch.tensor([[1.0, -1.0, 0.0]]), torch.tensor([1e3], dtype=torch.float64))
    least, effort = torch.tensor([-math.inf], dtype=torch.float64), Effort(domains=limit)
    ended = branch(graphs, box, known, never, least, {}, effort, lambda points, targets: False)
    assert not ended.least > 0
    assert ended.domains <= limit + 2 * splitting.BATCH
