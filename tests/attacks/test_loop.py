"""The loop: the plain loop of the lesson, one batch shape, counted passes, early retirement, named failures."""

from collections import Counter

import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.classifier.forms import Form
from saddlepoint.testing import toys


@pytest.fixture
def case():
    classifier, x = toys.convolutional(), toys.pixels(9, (3, 6, 5))
    return classifier, x, classifier.predict(x).label


class Counted(nn.Module):
    """Counts calls and records their batch shapes."""

    def __init__(self, module):
        super().__init__()
        self.module, self.shapes = module, []

    def forward(self, x):
        self.shapes.append(tuple(x.shape))
        return self.module(x)


def test_the_plain_loop_of_the_lesson_is_reproduced(case):
    classifier, x, y = case
    x, y, eps, lr, losses = x[:1], y[:1], 2 / 255, 0.1, []
    delta = torch.zeros_like(x, requires_grad=True)
    optimiser = torch.optim.SGD([delta], lr=lr)
    classifier.eval()
    for _ in range(30):
        loss = -nn.CrossEntropyLoss()(classifier(x + delta), y)
        losses.append(-loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        delta.data.clamp_(-eps, eps)
    seen = []
    result = sp.attack(
        classifier, x, y, sp.Linf(eps), sp.SGD(steps=30, lr=lr), box=None, observe=lambda p: seen.append(p.loss.item())
    )
    assert seen[:30] == pytest.approx(losses, rel=1e-5, abs=1e-6)
    assert result.steps.item() == 30
    assert torch.allclose(result.x_adv, (x + delta).detach(), atol=1e-6)


def test_every_call_has_the_one_shape(case):
    classifier, x, y = case
    classifier.module = Counted(classifier.module)
    sp.attack(classifier, x, y, sp.Linf(0.1), sp.PGD(steps=7, restarts=2), batch_size=4)
    shapes = Counter(classifier.module.shapes)
    assert shapes.pop((2, 3, 6, 5)) == 2, "the probe: the module as given, and in its fastest form"
    assert set(shapes) == {(4, 3, 6, 5)}


def test_passes_are_counted_per_example(case):
    classifier, x, y = case
    result = sp.attack(classifier, x, y, sp.Linf(1e-4), sp.PGD(steps=7), batch_size=4)
    assert not result.success.any()
    assert result.steps.tolist() == [7] * 9
    assert result.forwards.tolist() == [1 + 8 + 1] * 9
    assert result.backwards.tolist() == [7] * 9


def test_no_backward_is_computed_that_nobody_wants(case):
    classifier, x, y = case
    backwards = []

    class Watch(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            backwards.append(len(gradient))
            return gradient

    class Watched(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            return self.module(Watch.apply(x))

    classifier.module = Watched(classifier.module)
    sp.attack(classifier, x[:3], y[:3], sp.Linf(1e-4), sp.PGD(steps=3), batch_size=3)
    assert [size for size in backwards if size != 2] == [3, 3, 3]  # 2: the probe of the fastest form


def test_early_retirement_changes_no_outcome_but_the_cost(case):
    classifier, x, y = case
    solver, ball = sp.PGD(steps=30, restarts=2), sp.Linf(0.1)
    early = sp.attack(classifier, x, y, ball, solver, batch_size=4)
    late = sp.attack(classifier, x, y, ball, solver, batch_size=4, stop="never")
    assert torch.equal(early.success, late.success)
    assert early.success.any()
    assert (late.margin <= early.margin).all()
    assert early.backwards.sum() < late.backwards.sum() / 2


def test_stop_at_a_margin(case):
    classifier, x, y = case
    result = sp.attack(classifier, x, y, sp.Linf(0.3), sp.PGD(steps=30), batch_size=4, stop=0.05)
    never = sp.attack(classifier, x, y, sp.Linf(0.3), sp.PGD(steps=30), batch_size=4, stop="never")
    reached = never.margin <= -0.05
    assert reached.any()
    assert (result.margin[reached] <= -0.05).all()


class Detached(nn.Module):
    def forward(self, x):
        return x.detach().flatten(1)[:, :4]


def test_a_model_without_gradient_is_named():
    x = toys.pixels(2, (3, 6, 5))
    classifier = sp.Classifier(Detached())
    with pytest.raises(sp.ModelError, match="no gradient reaches the pixels"):
        sp.attack(classifier, x, classifier.predict(x).label, sp.Linf(0.1), sp.PGD(steps=1))


def test_nan_is_named_and_never_passes(case):
    classifier, x, y = case

    class NaNAway(nn.Module):
        def __init__(self, module, x):
            super().__init__()
            self.module, self.clean = module, x

        def forward(self, x):
            moved = (x[:, None] - self.clean).abs().flatten(2).amax(2).amin(1) > 1e-6
            return torch.where(moved[:, None], torch.nan, self.module(x))

    poisoned = sp.Classifier(NaNAway(classifier.module, x))
    y = poisoned.predict(x).label
    with pytest.raises(
        sp.ModelError, match=r"PGD met a logit or a gradient that is not finite, at step \d+ on example"
    ):
        sp.attack(poisoned, x, y, sp.Linf(0.05), sp.PGD(steps=5), batch_size=4)


class Hides(nn.Module):
    """A path, for dark images only, on which another reads what a norm should."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.norm.running_mean += 3
        self.norm.running_var *= 0.01

    def forward(self, x):
        inner = self.conv(x)
        after = self.norm(inner)
        after = after if x.mean() > 0.4 else after + 50 * inner
        return self.head(after.flatten(2).mean(2))


def test_a_search_in_another_function_is_never_believed(monkeypatch):
    monkeypatch.setattr(Form, "settled", lambda form: True)
    torch.manual_seed(0)
    classifier, x = sp.Classifier(Hides()), 0.5 * toys.pixels(4, (3, 6, 6))
    y = classifier.predict(x).label
    with pytest.raises(sp.ModelError, match=r"PGD saw the margin .* the module itself has .* torch\.compile.* sp\.EOT"):
        sp.attack(classifier, x, y, sp.Linf(0.001), sp.PGD(steps=2), stop="never")


def test_modules_that_cannot_take_pixels_are_named(case):
    _, x, _ = case
    with pytest.raises(sp.ModelError, match="weights are float64; expected float32"):
        sp.Classifier(toys.convolutional().module.double()).predict(x)
    with torch.inference_mode():
        built = toys.convolutional().module
    with pytest.raises(sp.ModelError, match="built inside torch.inference_mode"):
        sp.Classifier(built).predict(x)


def test_a_box_is_rounded_as_pixels_are(case):
    classifier, x, _ = case
    assert len(classifier.predict(0.1 * x, box=(0.0, 0.1)).label) == len(x)
