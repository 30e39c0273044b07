"""Square: its schedule, its windows, its bumps, and the traces of the authors' code."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import saddlepoint as sp
from saddlepoint import random
from saddlepoint.attacks.engine.batch import Slots
from saddlepoint.attacks.engine.lookahead import assign
from saddlepoint.attacks.refinement import refinement
from saddlepoint.attacks.square import patterns, proposals, schedule
from saddlepoint.errors import InputError
from saddlepoint.testing import toys

BALLS = [sp.Linf(0.05), sp.L2(0.5), sp.L1(2.0)]
GOLDEN = json.loads((Path(__file__).parent / "golden" / "square.json").read_text())


def _signs(text, *shape):
    return torch.tensor([1.0 if sign == "+" else -1.0 for sign in text]).reshape(shape)


def _turned(text):
    return torch.tensor([turned == "1" for turned in text])


def _drawn(proposal):
    """Return the draw of both rows, which share all but the signs in ℓ2 and ℓ1."""
    top, left, second_top, second_left = (torch.full((2,), int(digit, 16)) for digit in proposal[:4])
    return schedule.Draw(
        torch.stack([top, left], 1),
        torch.stack([second_top, second_left], 1),
        _turned(proposal[4] * 2),
        _signs(proposal[5:], 2, 3),
    )


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["ball"])
def test_accepted_margins_are_those_of_the_authors_code(case, monkeypatch):
    classifier, x = toys.convolutional(), toys.pixels(2, tuple(GOLDEN["shape"]))
    y, ball, queries = classifier.predict(x).label, getattr(sp, case["ball"])(case["eps"]), GOLDEN["queries"]
    made, region = case["proposals"], ball.at(x)
    if case["ball"] == "Linf":
        start = proposals.stripes(region, _signs(case["start"]["signs"], 2, 3, 1, 15))
    else:
        turned = _turned(case["start"]["turned"]).expand(2, -1)
        start = proposals.tiles(region, turned, _signs(case["start"]["signs"], 2, 3, len(turned[0])))

    def draw(words, proposal, side, shape, dtype):
        return _drawn(made[min(int(proposal[0]), queries) - 1])

    monkeypatch.setattr(schedule, "draw", draw)
    monkeypatch.setattr(proposals, "repaint", proposals.paint)  # the authors' code tries proposals that change nothing
    seen = []
    solver = sp.Square(queries=queries, rescale=True)
    result = sp.attack(classifier, x, y, ball, solver, start=start, stop="never", observe=lambda p: seen.append(p.loss))
    best = -torch.cummax(torch.stack(seen), 0).values
    for query, margins in case["margins"].items():
        assert best[int(query)].tolist() == pytest.approx(margins, abs=2e-5)
    assert result.margin.tolist() == pytest.approx(case["margins"][str(queries)], abs=2e-5)


def test_windows_shrink_as_in_the_paper():
    assert schedule.sides_of(0.8, 32, 32, math.inf) == (29, 20, 14, 10, 7, 5, 4, 3, 2, 1)
    assert schedule.sides_of(0.8, 32, 32, 2.0) == (29, 21, 15, 11, 7, 5, 5, 3, 3, 3)
    assert schedule.sides_of(0.8, 20, 40, math.inf)[:3] == (20, 18, 13)
    assert schedule.sides_of(0.8, 1, 1, 1.0) == (1,) * 10
    places = torch.tensor([1, 11, 12, 51, 52, 201, 202, 501, 502, 1002, 2002, 4002, 5000, 6002, 8002, 99999])
    assert schedule.level(places).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 7, 8, 9, 9]
    assert schedule.level(torch.tensor([1, 2, 3, 6, 7, 21, 22]), 1000).tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_windows_are_uniform_over_all_places_and_the_same_in_any_company():
    keys, proposal, side = torch.arange(4000) * 7919, torch.arange(4000) % 50, torch.full((4000,), 2)
    words = schedule.draws(keys, proposal - proposal % schedule.AHEAD, 3)
    drawn = schedule.draw(words, proposal, side, (3, 4, 6), torch.float32)
    for corner in (drawn.first, drawn.second):
        assert corner[:, 0].bincount().tolist() == pytest.approx([4000 / 3] * 3, rel=0.1)
        assert corner[:, 1].bincount().tolist() == pytest.approx([800] * 5, rel=0.15)
    assert drawn.signs.mean(0).abs().max() < 0.06
    alone = schedule.draw(words[9:10], proposal[9:10], side[9:10], (3, 4, 6), torch.float32)
    assert torch.equal(alone.first, drawn.first[9:10])
    assert torch.equal(alone.signs, drawn.signs[9:10])
    assert torch.equal(words[40, 8], random.bits(keys[40:41], proposal[40:41], 8)[0])
    mask = schedule.window(drawn.first, side, 4, 6)
    assert mask.flatten(1).sum(1).eq(4).all()


@pytest.mark.parametrize("norm", [1.0, 2.0])
@pytest.mark.parametrize("side", [1, 2, 3, 6, 29])
def test_a_bump_is_two_hills_of_opposite_sign(side, norm):
    eta = patterns.bump(side, norm)
    assert torch.linalg.vector_norm(eta, norm).item() == pytest.approx(1)
    assert (eta[: side // 2] > 0).all()
    assert (eta[side // 2 :] < 0).all()
    assert torch.allclose(
        patterns.hill(3, 3, 2.0) / patterns.hill(3, 3, 2.0)[0, 0], 1 + 4 * (torch.arange(9) == 4).view(3, 3).double()
    )


def test_a_placed_bump_is_the_bump_at_its_place():
    table = patterns.bumps((5, 3), 2.0, torch.device("cpu"), torch.float64)
    corners, turned = torch.tensor([[0, 2], [3, 1], [0, 3]]), torch.tensor([False, True, True])
    placed = patterns.place(table, torch.tensor([0, 1, 0]), corners, turned, 6, 8)
    assert torch.equal(placed[0, 0, :5, 2:7], patterns.bump(5, 2.0))
    assert torch.equal(placed[1, 0, 3:6, 1:4], patterns.bump(3, 2.0).T)
    assert torch.equal(placed[2, 0, :5, 3:8], patterns.bump(5, 2.0).T)
    assert (placed != 0).flatten(1).sum(1).tolist() == [25, 9, 25]


def test_painting_what_is_there_takes_the_opposite_colours():
    region = sp.Linf(0.1).at(torch.full((2, 1, 3, 3), 0.5))
    mask, signs = torch.ones(2, 1, 3, 3), torch.tensor([[1.0], [-1.0]])
    there = proposals.paint(region, torch.zeros(2, 1, 3, 3), mask, torch.ones(2, 1))
    assert torch.allclose(proposals.repaint(region, there, mask, signs), -there)


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.name)
@pytest.mark.parametrize(("shape", "classes"), [((3, 9, 5), 4), ((1, 4, 11), 2), ((4, 6, 6), 3), ((3, 1, 1), 4)])
def test_any_shape_of_image(ball, shape, classes):
    classifier, x = toys.convolutional(classes, shape[0]), toys.pixels(3, shape)
    y, seen = classifier.predict(x).label, []
    result = sp.attack(
        classifier, x, y, ball, sp.Square(queries=12), stop="never", observe=lambda p: seen.append(p.loss)
    )
    losses = torch.stack(seen)
    assert len(losses) == 13
    assert torch.allclose(-result.margin, losses.amax(0), atol=1e-5)
    assert (ball.norm(result.x_adv.double() - x.double()) <= ball.eps).all()


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.name)
def test_every_proposal_is_inside_and_no_worse_point_is_kept(ball):
    classifier, x = toys.convolutional(), toys.pixels(4, (3, 8, 7))
    classifier, y, region = classifier.eval(), classifier.predict(x).label, ball.at(x)
    logits = classifier(x).detach()
    problem = sp.attacks.Problem(x, y, None, region, logits, torch.arange(4))
    solver = sp.Square(queries=40, rescale=True)
    states = [solver.init(problem)]
    for _ in range(41):
        delta = solver.ask(problem, states[-1])
        assert region.contains(delta).all()
        logits = classifier(x + delta).detach()
        loss = solver.objective(problem, states[-1], logits)
        answer = sp.attacks.Answer(delta, logits.argmax(1), logits.argmax(1) != y, logits, loss, None)
        states.append(solver.tell(problem, states[-1], answer))
    assert solver.finished(states[-1]).all()
    assert not solver.finished(states[-2]).any()
    assert all((after.loss >= before.loss).all() for before, after in pairwise(states))
    assert not torch.equal(states[-1].best[0] != 0, states[-1].best[1] != 0) or ball.p == math.inf


def test_it_ends_at_success_and_counts_queries():
    classifier, x = toys.convolutional(), toys.pixels(6, (3, 8, 7))
    y = classifier.predict(x).label
    result = sp.attack(classifier, x, y, sp.Linf(0.5), sp.Square(queries=50))
    assert result.success.any()
    assert (result.steps[result.success] < 50).all()
    assert (result.backwards == 0).all()
    held = sp.attack(classifier, x, y, sp.Linf(1e-4), sp.Square(queries=7, restarts=2))
    assert held.steps.tolist() == [14] * 6


def test_settings_that_cannot_be_are_refused():
    for wrong in ({"queries": 0}, {"p_init": 0.0}, {"restarts": 0}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))}=0"):
            sp.Square(**wrong)


def test_the_float32_steps_after_low_precision_go_on_with_small_windows():
    assert refinement(sp.Square()) == sp.Square(queries=500, p_init=0.8 / 128)


@pytest.fixture
def calls(monkeypatch):
    """Count the calls of the model in a search."""
    made, advance = [], Slots._advance
    monkeypatch.setattr(Slots, "_advance", lambda slots: made.append(1) or advance(slots))
    return made


def both(calls, *given, **options):
    """Return how many calls a search takes that looks ahead, and one that does not; their rows must be the same."""
    made, results = [], []
    for observed in ({}, {"observe": lambda progress: None}):
        calls.clear()
        results.append(sp.attack(*given, batch_size=16, **options, **observed))
        made.append(len(calls))
    ahead, plain = results
    for column in ("x_adv", "success", "margin", "steps", "forwards", "backwards"):
        assert torch.equal(getattr(ahead, column), getattr(plain, column))
    assert ahead.attack == plain.attack
    return made


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.name)
@pytest.mark.parametrize("live", [1, 5])
def test_idle_rows_look_ahead_and_change_nothing(ball, live, calls):
    classifier, x = toys.convolutional(), toys.pixels(live, (3, 8, 7))
    solver = sp.Square(queries=100, p_init=0.3, restarts=2)
    ahead, plain = both(calls, classifier, x, classifier.predict(x).label, ball, solver)
    assert ahead < 0.75 * plain


@pytest.mark.parametrize("eps", [0.01, 0.05])
@pytest.mark.parametrize("stop", ["fooled", "never"])
def test_a_point_that_the_loss_refuses_may_be_kept_for_its_margin(eps, stop, calls):
    for seed in range(4):
        classifier, x = toys.convolutional(), toys.pixels(3, (3, 8, 7), seed=seed)
        y, solver = classifier.predict(x).label, sp.Square(queries=60, loss="cross-entropy")
        both(calls, classifier, x, y, sp.Linf(eps), solver, stop=stop)


@pytest.mark.parametrize("seed", range(8))
def test_what_follows_a_refuted_claim_forgets_it(seed, calls):
    classifier, x = toys.convolutional(), toys.pixels(3, (3, 8, 7), seed=seed)
    y = classifier.predict(x).label
    for eps in (0.003, 0.006, 0.01):
        both(calls, classifier, x, y, sp.Linf(eps), sp.Square(queries=120), precision="bf16")


def test_none_looks_ahead_where_a_pass_counts_or_a_draw_does(calls):
    classifier, x = toys.convolutional(), toys.pixels(2, (3, 8, 7))
    y = classifier.predict(x).label
    for solver, options in ((sp.Square(queries=40), {"budget": 30}), (sp.EOT(sp.Square(queries=20), draws=2), {})):
        ahead, plain = both(calls, classifier, x, y, sp.Linf(1e-4), solver, **options)
        assert ahead == plain


def test_a_number_that_is_none_is_met_at_the_same_step_ahead_or_not():
    class Rare(torch.nn.Module):
        def forward(self, z):
            return torch.where(((z.abs().sum(1) * 1e4) % 1 < 0.02)[:, None], torch.nan, z)

    inner, x = toys.convolutional(), toys.pixels(1, (3, 8, 7))
    y, said = inner.predict(x).label, []
    for options in ({}, {"observe": lambda progress: None}):
        classifier = sp.Classifier(torch.nn.Sequential(inner, Rare()))
        with pytest.raises(sp.ModelError, match=r"at step \d+ on example") as error:
            sp.attack(classifier, x, y, sp.Linf(0.01), sp.Square(queries=500), batch_size=16, **options)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_a_refused_answer_leads_one_ahead():
    classifier, x = toys.convolutional(), toys.pixels(4, (3, 8, 7))
    y, solver, region = classifier.predict(x).label, sp.Square(), sp.Linf(0.05).at(x)
    logits = classifier.predict(x).logits
    problem = sp.attacks.Problem(x, y, None, region, logits, torch.arange(4))
    first = solver.init(problem)

    def told(state, loss):
        delta = solver.ask(problem, state)
        return solver.tell(problem, state, sp.attacks.Answer(delta, y, y < 0, logits, torch.full((4,), loss), None))

    state = told(first, 0.0)
    for by in (1, 31, 40):
        walked = state
        for _ in range(by):
            walked = told(walked, -1.0)
        jumped = solver.skip(problem, state, torch.full((4,), by))
        assert torch.equal(jumped.draws, walked.draws)
        assert torch.equal(solver.ask(problem, jumped), solver.ask(problem, walked))


def test_a_look_ahead_ends_where_something_changes():
    assert assign([2, 5], 7, look_ahead=True, device=torch.device("cpu")).ranks.tolist() == [[2, 0, 3, 6], [5, 1, 4, 4]]
    team = assign([2, 5], 7, look_ahead=True, device=torch.device("cpu"))
    assert team.leader.tolist() == [2, 5, 2, 2, 5, 5, 2]
    assert team.ahead.tolist() == [1, 1, 0, 2, 2, 0, 3]
    never = torch.zeros(7, dtype=torch.bool)
    assert team.furthest(never).tolist() == [6, 4, 6, 6, 4, 4, 6]
    assert team.furthest(never.index_fill(0, torch.tensor([3, 6, 5]), True)).tolist() == [3, 5, 3, 3, 5, 5, 3]
    assert not assign([0, 1, 2, 3], 5, look_ahead=True, device=never.device).deep
    assert not assign([3], 5, look_ahead=False, device=never.device).deep
