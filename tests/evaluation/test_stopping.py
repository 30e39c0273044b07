"""Ending early: what is said of all examples holds whenever one stops, and a clock or a rule chooses none."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom
from torch import nn

import saddlepoint as sp
from saddlepoint.cli.main import main
from saddlepoint.data.datasets.dataset import of_arrays
from saddlepoint.evaluation.job import Job
from saddlepoint.evaluation.session import order
from saddlepoint.evaluation.stopping import Rule, Until
from saddlepoint.results import Bracket, Standing
from saddlepoint.results.records.sequences import planned, sequence

SUITE = (sp.PGD(steps=3),)


@pytest.mark.parametrize("share", [0.45, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.03, 0.9))])
def test_looking_after_each_example_misses_the_truth_no_more_often_than_stated(share):
    whole, alpha, missed, runs = 150, 0.1, 0, 150
    right = round(share * whole)
    random = np.random.default_rng(round(1000 * share))
    for _ in range(runs):
        drawn = random.permutation(np.arange(whole) < right).cumsum()
        ends = (sequence(int(drawn[t - 1]), t, whole, alpha) for t in range(1, whole + 1))
        missed += any(not low <= right <= high for low, high in ends)
    assert missed <= alpha * runs + 3 * (alpha * (1 - alpha) * runs) ** 0.5


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_sequence_is_its_definition_and_ends_in_the_truth(data):
    whole = data.draw(st.integers(1, 60))
    seen = data.draw(st.integers(1, whole))
    right = data.draw(st.integers(0, seen))
    ratio = {n: hypergeom.pmf(right, whole, n, seen) * (seen + 1) / 0.05 for n in range(whole + 1)}
    low, high = sequence(right, seen, whole, 0.05)
    assert all(ratio[n] >= 1 - 1e-9 for n in range(low, high + 1))
    assert all(ratio[n] <= 1 + 1e-9 for n in ratio if not low <= n <= high)
    if seen == whole:
        assert (low, high) == (right, right)
    surely = data.draw(st.integers(0, right))
    assert sequence(right, seen, whole, 0.05, surely)[0] == sequence(surely, seen, whole, 0.05)[0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_planned_look_is_exact_and_narrower(data):
    whole = data.draw(st.integers(5, 60))
    seen = data.draw(st.integers(1, whole))
    n = data.draw(st.integers(0, whole))
    kinds = [k for k in range(seen + 1) if hypergeom.pmf(k, whole, n, seen) > 0]
    missed = 0.0
    for k in kinds:
        low, high = planned(k, seen, whole, 0.1)
        missed += hypergeom.pmf(k, whole, n, seen) * (not low <= n <= high)
    assert missed <= 0.1 + 1e-9
    if seen == whole:
        assert planned(n, whole, whole, 0.1) == (n, n)


def bracket(clean, attacked, examples, certified=0):
    counts = dict.fromkeys(Standing, 0)
    counts |= {
        Standing.MISCLASSIFIED: examples - clean,
        Standing.BROKEN: clean - attacked,
        Standing.CERTIFIED: certified,
        Standing.UNDECIDED: attacked - certified,
    }
    return Bracket("linf", 0.1, examples, counts, {}, bool(certified), True)


def test_five_points_of_ten_thousand_take_less_than_half():
    until = Until(width=0.05)
    assert not until.reached(1000, 10_000, [bracket(950, 450, 1000)])
    assert until.reached(4900, 10_000, [bracket(4655, 2205, 4900)])
    assert Until(width=0.05, looks=5).reached(4000, 10_000, [bracket(3800, 1800, 4000)])
    assert not Until(width=0.05, looks=5).reached(4100, 10_000, [bracket(3900, 1850, 4100)])  # no look was planned


def test_between_planned_looks_nothing_is_concluded_and_several_radii_share_alpha():
    planned_ = Until(looks=5)
    assert planned_.ends(300, 1000, bracket(280, 150, 300))["attacked"] == (0.15, 0.85)
    assert planned_.decided(Rule("attacked", 0.8), 300, 1000, [bracket(280, 150, 300)]) is None
    one, three = (Until().ends(500, 1000, bracket(480, 250, 500), radii)["attacked"] for radii in (1, 3))
    assert three[0] < one[0] < one[1] < three[1]


def test_rules_are_decided_both_ways_and_errors_count_against_what_is_claimed():
    rule, until = Rule("attacked", 0.5), Until()
    assert until.decided(rule, 500, 1000, [bracket(480, 400, 500)]) is True
    assert until.decided(rule, 500, 1000, [bracket(480, 100, 500)]) is False
    assert until.decided(rule, 20, 1000, [bracket(18, 10, 20)]) is None
    assert until.decided(rule, 500, 1000, [bracket(250, 240, 260)]) is None  # 240 of them have errors
    assert until.decided(Rule("attacked", 0.5, 0.2), 500, 1000, [bracket(480, 400, 500)]) is None


@pytest.fixture
def case():
    torch.manual_seed(1)
    layers = (nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))
    classifier = sp.Classifier(nn.Sequential(*layers), name="tiny")
    images = np.random.default_rng(0).random((200, 1, 8, 8), np.float32)
    labels = classifier.predict(torch.from_numpy(images)).label.numpy().copy()
    return classifier, of_arrays("made", "made", images, labels)


def _evaluate(case, **how):
    return sp.evaluate(*case, sp.Linf(0.02), suite=SUITE, certify="none", batch_size=4, checks=False, **how)


def test_what_is_done_is_the_first_of_a_random_order_and_the_rest_can_follow(case, tmp_path):
    part = _evaluate(case, out=tmp_path / "part", until=Until(width=0.3))
    done = {row["index"] for row in part.rows().to_pylist()}
    assert 0 < len(done) < 200
    assert not part.run.finished
    assert part.done.seen == len(done)
    spec = sp.Spec.of({key: value for key, value in part.run.spec.items() if key != "keep"})
    assert set(order(Job(spec, *case), early=True)[: len(done)]) == done
    low, high = part.ends["attacked"]
    assert high - low <= 0.3
    whole = _evaluate(case, out=tmp_path / "whole")
    assert low <= whole.robust_accuracy.attacked / 200 <= high
    assert _evaluate(case, out=tmp_path / "part", until=Until(width=0.3)).done.seen == len(done)  # nothing more
    assert _evaluate(case, out=tmp_path / "part").summary == whole.summary


def test_examples_beyond_the_order_do_not_count(case, tmp_path):
    """An evaluation in the order of the data was stopped; what it found serves, and is not counted before its turn."""
    first = _evaluate(case, out=tmp_path, seconds=0.0)
    assert first.done.seen == 16
    again = _evaluate(case, out=tmp_path, until=Until(width=0.45))
    assert again.done.seen == again.done.brackets[-1].examples
    assert again.rows().num_rows >= again.done.seen


def test_the_command_answers_pass_fail_or_undecided(tmp_path, capsys):
    base = [
        "evaluate",
        "--no-checks",
        "--suite",
        "fgsm",
        "--certify",
        "none",
        "--batch-size",
        "25",
        "--minutes",
        "0",
        "--json",
    ]
    codes = {}
    for rule in ("attacked>=0.05", "attacked>=0.99", "attacked>=0.8"):
        codes[rule] = main([*base, "--require", rule, "--limit", "400", "--out", str(tmp_path / "run")])
        told = json.loads(capsys.readouterr().out)
        assert told["seen"] == 100
        low, high = told["ends"]["attacked"]
        assert low < told["summary"]["threats"][0]["attacked_accuracy"] < high
    assert codes == {"attacked>=0.05": 0, "attacked>=0.99": 1, "attacked>=0.8": 3}
    assert main(["evaluate", "--looks", "5", "--out", str(tmp_path / "x")]) == 2
    assert "expected --width or --minutes, too" in capsys.readouterr().err
