"""Signs of masked gradients: they escalate, they are told, and what hides gradients can be bridged."""

import inspect
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.attacks import Attack, IfDoubted
from saddlepoint.testing import toys

attack = inspect.unwrap(sp.attack)
BALL = sp.Linf(2 / 63)
SHORT = (sp.Sweep(short=1, long=0), sp.Square(queries=20, p_init=0.3))
LONG = (sp.Square(queries=400),)


def quantise(x):
    return (x * 63).round() / 63


class Quantised(nn.Module):
    def forward(self, x):
        return quantise(x)


@pytest.fixture
def case():
    classifier, x = toys.convolutional(classes=5), toys.pixels(16, (3, 6, 5))
    classifier.eval()
    return classifier, x, classifier.predict(x).label


def test_nothing_escalates_where_gradients_are_sound(case):
    classifier, x, y = case
    suite = (*SHORT, *map(IfDoubted, LONG))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = attack(classifier, x, y, BALL, suite)
    assert result.findings == ()
    assert int(result.forwards.max()) < LONG[0].queries


def test_a_zero_gradient_escalates_and_is_told(case):
    classifier, x, y = case
    masked = sp.Classifier(nn.Sequential(Quantised(), classifier))
    y = masked.predict(x).label
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result = attack(masked, x, y, BALL, (*SHORT, *map(IfDoubted, LONG)))
        short = attack(masked, x, y, BALL, SHORT)
    assert any("zero gradient: on 16 of 16 examples" in str(each.message) for each in told)
    assert "zero gradient" in [finding.name for finding in result.findings]
    assert bool((result.forwards > short.forwards)[~short.success].all())
    assert int(result.success.sum()) >= int(short.success.sum())


def test_a_black_box_that_gets_further_is_told(case):
    classifier, x, y = case

    class Backwards(nn.Module):
        """The identity, with the gradient reversed."""

        def forward(self, x):
            return 2 * x.detach() - x

    masked = sp.Classifier(nn.Sequential(Backwards(), classifier))
    with pytest.warns(sp.MaskingWarning, match="black box beats gradients"):
        result = attack(masked, x, y, BALL, (sp.PGD(steps=5), sp.Square(queries=300)))
    assert [finding.name for finding in result.findings] == ["black box beats gradients"]
    assert result.findings[0].count == sum(name == "Square" for name in result.attack) > 0


@pytest.mark.parametrize("substitute", [None, torch.nn.Identity()])
def test_bpda_breaks_a_quantiser_as_its_twin(case, substitute):
    classifier, x, _ = case
    x = quantise(x)
    y = classifier.predict(x).label
    bridged = sp.Classifier(nn.Sequential(sp.BPDA(quantise, substitute), classifier))
    assert torch.equal(bridged.predict(x).logits, classifier.predict(quantise(x)).logits)
    twin = attack(classifier, x, y, BALL, sp.PGD(steps=20))
    found = attack(bridged, x, y, BALL, sp.PGD(steps=20))
    assert int(twin.success.sum()) > 0
    assert abs(int(found.success.sum()) - int(twin.success.sum())) <= 1
    assert torch.equal(found.success, classifier.predict(quantise(found.x_adv)).label != y)


def test_bpda_has_the_gradient_of_its_substitute():
    x = toys.pixels(2).requires_grad_()
    z = sp.BPDA(torch.round, lambda v: v**2)(x)
    assert torch.equal(z.detach(), x.detach().round())
    assert torch.equal(torch.autograd.grad(z.sum(), x)[0], 2 * x.detach())


def test_bpda_asks_for_a_substitute_of_the_same_shape():
    with pytest.raises(sp.ModelError, match="give a substitute that resizes as the function does"):
        sp.BPDA(lambda x: x[:, :1])(toys.pixels(2))


@pytest.mark.parametrize("stop", ["fooled", "never"])
def test_a_black_box_that_succeeds_alone_is_told_whenever_it_stops(case, stop):
    classifier, x, y = case

    class Backwards(nn.Module):
        def forward(self, x):
            return 2 * x.detach() - x

    masked = sp.Classifier(nn.Sequential(Backwards(), classifier))
    with pytest.warns(sp.MaskingWarning, match="black box beats gradients"):
        attack(masked, x, y, BALL, (sp.PGD(steps=5), sp.Square(queries=300)), stop=stop)


class Confident(nn.Module):
    """Logits so far apart that in float32 the gradient of the cross-entropy is zero."""

    def forward(self, z):
        return 1e4 * z


def test_a_gradient_that_vanishes_after_success_hides_nothing(case):
    classifier, x, y = case
    result = attack(classifier, x, y, sp.Linf(0.5), sp.PGD(loss="margin"), stop="never")
    assert bool(result.success.all())
    confident = sp.Classifier(nn.Sequential(classifier, Confident()))
    target = result.x_adv.new_tensor(classifier.predict(result.x_adv).label.tolist()).long()
    found = attack(confident, x, y, sp.Linf(0.5), sp.PGD(loss="margin"), target=target, stop="never")
    assert found.findings == ()


def test_a_zero_gradient_of_one_loss_is_no_sign_where_another_has_one(case):
    classifier, x, y = case
    confident = sp.Classifier(nn.Sequential(classifier, Confident()))
    suite = sp.APGD(steps=5), sp.APGD(steps=5, loss="dlr")
    with pytest.warns(sp.MaskingWarning, match="zero gradient: .* attack the margin"):
        attack(confident, x, y, BALL, suite[0])
    assert attack(confident, x, y, BALL, suite).findings == ()


def test_chance_and_what_cannot_be_overestimated_are_no_findings():
    from saddlepoint.attacks import findings

    black_box, zero = "black box beats gradients", "zero gradient"
    assert findings({black_box: 1}, 10, 5) == findings({black_box: 10}, 1000, 5) == ()
    assert findings({zero: 10, black_box: 10}, 10, 0) == ()
    assert [each.name for each in findings({zero: 1, black_box: 2}, 10, 5)] == [zero, black_box]


@pytest.mark.parametrize(
    ("make", "message"),
    {
        "nothing before it": (lambda: sp.IfDoubted(sp.PGD()), "begins with IfDoubted, which waits for doubts"),
        "nothing that searches": (lambda: (sp.APGDL1(), sp.IfDoubted(sp.PGD())), "begins with IfDoubted"),
        "one lucky draw": (lambda: (sp.PGD(), *sp.RAND), "means over 1 and 20 draws"),
        "a suite inside": (lambda: sp.EOT(sp.STANDARD), r"EOT got several attacks; expected one: tuple\(map\(sp.EOT"),
        "a number inside": (lambda: sp.IfDoubted(3), "IfDoubted got 3; expected one"),
        "a suite in a suite": (lambda: (sp.STANDARD, sp.PGD()), r"a suite inside a suite; .*\(\*sp.STANDARD"),
    }.values(),
)
def test_suites_that_cannot_mean_what_they_say(case, make, message):
    with pytest.raises(sp.InputError, match=message):
        attack(*case, BALL, make())


def test_what_never_runs_takes_no_share_of_the_budget(case):
    classifier, x, y = case
    suite = (*SHORT, *map(IfDoubted, (sp.Square(queries=100),) * 6))
    spent = [attack(classifier, x, y, sp.Linf(1e-4), steps, budget=60) for steps in (SHORT, suite)]
    passes = [(result.forwards + result.backwards).float().mean() for result in spent]
    assert passes[1] > 0.6 * passes[0]


@pytest.mark.parametrize(
    ("function", "kind"), [(lambda x: x.numpy(), "a ndarray"), (lambda x: (255 * x).byte(), "a torch.uint8 tensor")]
)
def test_bpda_asks_for_pixels(function, kind):
    with pytest.raises(sp.ModelError, match=f"BPDA's function returns {kind}; expected a floating tensor"):
        sp.BPDA(function)(toys.pixels(2))


def test_bpda_asks_for_functions_and_tells_them_apart():
    with pytest.raises(sp.InputError, match="BPDA got function=None; expected a function"):
        inspect.unwrap(sp.BPDA.__init__)(sp.BPDA.__new__(sp.BPDA), None)
    digests = {sp.Classifier(nn.Sequential(sp.BPDA(each), nn.Flatten())).digest() for each in (quantise, torch.round)}
    assert len(digests) == 2


def cut(step):
    """Return the step with few iterations and draws."""
    if isinstance(step, sp.EOT):
        return sp.EOT(cut(step.attack), draws=3)
    if isinstance(step, IfDoubted):
        return IfDoubted(cut(step.attack))
    few = {"steps": 5, "queries": 20, "long_steps": 10}
    return replace(step, **{name: few[name] for name in few if hasattr(step, name)})


@pytest.mark.parametrize("suite", [sp.FAST, sp.RAND], ids=["fast", "rand"])
@pytest.mark.parametrize("ball", [sp.Linf(0.01), sp.L2(0.05), sp.L1(0.2)], ids=lambda ball: ball.name)
def test_suites_run_in_every_ball(case, suite, ball):
    classifier, x, y = case
    result = attack(classifier, x[:2], y[:2], ball, [cut(step) for step in suite])
    names = {name for name in result.attack if name}
    assert names <= ({"Sweep", "Square"} if suite is sp.FAST else {"APGD-CE", "APGD-DLR", "APGDL1-CE", "APGDL1-DLR"})


def test_wrappers_are_values():
    assert sp.IfDoubted(sp.EOT(sp.PGD(), draws=5)) == sp.IfDoubted(sp.EOT(sp.PGD(), draws=5))
    assert hash(sp.FAST) == hash(tuple(sp.FAST))
    assert not isinstance(sp.EOT(sp.PGD()), Attack)
