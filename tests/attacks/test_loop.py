"""The loop: plan order, counting, budgets, precision, streams; and two solvers that show the protocol to fit."""

import copy
import inspect
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar, final

import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint import random
from saddlepoint.attacks import Access, Attack, Fool, Input, Nearest, Run, Setting, run_attack
from saddlepoint.classifier.forms import Form
from saddlepoint.testing import ATTACK_LAWS, toys


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


@final
@dataclass(frozen=True)
class Scripted(Attack):
    """Each restart wins after a number of queries written in a script, or never: what counts is the plan's order."""

    script: tuple[int, ...]
    queries: int = 6
    access: ClassVar[Access] = Access.SCORES

    @dataclass(frozen=True)
    class State:
        step: torch.Tensor
        wins: torch.Tensor

    def runs(self, logits, y):
        return tuple(Run(restart) for restart in range(len(self.script)))

    def init(self, problem):
        keys = {random.key(0, row, "Scripted", r, None): n for row in range(20) for r, n in enumerate(self.script)}
        wins = torch.tensor([keys[key] for key in problem.key.tolist()])
        return self.State(torch.zeros_like(problem.y), wins)

    def ask(self, problem, state):
        hit = (state.step == state.wins).reshape(-1, 1, 1, 1)
        return torch.where(hit, 1 - problem.x - problem.x, torch.zeros_like(problem.x))

    def objective(self, problem, state, logits):
        return logits[:, 0]

    def tell(self, problem, state, answer):
        return replace(state, step=state.step + 1)

    def finished(self, state):
        return state.step >= self.queries

    def length(self, problem):
        return self.queries


def _mirror(rows):
    """A linear classifier that changes its mind when x becomes 1 − x, and pixels on one side of it."""
    classifier = toys.linear(torch.cat([torch.ones(1, 12), -torch.ones(1, 12)]), torch.tensor([-6.0, 6.0]))
    return classifier, 0.5 + toys.pixels(rows, (3, 2, 2)) / 4, torch.zeros(rows, dtype=torch.int64)


@pytest.mark.parametrize("batch", [1, 2, 5, 8])
@pytest.mark.parametrize(
    ("script", "winner", "queries"),
    [((9, 2, 0), 1, 6 + 3), ((4, 0), 0, 5), ((9, 9), None, 12), ((9, 9, 5, 0), 2, 18), ((0, 0), 0, 1)],
)
def test_runs_count_in_plan_order_whatever_runs_ahead(batch, script, winner, queries):
    classifier, x, y = _mirror(5)
    result = sp.attack(classifier, x, y, sp.Linf(1.0), Scripted(script), batch_size=batch)
    assert result.forwards.tolist() == [queries + 2] * 5
    assert result.success.tolist() == [winner is not None] * 5
    if winner is not None:
        assert result.restart == [winner] * 5


def test_what_runs_ahead_is_counted_apart():
    classifier, x, y = _mirror(1)
    result = sp.attack(classifier, x, y, sp.Linf(1.0), Scripted((3, 9, 9)), batch_size=3)
    assert result.forwards.item() == 4 + 2
    assert result.speculative.item() == 8
    alone = sp.attack(classifier, x, y, sp.Linf(1.0), Scripted((3, 9, 9)), batch_size=1)
    assert alone.speculative.item() == 0


def test_the_second_of_two_equal_attacks_starts_elsewhere(case):
    classifier, x, y = case
    solver, ball = sp.PGD(steps=3), sp.Linf(0.1)
    once = sp.attack(classifier, x, y, ball, solver, batch_size=4, stop="never")
    twice = sp.attack(classifier, x, y, ball, [solver, solver], batch_size=4, stop="never")
    assert (twice.margin <= once.margin).all()
    assert (twice.margin < once.margin).any()
    assert "PGD#2" in twice.attack


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("suite", [[sp.PGD(steps=20, restarts=2)], [sp.FGSM(), sp.PGD(steps=5), sp.PGD(restarts=10)]])
@pytest.mark.parametrize("budget", [3, 7, 20, 50, 1000])
def test_a_budget_of_passes_is_kept(case, budget, suite, precision):
    classifier, x, y = case
    for eps in (1e-4, 0.03):
        ball = sp.Linf(eps)
        result = sp.attack(classifier, x, y, ball, suite, batch_size=4, budget=budget, precision=precision)
        search = result.forwards - 2 + result.backwards
        assert (search <= budget).all()
        assert (search[~result.success] >= 2).all()
    assert sp.attack(classifier, x, y, sp.Linf(1e-4), suite, batch_size=4, budget=10**6).backwards.min() > 20


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


@pytest.mark.parametrize("solver", [sp.PGD(steps=5), sp.SGD(steps=5, lr=0.1)])
@pytest.mark.parametrize("around", [torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_what_the_caller_has_switched_on_changes_nothing(case, around, solver):
    classifier, x, y = case
    plain = sp.attack(classifier, x, y, sp.Linf(0.05), solver, batch_size=4)
    with around():
        inside = sp.attack(classifier, x.clone().requires_grad_(), y, sp.Linf(0.05), solver, batch_size=4)
    assert torch.equal(plain.x_adv, inside.x_adv)
    assert torch.equal(plain.margin, inside.margin)
    assert not inside.x_adv.requires_grad


def test_an_observer_may_predict_during_a_search_in_low_precision(case):
    classifier, x, y = case
    seen, expected = [], classifier.predict(x).logits

    def look(_):
        seen.append(torch.equal(classifier.predict(x).logits, expected))

    options = {"batch_size": 4, "precision": "bf16"}
    watched = sp.attack(classifier, x, y, sp.Linf(0.05), sp.PGD(steps=5), observe=look, **options)
    assert seen
    assert all(seen)
    alone = sp.attack(classifier, x, y, sp.Linf(0.05), sp.PGD(steps=5), **options)
    assert torch.equal(watched.x_adv, alone.x_adv)


def test_a_start_is_used_by_whichever_stage_the_budget_pays_for(case):
    classifier, x, y = case
    start, solver = torch.zeros_like(x), sp.PGD(steps=3)
    for precision in ("fp32", "bf16"):
        result = sp.attack(
            classifier, x, y, sp.Linf(1e-4), solver, start=start, budget=3, precision=precision, batch_size=4
        )
        assert (result.norm == 0).all()


def test_inference_mode_is_refused(case):
    classifier, x, y = case
    with torch.inference_mode(), pytest.raises(sp.InputError, match="inside torch.inference_mode"):
        sp.attack(classifier, x, y, sp.Linf(0.05), sp.PGD(steps=5))


class Viewing(nn.Module):
    """Relies on contiguous activations, as many a tutorial's network does."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Linear(8 * 30, 4)

    def forward(self, x):
        return self.last(self.second(self.first(x).relu()).relu().view(len(x), -1))


class Attending(nn.Module):
    """A patch-wise transformer: its attention takes another path when nothing is differentiated."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(3, 8), nn.Linear(8, 4)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.head(self.block(self.embed(x.flatten(2).transpose(1, 2))).mean(1))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", [Viewing, Attending])
def test_other_architectures_give_the_same_rows_always(kind, precision):
    torch.manual_seed(0)
    classifier, x = sp.Classifier(kind().eval()), toys.pixels(24, (3, 6, 5))
    y = classifier.predict(x).label
    solver, options = sp.PGD(steps=6, restarts=2), {"batch_size": 4, "precision": precision}
    whole = sp.attack(classifier, x, y, sp.Linf(0.1), solver, ids=range(24), **options)
    assert whole.success.any()
    for row in range(24):
        alone = sp.attack(classifier, x[[row]], y[[row]], sp.Linf(0.1), solver, ids=[row], **options)
        assert torch.equal(alone.x_adv[0], whole.x_adv[row])
        assert alone.margin[0] == whole.margin[row]


def test_bf16_names_the_restart_that_found_the_point(case):
    classifier, x, y = case
    solver = sp.PGD(steps=12, restarts=4)
    low = sp.attack(classifier, x, y, sp.Linf(0.02), solver, batch_size=4, precision="bf16", stop="never")
    assert set(low.restart) > {0}


class Detached(nn.Module):
    def forward(self, x):
        return x.detach().flatten(1)[:, :4]


def test_a_model_without_gradient_is_named():
    x = toys.pixels(2, (3, 6, 5))
    classifier = sp.Classifier(Detached())
    with pytest.raises(sp.ModelError, match="no gradient reaches the pixels"):
        sp.attack(classifier, x, classifier.predict(x).label, sp.Linf(0.1), sp.PGD(steps=1))


def test_a_cascade_attacks_survivors_only(case):
    classifier, x, y = case
    ball = sp.Linf(0.03)
    weak, strong = sp.FGSM(), sp.PGD(steps=40, travel=8)
    first = sp.attack(classifier, x, y, ball, weak, batch_size=4)
    both = sp.attack(classifier, x, y, ball, [weak, strong], batch_size=4)
    assert first.success.any()
    assert not first.success.all()
    assert torch.equal(both.x_adv[first.success], first.x_adv[first.success])
    assert [name for name, hit in zip(both.attack, first.success.tolist(), strict=True) if hit] == ["FGSM"] * int(
        first.success.sum()
    )
    assert (both.margin <= first.margin).all()
    assert (both.backwards[~first.success] > 1).all()


class Coarse(nn.Module):
    """Tells a success in low precision that float32 refutes, as rounding may: autocast moves its decision."""

    def __init__(self, shift):
        super().__init__()
        self.layer, self.shift = nn.Linear(12, 2), shift
        self.layer.load_state_dict(
            {"weight": torch.stack([torch.ones(12), -torch.ones(12)]), "bias": torch.tensor([-6.0, 6.0])}
        )

    def forward(self, x):
        logits = self.layer(x.flatten(1))
        low = torch.is_autocast_enabled("cpu")
        return logits + torch.tensor([self.shift, 0.0]) if low else logits


def test_a_claim_of_low_precision_is_confirmed_before_it_counts():
    _, x, y = _mirror(6)
    lying = sp.Classifier(Coarse(-100.0))
    result = sp.attack(lying, x, y, sp.Linf(1e-4), sp.PGD(steps=5), precision="bf16", batch_size=4)
    assert not result.success.any()
    assert (result.margin > 0).all()


def test_low_precision_never_is_a_masked_gradient():
    _, x, y = _mirror(6)
    blind = sp.Classifier(Coarse(+1e6))
    solver = sp.PGD(steps=40, travel=20)
    result = sp.attack(blind, x, y, sp.Linf(0.5), solver, precision="bf16", batch_size=4)
    assert result.success.all()
    assert (result.forwards > 1 + 41 + 1).all()


def test_bf16_finds_what_float32_finds(case):
    classifier, x, y = case
    for ball in (sp.Linf(0.1), sp.L2(0.5), sp.L1(3.0)):
        exact = sp.attack(classifier, x, y, ball, sp.PGD(steps=30), batch_size=4)
        low = sp.attack(classifier, x, y, ball, sp.PGD(steps=30), batch_size=4, precision="bf16")
        assert (low.success | ~exact.success).all()  # low precision never acts as a masked gradient
        assert (ball.norm(low.x_adv.double() - x.double()) <= ball.eps).all()


def test_rows_of_bf16_are_the_same_in_any_order(case):
    classifier, x, y = case
    solver, ball, order = sp.PGD(steps=12, restarts=2), sp.Linf(0.05), [5, 0, 3, 8, 1, 2, 7, 4, 6]
    options = {"precision": "bf16", "batch_size": 4}
    one = sp.attack(classifier, x, y, ball, solver, ids=range(9), **options)
    two = sp.attack(classifier, x[order], y[order], ball, solver, ids=order, **options)
    assert torch.equal(one.x_adv[order], two.x_adv)
    assert torch.equal(one.forwards[order], two.forwards)


def test_inputs_stream_through_bounded_memory(case):
    classifier, x, y = case
    pulled, delivered, ahead = 0, 0, []

    def stream():
        nonlocal pulled
        for index in range(200):
            pulled += 1
            yield Input(index, index, x[index % 9], int(y[index % 9]), 0.05)

    setting = Setting(ball=sp.Linf(0.05), box=(0.0, 1.0), batch=4, device=torch.device("cpu"))
    for _ in run_attack(classifier, stream(), [sp.PGD(steps=5, restarts=2)], setting):
        delivered += 1
        ahead.append(pulled - delivered)
    assert delivered == 200
    assert max(ahead) <= 4 * 4


def test_an_abandoned_stream_restores_the_model(case):
    classifier, x, y = case
    inputs = [Input(i, i, x[i], int(y[i]), 0.05) for i in range(9)]
    setting = Setting(ball=sp.Linf(0.05), box=(0.0, 1.0), batch=4, device=torch.device("cpu"))
    rows = run_attack(classifier, inputs, [sp.PGD(steps=5)], setting)
    next(rows)
    assert not classifier.module.training
    rows.close()
    assert classifier.module.training


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


@pytest.mark.parametrize("law", [law for law in ATTACK_LAWS if law not in ("solves_linear_classifiers",)])
@pytest.mark.parametrize("attack", [RandomCorners(), Shrink()], ids=lambda attack: attack.name)
def test_the_protocol_fits_other_solvers(attack, law):
    if (attack.name, law) == ("Shrink", "never_worse_than_its_start"):
        pytest.skip("a minimum-norm attack keeps the nearest point, not the one of least margin")
    ATTACK_LAWS[law](attack, sp.Linf(0.1))


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


class Clamps(nn.Module):
    """Works in place on what it is given."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x.clamp_(0.2, 0.8))


def test_a_module_that_works_in_place_changes_no_point(case):
    classifier, x, y = case
    inplace, before = sp.Classifier(Clamps(classifier)), x.clone()
    assert torch.equal(inplace.predict(x).label, inplace.predict(before.clone()).label)
    result = sp.attack(inplace, x, y, sp.Linf(2 / 255), sp.PGD(steps=3), stop="never")
    assert torch.equal(x, before)
    assert bool(((result.x_adv - before).abs().double() <= 2 / 255 + 1e-7).all())


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


def test_attacks_without_a_polish_search_in_float32(case):
    classifier, x, y = case
    for attack, steps in ((sp.SGD(steps=6), 6), (sp.FGSM(), 1)):
        result = sp.attack(classifier, x, y, sp.Linf(1 / 255), attack, precision="bf16", stop="never")
        assert result.steps.tolist() == [steps] * len(x)


def test_a_stream_leaves_its_callers_random_numbers_alone(case):
    classifier, x, y = case
    inputs = [Input(i, i, x[i], int(y[i]), 0.01) for i in range(len(x))]
    setting = Setting(sp.Linf(0.01), (0.0, 1.0), batch=2, device=torch.device("cpu"))
    torch.manual_seed(0)
    alone = [torch.rand(1).item() for _ in range(len(x) + 2)]
    torch.manual_seed(0)
    drawn = [torch.rand(1).item() for _ in run_attack(classifier, inputs, [sp.PGD(steps=2)], setting)]
    assert [*drawn, torch.rand(1).item(), torch.rand(1).item()] == alone


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
