"""Planted defences: what seems robust because an attack fails must be seen through, or named. Never a quiet number."""

import warnings
from dataclasses import replace

import pytest
import torch

import saddlepoint as sp
from saddlepoint.errors import InputError
from saddlepoint.testing import TRAPS, toys

BALL = sp.Linf(1 / 8)
POINTS = 0.0201
"""By how much an estimate of robust accuracy may miss: one of fifty images."""

LEAST = {"clamp of its own": 3}
"""By how many images a trap must catch PGD; ten, unless its random start helps it out of the trap."""

SHORT = {sp.APGD: {"steps": 10}, sp.Square: {"queries": 600, "p_init": 0.3}}
"""The images are 8 × 8, so that less will do."""


def shortened(suite):
    return tuple(replace(each, **SHORT[type(each)]) for each in suite if type(each) in SHORT)


STANDARD = shortened(sp.STANDARD)
UNDOUBTED = (step for step in sp.FAST if not isinstance(step, sp.IfDoubted))
SUITES = {"STANDARD": STANDARD, "FAST": (*UNDOUBTED, *map(sp.IfDoubted, STANDARD))}
OPENED = [name for name, trap in TRAPS.items() if trap.remedy]


@pytest.fixture(scope="module")
def panel():
    x, y = toys.digits()
    return toys.trained(), x[1:101:2], y[1:101:2]


@pytest.fixture(scope="module")
def truth(panel):
    """The twin's robust accuracy: a classifier that hides nothing."""
    accuracy, said = evaluate(panel, panel[0], SUITES["STANDARD"])
    assert not said
    assert 0.3 < accuracy < 0.7
    return accuracy


@pytest.fixture(params=["FAST", pytest.param("STANDARD", marks=pytest.mark.slow)])
def suite(request):
    return SUITES[request.param]


def evaluate(panel, classifier, attack):
    """Return the robust accuracy, None if it was refused, and all that was said about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = sp.attack(classifier, *panel[1:], BALL, attack)
        except sp.ModelError as error:
            return None, str(error)
    return result.accuracy.double().mean().item(), " ".join(each.name for each in result.findings)


@pytest.mark.parametrize("trap", [trap for trap in TRAPS.values() if trap.cues], ids=lambda trap: trap.name)
def test_a_trap_catches_a_weak_attack(panel, truth, trap):
    accuracy, said = evaluate(panel, trap.defend(panel[0]), sp.PGD(steps=40))
    if accuracy is None:
        assert any(cue in said for cue in trap.cues)
    elif trap.alike:
        assert accuracy > truth + LEAST.get(trap.name, 10) * POINTS
    else:
        stronger, _ = evaluate(panel, trap.defend(panel[0]), sp.Square(queries=600, p_init=0.3))
        assert accuracy > stronger + 3 * POINTS


SLOW = {
    "scaled logits",
    "JPEG",
    "shattered gradients",
    "k winners take all",
    "clamp of its own",
    "detached branch",
    "quantised input",
    "rounded units",
    "clamped input",
}


@pytest.mark.parametrize(
    "trap", [pytest.param(TRAPS[name], id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name in TRAPS]
)
def test_a_trap_is_seen_through_or_named(panel, truth, suite, trap):
    accuracy, said = evaluate(panel, trap.defend(panel[0]), suite)
    if any(cue in said for cue in trap.cues):
        return
    assert accuracy is not None, said
    assert accuracy <= truth + POINTS


@pytest.mark.slow
@pytest.mark.parametrize("name", OPENED)
def test_its_remedy_opens_a_trap(panel, truth, suite, name):
    trap = TRAPS[name]
    classifier = trap.opened(panel[0]) if trap.opened else trap.defend(panel[0])
    accuracy, said = evaluate(panel, classifier, sp.EOT(sp.PGD(steps=20)) if trap.remedy == "eot" else suite)
    assert accuracy is not None, said
    assert accuracy <= truth + POINTS
    assert not trap.alike or accuracy >= truth - 4 * POINTS  # it decides as the twin does but for rounding


@pytest.mark.parametrize("trap", [trap for trap in TRAPS.values() if trap.alike], ids=lambda trap: trap.name)
def test_a_trap_decides_as_its_twin(panel, trap):
    twin, x, _ = panel
    with torch.no_grad():
        same = trap.defend(twin)(x).argmax(1) == twin(x).argmax(1)
    assert same.double().mean() >= 1 - POINTS


def test_an_honest_twin_is_not_accused(panel, truth, suite):
    accuracy, said = evaluate(panel, panel[0], suite)
    assert accuracy == pytest.approx(truth, abs=POINTS)
    assert not said


def test_winners_need_something_to_replace():
    with pytest.raises(InputError, match=r"linear has no nn\.ReLU"):
        TRAPS["k winners take all"].defend(toys.random_linear())


def test_a_trap_shows_its_numbers():
    assert repr(TRAPS["quantised input"].defend(toys.random_linear()).module[0]) == "Quantised(levels=16)"
