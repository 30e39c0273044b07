"""FAB and FAB-T: step for step as the authors' code, at the known distance of linear models, at a known price."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import saddlepoint as sp
from saddlepoint.attacks import Problem
from saddlepoint.attacks.fab import approach, linearise
from saddlepoint.testing import toys
from saddlepoint.testing.traces import trace

GOLDEN = json.loads((Path(__file__).parent / "golden" / "fab.json").read_text())
BALLS = [sp.Linf(1.0), sp.L2(1.0), sp.L1(1.0)]
named = {"ids": lambda ball: ball.name}


def walk(classifier, x, y, ball, solver, target=None, **options):
    """Return the points that the steps led to, (steps, B, …), and the objective there, (steps, B)."""
    found = trace(solver, classifier, x, y, ball, target=target, **options)
    fresh = torch.tensor([bool(state.fresh.all()) for state in found.states])
    return found.delta[fresh], found.loss[fresh]


@pytest.mark.parametrize("kind", ["FAB-T", "FAB"])
@pytest.mark.parametrize("ball", BALLS, **named)
def test_iterates_are_those_of_the_authors(ball, kind):
    model, x = toys.convolutional(), toys.pixels(3, (3, 9, 7))
    logits = model.predict(x).logits
    target = logits.argsort(1)[:, -3] if kind == "FAB-T" else None
    points, _ = walk(model, x, logits.argmax(1), ball, sp.FAB(steps=20), target)
    norms = torch.stack([ball.norm(delta) for delta in points], dim=1)
    golden = torch.tensor(GOLDEN[f"{ball.name} {kind}"], dtype=torch.float64)
    golden[:, -1] = golden[:, -1].clamp(max=1)  # the last point is brought into the ball
    torch.testing.assert_close(norms, golden, rtol=1e-5, atol=0)


def distances(model, x, y, ball):
    """Return |f|/‖w‖_* of a linear model with two classes."""
    weight = model.module[1].weight.detach()
    gap = (weight[1] - weight[0]).expand(len(x), -1)
    logits = model.predict(x).logits
    return (logits[:, 0] - logits[:, 1]).abs() / ball.dual_norm(gap)


def nearest(ball, points, difference):
    norms = torch.stack([ball.norm(delta) for delta in points])
    return norms.masked_fill(difference <= 0, torch.inf).amin(0)


@pytest.mark.parametrize(("eta", "tolerance"), [(1.0005, 1e-3), (1.05, 1e-2)])
@pytest.mark.parametrize("ball", BALLS, **named)
def test_linear_models_have_a_known_distance(ball, eta, tolerance):
    model, x = toys.random_linear(), toys.pixels(6)
    y = model.predict(x).label
    points, difference = walk(model, x, y, ball, sp.FAB(steps=5, eta=eta), 1 - y, box=None)
    torch.testing.assert_close(
        nearest(ball, points, difference), distances(model, x, y, ball), rtol=tolerance, atol=0, check_dtype=False
    )


@pytest.mark.parametrize("ball", BALLS, **named)
def test_in_a_box_no_ball_that_is_smaller_reaches_the_boundary(ball):
    model, x = toys.random_linear(), toys.pixels(6)
    y = model.predict(x).label
    points, difference = walk(model, x, y, ball, sp.FAB(steps=5, eta=1.0005), 1 - y)
    found = nearest(ball, points, difference)
    assert (found > distances(model, x, y, ball)).all()
    for share, reached in ((0.998, False), (1.0, True)):
        region = replace(ball, eps=share * found).at(x)
        assert ((toys.worst_margin(model, region, y) < 0) == reached).all()


@pytest.mark.parametrize("solver", [sp.FAB(steps=30), sp.APGD(loss="dlr")], ids=lambda solver: solver.name)
@pytest.mark.parametrize("rank", [0, 5])
def test_a_target_is_to_be_predicted_and_not_only_to_pass_the_label(solver, rank):
    classifier, x = toys.random_linear(10, (3, 8, 8)), toys.pixels(12, (3, 8, 8))
    order = classifier.predict(x).logits.argsort(1, descending=True)
    y, target, ball = order[:, rank], order[:, 3], sp.Linf(0.06)
    reached = sp.attack(classifier, x, y, ball, sp.PGD(steps=200, loss="margin"), target=target).success
    found = sp.attack(classifier, x, y, ball, solver, target=target).success
    assert int(reached.sum()) > 8
    assert int((reached & ~found).sum()) <= 1


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_and_no_square(classes):
    model, x = toys.convolutional(classes, channels=1), toys.pixels(5, (1, 7, 4))
    y = model.predict(x).label
    assert len(sp.FAB().runs(model.predict(x[:1]).logits, int(y[0]))) == classes - 1
    for solver in (sp.FAB(steps=15), sp.FAB(steps=15, targets=0)):
        result = sp.attack(model, x, y, sp.Linf(1.0), solver, batch_size=3)
        assert result.success.all()


def test_targets_come_by_their_logits():
    logits = torch.tensor([[0.5, 3.0, 2.0, -1.0, 2.5]])
    runs = sp.FAB(targets=3, restarts=2).runs(logits, 1)
    assert [(run.target, run.restart) for run in runs] == [(4, 0), (4, 1), (2, 0), (2, 1), (0, 0), (0, 1)]
    assert [run.target for run in sp.FAB(targets=0).runs(logits, 1)] == [None]
    assert (sp.FAB().name, sp.FAB(targets=0).name) == ("FAB-T", "FAB")


@pytest.mark.parametrize("ball", BALLS, **named)
def test_gradients_of_any_layout(ball):
    delta, gradient = 0.1 * toys.pixels(2, (3, 6, 5)), toys.pixels(2, (3, 6, 5), seed=1) - 0.5
    low, high, value = delta - 0.3, delta + 0.2, torch.tensor([-0.5, 0.7])
    turned = gradient.mT.contiguous().mT
    assert not turned.is_contiguous()
    one, two = (
        approach(ball, delta, linearise(ball, delta, value, g), low, high, 0.1, 1.05) for g in (gradient, turned)
    )
    assert torch.equal(one, two)


def test_one_survivor():
    model, x = toys.convolutional(), toys.pixels(5, (3, 6, 5))
    y = model.predict(x).label
    labels = (y + 1) % 4
    labels[3] = y[3]
    result = sp.attack(model, x, labels, sp.L2(5.0), sp.FAB(steps=10), batch_size=4)
    assert result.attack == ["clean", "clean", "clean", "FAB-T", "clean"]


def test_passes_of_an_example_that_stands():
    model, x = toys.convolutional(), toys.pixels(3, (3, 6, 5))
    y = model.predict(x).label
    for solver, forwards, backwards in ((sp.FAB(steps=10), 60, 30), (sp.FAB(steps=10, targets=0), 40, 30)):
        result = sp.attack(model, x, y, sp.Linf(1e-4), solver, batch_size=3)
        assert not result.success.any()
        assert result.forwards.tolist() == [2 + forwards] * 3
        assert result.backwards.tolist() == [backwards] * 3


@pytest.mark.parametrize("ball", BALLS, **named)
def test_restarts_begin_at_half_the_radius(ball):
    x = torch.full((3, 1, 5, 4), 0.5)
    logits, y = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    ball = replace(ball, eps=0.3)
    problem = Problem(x, y, 1 - y, ball.at(x), logits, torch.arange(3), restart=torch.tensor([0, 1, 2]))
    begin = sp.FAB().init(problem).delta
    torch.testing.assert_close(ball.norm(begin), torch.tensor([0.0, 0.15, 0.15]).double())
    assert not torch.equal(begin[1], begin[2])


@pytest.mark.parametrize("ball", BALLS, **named)
def test_bf16_and_no_box(ball):
    model, x = toys.convolutional(), toys.pixels(4, (3, 6, 5))
    y = model.predict(x).label
    ball = replace(ball, eps=1.0 if ball.name == "linf" else 100.0)
    for options in ({"precision": "bf16"}, {"box": None}):
        assert sp.attack(model, x, y, ball, sp.FAB(steps=20), batch_size=4, **options).success.all()
