"""Two runs, compared: counts by hand, intervals by an oracle, runs that cannot be compared in one line."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from results.specimens import SPEC, point, record
from saddlepoint.cli.main import main
from saddlepoint.report import report
from saddlepoint.results import RunError, compare, open_run, writing
from saddlepoint.results.records.comparison import mcnemar, tango


def made(folder, fates, **changed):
    spec = {
        **SPEC,
        "kind": "evaluation",
        "model": {"reference": folder.name, "digest": "sha256:0", "names": None, "preprocessing": {}},
        "data": {
            "reference": "made",
            "classes": None,
            "examples": len(fates),
            "limit": None,
            "first": None,
            "ids": "x",
            "shape": None,
            "content": None,
        },
        "certify": [],
        "budget": None,
        "stop": "fooled",
        "points": None,
        "threats": [{"norm": "linf", "eps": 2 / 255, "box": [0.0, 1.0]}],
        "suite": [],
        "batch_size": 8,
        "precision": "fp32",
    }
    with writing(folder, spec, {"started": "now", "device": "cpu", "python": "3", "packages": {}}) as run:
        for index, fate in enumerate(fates):
            run.add(record(index, fate, **changed), None if fate == "error" else point(index))
        run.finish()
    return open_run(folder)


def test_flips_are_counted_pair_by_pair(tmp_path):
    before = ["stands", "stands", "broken", "clean", "stands", "error", "broken"]
    after = ["stands", "broken", "stands", "stands", "broken", "stands", "broken"]
    (found,) = compare(made(tmp_path / "a", before), made(tmp_path / "b", after))
    attacked, clean = found.differences["attacked"], found.differences["clean"]
    assert (attacked.first, attacked.second, attacked.lost, attacked.won, attacked.examples) == (3, 3, 2, 2, 6)
    assert (clean.first, clean.second, clean.lost, clean.won) == (5, 6, 0, 1)
    assert "certified" not in found.differences
    assert {(str(one), str(other)): count for (one, other), count in found.flips.items()} == {
        ("undecided", "undecided"): 1,
        ("undecided", "broken"): 2,
        ("broken", "undecided"): 1,
        ("misclassified", "undecided"): 1,
        ("broken", "broken"): 1,
    }


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_a_sum_of_binomials(lost, won):
    n = lost + won
    each = [math.comb(n, k) / 2**n for k in range(n + 1)]
    due = sum(p for p in each if p <= each[won] * (1 + 1e-7))
    assert mcnemar(lost, won) == pytest.approx(due, abs=1e-9)


def likeliest(won, lost, n, delta):
    """The probability of a loss that explains the flips best, given that gains are more probable by delta."""

    def surprise(q):
        parts = ((won, q + delta), (lost, q), (n - won - lost, 1 - 2 * q - delta))
        return -sum(count * math.log(max(p, 1e-300)) for count, p in parts if count)

    bounds = max(0.0, -delta), (1 - delta) / 2
    return minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x


@settings(max_examples=60)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 60))
def test_the_interval_is_where_the_score_is_small(won, lost, rest):
    n = won + lost + rest
    low, high = tango(won, lost, n, 0.05)
    assert -1 <= low <= (won - lost) / n <= high <= 1
    assert tango(lost, won, n, 0.05) == pytest.approx((-high, -low), abs=1e-7)
    for delta in {low, high} - {-1.0, 1.0}:
        q = likeliest(won, lost, n, delta)
        score = abs(won - lost - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))
        assert score == pytest.approx(1.959964, rel=1e-3)


def test_the_interval_covers():
    random, truth, covered = np.random.default_rng(0), 0.15 - 0.05, 0
    for _ in range(400):
        won, lost, _ = random.multinomial(120, [0.15, 0.05, 0.8])
        low, high = tango(int(won), int(lost), 120, 0.05)
        covered += low <= truth <= high
    assert covered >= 0.92 * 400


def test_the_command_and_the_page_say_what_the_library_says(tmp_path, capsys):
    before, after = ["stands"] * 9 + ["broken"], ["broken"] * 9 + ["stands"]
    first, second = made(tmp_path / "a", before), made(tmp_path / "b", after)
    command = ["compare", str(first.path), str(second.path)]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["comparisons"][0]
    assert (told["attacked"]["lost"], told["attacked"]["won"], told["attacked"]["p"]) == (
        9,
        1,
        pytest.approx(22 / 1024),
    )
    assert main([*command, "--no-worse", "attacked", "--markdown", str(tmp_path / "pr.md")]) == 1
    out = capsys.readouterr().out
    assert "9 undecided → broken, 1 broken → undecided" in out
    assert "worse: attacked accuracy" in out
    assert "| attacked | 90.0 % | 10.0 % | -80.0 |" in (tmp_path / "pr.md").read_text(encoding="utf-8")
    page = report(second, images=False, baseline=first)
    assert "Compared with a" in page
    assert "<td>-80.0</td>" in page
    assert "Compared with" not in report(second, images=False)


def test_runs_that_cannot_be_compared_are_one_line(tmp_path):
    first = made(tmp_path / "a", ["stands"] * 3)
    with pytest.raises(RunError, match=r"another image, or has another label"):
        compare(first, made(tmp_path / "b", ["stands"] * 3, digest="f" * 64))
    with pytest.raises(RunError, match=r"no example under the same ball \(linf eps 2/255 and linf eps 0.1\)"):
        compare(first, made(tmp_path / "c", ["stands"] * 3, eps=0.1))
    with pytest.raises(RunError, match="no example under the same ball"):
        compare(first, made(tmp_path / "d", ["error"] * 3))
