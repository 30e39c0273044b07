"""Linear and mixed-integer programs: the order of the methods, brute force over activation patterns, weak duality."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import saddlepoint as sp
from saddlepoint.certificates import bounds, graphs_of
from saddlepoint.certificates.milp import by_integers, by_lines, program
from saddlepoint.certificates.sets import around
from saddlepoint.certificates.solver import Solver
from saddlepoint.testing.certifier_laws import least_margin


def by_lp(made, row):
    """The bound of the linear program, by the solver's multipliers, and what rounding took."""
    found = by_lines(made, row, 10)
    return found.value, found.lost


def by_milp(made, row, graph):
    """The bound of the mixed-integer program; of one without integers that of the linear one."""
    if not any(part.any() for part in made.integer):
        return by_lp(made, row)
    reached = lambda x: float(graph(torch.from_numpy(x).reshape(1, *graph.shape))[0].detach().numpy() @ row)  # noqa: E731
    found = by_integers(made, row, 10, reached)
    return found.value, found.lost


def _net(seed, scale=1.5):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 3))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(scale)
    classifier = sp.Classifier(module)
    x = torch.rand(1, 1, 2, 2)
    return classifier, x, classifier.predict(x).label


def _brute(classifier, x, eps, row):
    """The least ⟨row, h(x + δ)⟩, of a row that is 1 at the label and −1 at another class."""
    layers = [part for part in classifier.module if isinstance(part, nn.Linear)]
    return least_margin(layers, x, eps, int(row.argmax()), int(row.argmin()))


@pytest.mark.parametrize("seed", range(6))
def test_a_milp_is_brute_force_over_activation_patterns(seed):
    classifier, x, y = _net(seed)
    single, double = graphs_of(classifier, (1, 2, 2))
    region = around(x, sp.Linf(0.3), (0, 1))
    made = program(double, bounds.crown(double, region, torch.float64), exact=True)
    for other in {0, 1, 2} - {y.item()}:
        row = np.zeros(3)
        row[y.item()], row[other] = 1, -1
        bound, lost = by_milp(made, row, double)
        exact = _brute(classifier, x, 0.3, row)
        assert bound <= exact + 1e-7
        assert bound + lost == pytest.approx(exact, abs=3e-5)
    assert single.outputs == 3


@pytest.mark.slow
@given(st.integers(0, 10**4), st.floats(0.01, 0.4))
@settings(max_examples=8, deadline=None)
def test_crown_is_below_the_lp_the_lp_below_the_milp_and_that_below_any_attack(seed, eps):
    classifier, x, y = _net(seed)
    graph = graphs_of(classifier, (1, 2, 2))[1]
    region = around(x, sp.Linf(eps), (0, 1))
    known = bounds.crown(graph, region, torch.float64)
    row = np.zeros(3)
    row[y.item()], row[(y.item() + 1) % 3] = 1, -1
    (relaxed, lost), (exact, taken) = (
        solve(program(graph, known, exact=whole), row)
        for whole, solve in ((False, by_lp), (True, lambda made, row: by_milp(made, row, graph)))
    )
    assert relaxed + lost <= exact + taken + 1e-5
    corners = sp.Linf(eps).at(x.expand(64, -1, -1, -1)).maximiser(torch.randn(64, 1, 2, 2))
    values = classifier(x + corners).detach().double().numpy() @ row
    assert exact <= values.min() + 1e-6
    verdicts = {name: sp.certify(classifier, x, y, sp.Linf(eps), method=name) for name in ("crown", "lp", "milp")}
    found = [verdicts[name].lower_bound.item() for name in ("crown", "lp", "milp")]
    assert found[0] <= found[1] + 1e-4 <= found[2] + 2e-3


@pytest.mark.parametrize("kind", ["noise", "scaled", "nothing", "no number", "infeasible"])
@pytest.mark.parametrize("exact", [False, True])
def test_no_bound_rests_on_a_solver(monkeypatch, kind, exact):
    """Weak duality: with any multipliers the bound holds, so that a solver that lies only loosens it."""
    classifier, x, y = _net(3)
    graph = graphs_of(classifier, (1, 2, 2))[1]
    made = program(graph, bounds.crown(graph, around(x, sp.Linf(0.3), (0, 1)), torch.float64), exact=exact)
    row = np.zeros(3)
    row[y.item()], row[(y.item() + 1) % 3] = 1, -1
    due, draw, honest = _brute(classifier, x, 0.3, row), np.random.default_rng(0), Solver.solve

    def lying(self, held, seconds=np.inf):
        found = honest(self, held, seconds)
        size = found.dual.shape
        dual = {
            "noise": draw.normal(size=size), "scaled": 1e9 * found.dual, "nothing": np.zeros(size),
            "no number": np.full(size, np.nan), "infeasible": -draw.random(size),
        }[kind]  # fmt: skip
        return replace(found, dual=dual, point=None if kind == "infeasible" else found.point)

    monkeypatch.setattr(Solver, "solve", lying)
    value, lost = (lambda: by_milp(made, row, graph))() if exact else by_lp(made, row)
    assert value <= due + 1e-9
    assert lost >= 0


def test_a_planted_counterexample_is_never_certified():
    """A dip at 0.9 that no gradient at x shows: the exact method must see it."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        module[1].weight.fill_(1.0)
        module[1].bias.fill_(-0.9)
        module[3].weight.copy_(torch.tensor([[0.0], [100.0]]))
        module[3].bias.copy_(torch.tensor([1.0, -1.0]))
    classifier, x = sp.Classifier(module), torch.full((1, 1, 1, 1), 0.5)
    for method in ("interval", "crown", "alpha-crown", "lp", "milp"):
        assert sp.certify(classifier, x, torch.tensor([0]), sp.Linf(0.5), method=method).verdict == ("unknown",)
        assert sp.certify(classifier, x, torch.tensor([0]), sp.Linf(0.4), method=method).verdict == ("certified",)


def test_other_balls_and_large_networks_are_one_line(monkeypatch):
    classifier, x, y = _net(0)
    with pytest.raises(sp.InputError, match="takes ℓ∞ balls on a CPU"):
        sp.certify(classifier, x, y, sp.L2(0.1), method="milp")
    monkeypatch.setattr("saddlepoint.certificates.milp.LARGEST", 10)
    with pytest.raises(sp.ModelError, match="expected a smaller network, or another method"):
        sp.certify(classifier, x, y, sp.Linf(0.3), method="lp")
