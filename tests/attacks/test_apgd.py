"""Auto-PGD: step for step as the original, its checks, and what its targets are."""

import json
from pathlib import Path

import pytest
import torch

import saddlepoint as sp
from saddlepoint import random
from saddlepoint.attacks.protocol import ranked
from saddlepoint.testing import toys
from saddlepoint.testing.traces import trace

GOLDEN = json.loads((Path(__file__).parent / "golden" / "apgd.json").read_text())
"""By benchmarks/conformance.py --write: norms and losses of the original's iterates."""

BALLS = {"linf": sp.Linf(0.05), "l2": sp.L2(0.3), "l1": sp.L1(2.0)}


@pytest.fixture
def case():
    classifier, x = toys.convolutional(classes=6).eval().requires_grad_(False), toys.pixels(5, (3, 6, 5))
    return classifier, x, classifier(x).argmax(1)


@pytest.mark.parametrize("name", [name for name in GOLDEN if name != "steps"])
def test_iterates_and_losses_are_those_of_the_original(name, case):
    classifier, x, y = case
    ball, loss = BALLS[name.split()[0]], name.split()[-1]
    target = classifier(x).argsort(1, descending=True)[:, 1] if "targeted" in name else None
    kind = {"loss": loss, "targets": 9 if "targeted" in name else 0}
    if ball.name == "l1":
        attack = sp.APGDL1(**kind)
        start = sp.L1(6.0).at(x).project(random.normal(torch.arange(5), 0, tuple(x.shape[1:])))
    else:
        attack, start = sp.APGD(**kind, reference=True), ball.at(x).start(torch.arange(5))
    run, kept = trace(attack, classifier, x, y, ball, start=start, target=target), GOLDEN[name]
    steps = torch.tensor(GOLDEN["steps"])[:, None]
    assert len(kept["rows"]) >= 4
    assert torch.allclose(run.delta.flatten(2).norm(dim=2)[steps, kept["rows"]], torch.tensor(kept["norm"]), atol=1e-4)
    assert torch.allclose(run.loss[steps, kept["rows"]], torch.tensor(kept["loss"]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(100, [22, 41, 57, 70, 80, 87, 93, 99]), (50, [11, 21, 30, 38, 45]), (20, [4, 7, 9, *range(10, 21)])],
)
def test_checks_come_when_the_paper_says(steps, expected, case):
    classifier, x, y = case
    states = trace(sp.APGD(steps=steps), classifier, x, y, sp.Linf(0.05)).states
    due = [int(s.step[0]) - 1 for s in states if int(s.step[0]) > 1 and int(s.pace.since[0]) == 0]
    assert due == [k for k in expected if k < steps]


def test_a_step_halves_itself_and_never_grows(case):
    classifier, x, y = case
    sizes = torch.stack([s.pace.size for s in trace(sp.APGD(), classifier, x, y, sp.Linf(0.05)).states])
    assert bool((sizes[0] == 2).all())
    assert bool((sizes[-1] < 2).all())
    ratios = sizes[1:] / sizes[:-1]
    assert set(ratios.unique().tolist()) == {0.5, 1.0}


def test_targets_are_the_likeliest_wrong_classes():
    assert ranked(torch.tensor([[0.1, 3.0, 2.0, 2.0]]), 1) == [2, 3, 0]
    assert [run.target for run in sp.APGD(targets=9, restarts=2).runs(torch.tensor([[1.0, 0.0, 2.0]]), 2)] == [
        0,
        0,
        1,
        1,
    ]


@pytest.mark.parametrize("classes", [2, 3, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("ball", BALLS.values(), ids=BALLS)
def test_any_number_of_classes_and_any_shape(classes, ball):
    classifier, x = toys.convolutional(classes=classes, channels=1), toys.pixels(3, (1, 9, 4))
    y, kind = classifier.predict(x).label, sp.APGDL1 if ball.name == "l1" else sp.APGD
    for loss in ("dlr", "cross-entropy", "softmax-margin", "rescaled-cross-entropy"):
        result = sp.attack(classifier, x, y, ball, kind(steps=6, loss=loss, targets=9), stop="never")
        assert result.steps.tolist() == [(6 if ball.name != "l1" else 8) * min(9, classes - 1)] * 3


def test_names_say_which_of_the_family_it_is():
    attacks = [sp.APGD(), sp.APGD(loss="dlr"), sp.APGD(loss="dlr", targets=9), sp.APGDL1(loss="margin", targets=2)]
    assert [attack.name for attack in attacks] == ["APGD-CE", "APGD-DLR", "APGD-T", "APGD-margin-T"]
