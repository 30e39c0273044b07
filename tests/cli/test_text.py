from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from saddlepoint.cli.arguments import Number
from saddlepoint.cli.attack.dataset_text import lines
from saddlepoint.cli.attack.output import Traced
from saddlepoint.cli.attack.text import aligned, printable, probability, selected, significant, sparkline


@pytest.mark.parametrize(("text", "value"), [("2/255", 2 / 255), ("0.1", 0.1), ("0", 0), ("1e-3", 1e-3), ("1/0.5", 2)])
def test_numbers_remember_how_they_were_written(text, value):
    assert Number(text) == value
    assert Number(text).text == text


def test_an_expectation_is_not_a_count():
    summary = {"examples": 10, "errors": 2, "clean_correct": 7, "clean_accuracy": 7 / 8, "robust": 5}
    assert lines({**summary, "attacked_accuracy": 5 / 8}) == [
        "clean accuracy    87.5%  7 of 8",
        "under attack      62.5%  5 of 8  an upper bound on robust accuracy",
        "not readable             2 of 10  left out of both",
    ]
    stochastic = lines({**summary, "attacked_accuracy": 0.644})
    assert stochastic[1] == "under attack      64.4%  over fresh draws  an upper bound on robust accuracy"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.95134, "0.9513"), (0.99992411, "0.99992"), (1.35e-6, "1.35e-06"), (1.0, "1.00000"), (0, "0.00e+00")],
)
def test_probabilities(value, text):
    assert probability(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"),
        (0.04981, "0.04981"),
        (36.972, "36.97"),
        (-10.57, "-10.57"),
        (761.41, "761.4"),
        (150528.2, "150528"),
        (1e-7, "1.000e-07"),
        (0.00012345, "0.0001234"),
    ],
)
def test_significant_digits(value, text):
    assert significant(value) == text


@given(st.integers(0, 3000))
def test_selected_steps_are_round_and_few(last):
    trace = [Traced(step, float(step)) for step in range(last + 1)]
    points = selected(trace)
    assert len(points) <= 9
    assert points[0].step == 0
    assert points[-1] == trace[-1]
    gaps = {after.step - before.step for before, after in pairwise(points[:-1])}
    assert len(gaps) <= 1


def test_the_lesson_prints_every_fifth_step():
    assert [p.step for p in selected([Traced(s, 0.0) for s in range(31)])] == [0, 5, 10, 15, 20, 25, 30]


@given(st.lists(st.floats(-1e6, 1e6), max_size=200))
@example([0.0, 2.2e-309])  # a span whose reciprocal is infinite
def test_sparklines_fit_and_span(values):
    line = sparkline(values)
    assert len(line) == min(len(values), 60)
    assert set(line) <= set("▁▂▃▄▅▆▇█")


def test_columns_are_flush():
    assert aligned([("a", "1"), ("bcd", "23"), ("日本", "")]) == ["a      1", "bcd   23", "日本"]


def test_control_characters_are_shown():
    assert printable("a\x1b[0m\n\u202eé") == "a\\x1b[0m\\n\\u202eé"
