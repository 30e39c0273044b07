"""Attacks of users: three solvers of other kinds fit the protocol and obey its laws."""

import copy
import inspect
import math
from dataclasses import dataclass, replace
from typing import ClassVar, final

import pytest
import torch

import saddlepoint as sp
from saddlepoint import random
from saddlepoint.attacks import Access, Attack, Fool, Nearest
from saddlepoint.testing import ATTACK_LAWS, toys


@pytest.fixture
def case():
    classifier, x = toys.convolutional(), toys.pixels(9, (3, 6, 5))
    return classifier, x, classifier.predict(x).label


@final
@dataclass(frozen=True)
class RandomCorners(Attack):
    """Sketch of a solver without gradients: random sign patterns, the best one kept, as Square does it."""

    queries: int = 60
    access: ClassVar[Access] = Access.SCORES
    tolerance: ClassVar[float] = 0.9

    @dataclass(frozen=True)
    class State:
        delta: torch.Tensor
        best: torch.Tensor
        loss: torch.Tensor
        step: torch.Tensor

    def init(self, problem):
        start = torch.zeros_like(problem.x) if problem.start is None else problem.start
        loss = torch.full_like(problem.logits[:, 0], -torch.inf)
        return self.State(start, start, loss, torch.zeros_like(problem.y))

    def ask(self, problem, state):
        return state.delta

    def objective(self, problem, state, logits):
        return -sp.losses.margin(logits, problem.y) if problem.target is None else logits[:, 0]

    def tell(self, problem, state, answer):
        better = (answer.loss > state.loss).reshape(-1, 1, 1, 1)
        best = torch.where(better, state.delta, state.best)
        draws = [
            random.uniform(k[None], s, problem.x.shape[1:])
            for k, s in zip(problem.key, state.step.tolist(), strict=True)
        ]
        u = torch.cat(draws)
        corner = torch.where(u < 0.1, problem.region.maximiser(u - 0.05), best)
        fresh = problem.region.project(corner)
        return self.State(fresh, best, torch.maximum(answer.loss, state.loss), state.step + 1)

    def finished(self, state):
        return state.step >= self.queries

    def length(self, problem):
        return self.queries


@final
@dataclass(frozen=True)
class Shrink(Attack):
    """Sketch of a solver that keeps searching after success: DDN's rule, the radius shrinks on success and grows on
    failure (Rony et al. 2019)."""

    steps: int = 60
    goal: ClassVar[Nearest] = Nearest()

    @dataclass(frozen=True)
    class State:
        delta: torch.Tensor
        share: torch.Tensor
        step: torch.Tensor

    def init(self, problem):
        start = torch.zeros_like(problem.x) if problem.start is None else problem.start
        return self.State(start, torch.ones_like(problem.logits[:, 0]), torch.zeros_like(problem.y))

    def ask(self, problem, state):
        return state.delta

    def objective(self, problem, state, logits):
        return -sp.losses.margin(logits, problem.y)

    def tell(self, problem, state, answer):
        share = torch.where(answer.adversarial, state.share * 0.95, (state.share * 1.05).clamp(max=1.0))
        if answer.gradient is None:
            return self.State(state.delta, share, state.step + 1)
        region = problem.region
        ball = replace(region.ball, eps=region.ball.eps * share)
        step = region.ascent(answer.gradient, state.delta, 0.3 * ball.eps)
        return self.State(ball.at(problem.x).project(state.delta + step), share, state.step + 1)

    def finished(self, state):
        return state.step > self.steps

    def length(self, problem):
        return self.steps + 1


@pytest.mark.parametrize(
    "law", [law for law in ATTACK_LAWS if law not in ("solves_linear_classifiers", "never_worse_than_its_start")]
)
def test_the_protocol_fits_an_attack_of_least_norm(law):  # the one without gradients is in docs/attacks.md
    ATTACK_LAWS[law](Shrink(), sp.Linf(0.1))


def test_a_solver_without_gradients_costs_no_backward(case):
    classifier, x, y = case
    result = sp.attack(classifier, x, y, sp.Linf(0.2), RandomCorners(), batch_size=4)
    assert result.success.any()
    assert result.backwards.sum() == 0


def test_a_nearest_point_is_searched_for_after_success():
    classifier, x = toys.random_linear(), toys.pixels(6)
    y = classifier.predict(x).label
    ball = sp.L2(3.0)
    result = sp.attack(classifier, x, y, ball, Shrink(steps=150), box=None, batch_size=4)
    gap = classifier.module[1].weight.detach()
    gap = (gap[0] - gap[1]).norm()
    logits = classifier.predict(x).logits
    distance = (logits[:, 0] - logits[:, 1]).abs() / gap
    assert result.success.all()
    assert torch.allclose(result.norm.float(), distance, rtol=0.15)
    assert result.steps.tolist() == [150] * 6
    assert isinstance(Shrink.goal, Nearest)
    assert not isinstance(Shrink.goal, Fool)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Bisection(Attack):
    """Halves the way between the clean image and a far point on which the label has changed."""

    goal: ClassVar = Nearest()
    access: ClassVar = Access.DECISION
    steps: int = 40

    def init(self, problem):
        return torch.zeros_like(problem.logits[:, 0]), torch.ones_like(problem.logits[:, 0]), problem.y * 0

    def ask(self, problem, state):
        low, high, step = state
        share = torch.where(step == 0, 1, (low + high) / 2)
        return problem.region.project(share[:, None, None, None] * (0.5 - problem.x))

    def tell(self, problem, state, answer):
        low, high, step = state
        middle = torch.where(step == 0, 1, (low + high) / 2)
        return (
            torch.where(answer.adversarial, low, middle),
            torch.where(answer.adversarial, middle, high),
            step + 1,
        )

    def finished(self, state):
        return state[2] > self.steps

    def length(self, problem):
        return self.steps + 1

    def objective(self, problem, state, logits):
        return torch.zeros_like(logits[:, 0])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_more_bisection_never_loses_a_success(precision, case):
    classifier, x, y = case
    found = [
        sp.attack(classifier, x, y, sp.L2(100.0), Bisection(steps=steps), precision=precision).success
        for steps in (1, 10, 40)
    ]
    assert bool(found[0].any())
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    ("attack", "name", "value"),
    [
        (sp.PGD(), "steps", 2.5),
        (sp.PGD(), "steps", "5"),
        (sp.PGD(), "restarts", 1.5),
        (sp.PGD(), "sparsity", 7.0),
        (sp.APGD(), "rho", 0),
        (sp.Sweep(), "first", True),
        (sp.APGD(), "rho", 9),
        (sp.Square(), "p_init", 1.5),
        (sp.FAB(), "beta", 2),
        (sp.FAB(), "eta", 0.5),
        (sp.MIFGSM(), "decay", -1),
        (sp.PGD(), "step_size", math.inf),
        (sp.PGD(), "sparsity", "a"),
    ],
)
def test_settings_of_attacks_are_checked(attack, name, value):
    wrong = copy.copy(attack)
    object.__setattr__(wrong, name, value)
    with pytest.raises(sp.InputError, match=f"got {name}=.*; expected a"):
        wrong.__post_init__()


def test_losses_are_named_when_an_attack_is_made():
    with pytest.raises(sp.InputError, match="unknown loss 'hinge': expected one of cross-entropy"):
        inspect.unwrap(sp.FGSM.__init__)(sp.FGSM.__new__(sp.FGSM), loss="hinge")


@pytest.mark.slow
def test_cascades_of_different_goals_lose_no_adversarial_point(case):
    classifier, x, y = case
    ball = sp.Linf(0.3)
    alone = sp.attack(classifier, x, y, ball, Shrink(), batch_size=4)
    assert alone.success.all()
    for stop in ("fooled", "never"):
        suite = [sp.PGD(steps=1, travel=0.01), Shrink()]
        result = sp.attack(classifier, x, y, ball, suite, batch_size=4, stop=stop)
        assert result.success.all()
    assert torch.equal(result.norm, alone.norm)
    turned = sp.attack(classifier, x, y, ball, [Shrink(), sp.PGD(steps=1, travel=0.01)], batch_size=4)
    assert turned.success.all()
