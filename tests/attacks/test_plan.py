"""Runs count in planned order; budgets are kept; a cascade attacks survivors only."""

from dataclasses import dataclass, replace
from typing import ClassVar, final

import pytest
import torch

import saddlepoint as sp
from attacks.specimens import mirror
from saddlepoint import random
from saddlepoint.attacks import Access, Attack, Run
from saddlepoint.testing import toys


@pytest.fixture
def case():
    classifier, x = toys.convolutional(), toys.pixels(9, (3, 6, 5))
    return classifier, x, classifier.predict(x).label


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


@pytest.mark.parametrize("batch", [1, 2, 5, 8])
@pytest.mark.parametrize(
    ("script", "winner", "queries"),
    [((9, 2, 0), 1, 6 + 3), ((4, 0), 0, 5), ((9, 9), None, 12), ((9, 9, 5, 0), 2, 18), ((0, 0), 0, 1)],
)
def test_runs_count_in_plan_order_whatever_runs_ahead(batch, script, winner, queries):
    classifier, x, y = mirror(5)
    result = sp.attack(classifier, x, y, sp.Linf(1.0), Scripted(script), batch_size=batch)
    assert result.forwards.tolist() == [queries + 2] * 5
    assert result.success.tolist() == [winner is not None] * 5
    if winner is not None:
        assert result.restart == [winner] * 5


def test_what_runs_ahead_is_counted_apart():
    classifier, x, y = mirror(1)
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
@pytest.mark.parametrize("suite", [[sp.PGD(steps=20, restarts=2)], [sp.FGSM(), sp.PGD(steps=5), sp.PGD(restarts=3)]])
@pytest.mark.parametrize("budget", [3, 50, *(pytest.param(n, marks=pytest.mark.slow) for n in (7, 20, 1000))])
def test_a_budget_of_passes_is_kept(case, budget, suite, precision):
    classifier, x, y = case
    for eps in (1e-4, 0.03):
        ball = sp.Linf(eps)
        result = sp.attack(classifier, x, y, ball, suite, batch_size=4, budget=budget, precision=precision)
        search = result.forwards - 2 + result.backwards
        assert (search <= budget).all()
        assert (search[~result.success] >= 2).all()


@pytest.mark.slow
def test_a_budget_beyond_need_restricts_nothing(case):
    classifier, x, y = case
    suite = [sp.FGSM(), sp.PGD(steps=5), sp.PGD(restarts=2)]
    free, bound = (
        sp.attack(classifier, x, y, sp.Linf(1e-4), suite, batch_size=4, budget=budget) for budget in (None, 10**6)
    )
    assert torch.equal(free.backwards, bound.backwards)
    assert free.backwards.min() > 20


def test_a_start_is_used_by_whichever_stage_the_budget_pays_for(case):
    classifier, x, y = case
    start, solver = torch.zeros_like(x), sp.PGD(steps=3)
    for precision in ("fp32", "bf16"):
        result = sp.attack(
            classifier, x, y, sp.Linf(1e-4), solver, start=start, budget=3, precision=precision, batch_size=4
        )
        assert (result.norm == 0).all()


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
