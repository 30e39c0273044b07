"""The reader against the meaning of formulas, the official parser, exact numbers, and files that are wrong."""

import gzip
import math
import operator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlepoint.errors import InputError
from saddlepoint.properties.property import Box, Constraint, robustness
from saddlepoint.properties.vnnlib import parse, read_property

HEAD = {
    1: "".join(f"(declare-const {v}_{i} Real)\n" for v, n in (("X", 2), ("Y", 3)) for i in range(n)),
    2: "(vnnlib-version <2.0>)\n(declare-network f\n (declare-input X float32 [1, 2])\n (declare-output Y real [3]))\n",
}
ORDER = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq, "!=": operator.ne}
DECIMALS = st.decimals(-3, 3, places=3).map(str)


def name(version, kind, place):
    if version == 1:
        return f"{kind}_{place}"
    return f"X[0,{place}]" if kind == "X" else f"Y[{place}]"


def sums(version):
    """Linear expressions of outputs as (text, {place: coefficient}, constant)."""
    one = st.tuples(st.integers(0, 2), DECIMALS, DECIMALS)

    def made(parts):
        terms, constant = dict.fromkeys(range(3), Fraction(0)), Fraction(0)
        texts = []
        for place, factor, shift in parts:
            terms[place] += Fraction(factor)
            constant += Fraction(shift)
            texts += [f"(* {factor} {name(version, 'Y', place)})", shift]
        return f"(+ {' '.join(texts)})", terms, constant

    return st.lists(one, min_size=1, max_size=3).map(made)


def comparisons(version):
    signs = list(ORDER) if version == 2 else ["<=", ">="]
    outputs = st.tuples(st.sampled_from(signs), sums(version), DECIMALS).map(
        lambda c: (
            f"({c[0]} {c[1][0]} {c[2]})",
            lambda x, y: ORDER[c[0]](sum(a * y[j] for j, a in c[1][1].items()) + c[1][2], Fraction(c[2])),
        )
    )
    inputs = st.tuples(st.sampled_from(["<=", ">="]), st.integers(0, 1), DECIMALS, st.booleans()).map(
        lambda c: (
            f"({c[0]} {name(version, 'X', c[1])} {c[2]})" if c[3] else f"({c[0]} {c[2]} {name(version, 'X', c[1])})",
            lambda x, y: ORDER[c[0]](*((x[c[1]], Fraction(c[2])) if c[3] else (Fraction(c[2]), x[c[1]]))),
        )
    )
    return outputs | inputs


def formulas(version):
    def joined(parts):
        return st.tuples(st.sampled_from(["and", "or"]), st.lists(parts, min_size=2, max_size=3)).map(
            lambda f: (
                f"({f[0]} {' '.join(text for text, _ in f[1])})",
                lambda x, y: (all if f[0] == "and" else any)(holds(x, y) for _, holds in f[1]),
            )
        )

    return st.recursive(comparisons(version), joined, max_leaves=8)


LIMITS = {
    version: "".join(
        f"(assert (and (<= {name(version, 'X', i)} 2.5) (>= {name(version, 'X', i)} -2.5)))\n" for i in range(2)
    )
    for version in (1, 2)
}


@pytest.mark.parametrize("version", [1, 2])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_file_means_what_its_formulas_mean(version, data):
    asserts = data.draw(st.lists(formulas(version), min_size=1, max_size=3))
    text = HEAD[version] + LIMITS[version] + "".join(f"(assert {formula}) ; a comment (\n" for formula, _ in asserts)
    try:
        prop = parse(text)
    except InputError as error:
        assert "no variable" in str(error)  # noqa: PT017 - a drawn sum may cancel
        return
    assert (prop.inputs, prop.outputs) == (2, 3)
    grid = [Fraction(k, 2) for k in range(-5, 6)]
    for _ in range(20):
        x, y = (tuple(data.draw(st.sampled_from(grid)) for _ in range(n)) for n in (2, 3))
        due = all(holds(x, y) for _, holds in asserts)
        assert any(clause.met(x, y) for clause in prop.clauses) == due


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_official_parser_reads_the_same(data):
    official = pytest.importorskip("vnnlib", reason="pip install vnnlib")
    (formula, _) = data.draw(formulas(2))
    text = HEAD[2] + LIMITS[2] + f"(assert {formula})\n"
    query = official.parse_query_string(text)
    try:
        prop = parse(text)
    except InputError as error:
        assert "no variable" in str(error)  # noqa: PT017
        return
    theirs = query.assertions[-1].expr.to_dnf()
    strict = sum(type(one).__name__ in ("LessThan", "GreaterThan") for clause in theirs for one in clause)
    assert len(prop.clauses) >= len(theirs) or not strict
    for clause in theirs:
        for one in clause:
            linear = one.lhs.to_linear_expr()
            assert {(t.var.name, *t.var.indices) for t in linear.terms} <= {
                ("X", 0, 0),
                ("X", 0, 1),
                ("Y", 0),
                ("Y", 1),
                ("Y", 2),
            }


WRONG = {
    "(assert (<= X_0 1))": "line 1: 'X_0' is not declared",
    HEAD[1] + "(assert (<= X_0 1))": "line 6: input 0 has no lower bound",
    HEAD[1] + LIMITS[1] + "\n(assert (<= X_0 Y_0))": "line 9: a constraint has both inputs and outputs",
    HEAD[1] + "(assert (<= (+ X_0 X_1) 1))": "line 6: a constraint has several inputs",
    HEAD[1] + "(assert (not (<= X_0 1)))": "line 6: the formula 'not' is not understood",
    HEAD[1] + "(assert (<= Y_0 1)": "line 6: a parenthesis is never closed",
    HEAD[1] + ")": "line 6: ')' stands outside",
    HEAD[1] + "(check-sat)": "line 6: the statement 'check-sat' is not known",
    HEAD[1] + "(assert (<= Y_7 1))": "line 6: 'Y_7' is not declared",
    HEAD[1] + "(assert (<= Y_0 1e9999999))": "line 6",
    HEAD[1] + "(assert (<= Y_0 nan))": "line 6",
    HEAD[1] + "(assert (and))": "line 6: 'and' is not followed by formulas",
    HEAD[1] + "(assert (<= 1 2))": "line 6: a comparison has no variable",
    HEAD[1] + "(declare-const X_0 Real)": "line 6: X_0 is declared twice",
    HEAD[1] + "(assert " + "(and " * 300: "line 6: more than 200 parentheses",
    HEAD[2] + "(assert (<= (* Y[0] Y[1]) 1))": "line 5: two variables are multiplied",
    HEAD[2] + "(assert (<= Y[3] 1))": "line 5: 'Y[3]' is no element of Y of shape [3]",
    HEAD[2] + "(assert (<= Y[-1] 1))": "line 5: 'Y[-1]' is no element",
    HEAD[2] + "(assert (<= Z[0] 1))": "line 5: 'Z' is not declared",
    HEAD[2] + HEAD[2].split("\n", 1)[1]: "line 5: a second network",
    HEAD[2].replace("real", "int8"): "line 4: elements of type 'int8'",
    HEAD[2].replace("2.0", "3.0"): "line 1: the version",
    "": "line 1: the file declares no input",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_is_not_understood_is_named_with_its_line(text):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert WRONG[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_clauses_are_counted_before_they_are_made():
    many = "(or " + " ".join(f"(<= Y_0 {k})" for k in range(50)) + ")"
    with pytest.raises(InputError, match="multiply out to more than"):
        parse(HEAD[1] + LIMITS[1] + f"(assert {many})\n" * 5)


def test_files_are_read_by_their_content(tmp_path):
    text = HEAD[1] + LIMITS[1] + "(assert (or (and (<= X_0 0) (<= Y_0 1e-2)) (and (>= X_0 0) (>= Y_1 2))))"
    for place, data in (("plain.gz", text.encode()), ("packed", gzip.compress(text.encode()))):
        (tmp_path / place).write_bytes(data)
        prop = read_property(tmp_path / place)
        assert [clause.constraints[0].bound for clause in prop.clauses] == [Fraction(1, 100), Fraction(-2)]
        assert len(prop.by_box()) == 2
    for place, data in (("absent", None), ("cut", gzip.compress(text.encode())[:-9]), ("binary", b"\xff\xfe(")):
        if data is not None:
            (tmp_path / place).write_bytes(data)
        with pytest.raises(InputError, match=place):
            read_property(tmp_path / place)


@settings(max_examples=200, deadline=None)
@given(st.fractions(-4, 4), st.fractions(0, 1))
def test_boxes_of_floats_enclose_and_are_enclosed(low, width):
    box = Box((low,), (low + width,))
    (outer_low, outer_high), (inner_low, inner_high) = box.outer, box.inner
    assert Fraction(outer_low[0]) <= low
    assert Fraction(outer_high[0]) >= low + width
    assert math.nextafter(outer_low[0], math.inf) > low
    if inner_low[0] <= inner_high[0]:
        assert low <= Fraction(float(inner_low[0])) <= Fraction(float(inner_high[0])) <= low + width
        assert Fraction(float(np.nextafter(inner_low[0], np.float32(-9)))) < max(low, Fraction(float(low)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.fractions(-4, 4).filter(bool), min_size=1, max_size=3), st.fractions(-2, 2), st.data())
def test_scaled_constraints_are_the_same_half_spaces(coefficients, bound, data):
    constraint = Constraint(dict(enumerate(coefficients)), bound)
    try:
        numbers, up = constraint.scaled()
    except InputError:
        return
    y = [Fraction(data.draw(st.integers(-64, 64)), 16) for _ in coefficients]
    value = sum(Fraction(a) * y[j] for j, a in numbers.items())
    assert not constraint.met([float(one) for one in y]) or value <= Fraction(up)
    assert Fraction(math.nextafter(up, -math.inf)) < bound * math.lcm(*(a.denominator for a in coefficients))


def test_robustness_is_a_property():
    prop = robustness(np.zeros((1, 2)), np.full((1, 2), 0.5), 1, 3)
    assert [clause.met((0.25, 0.5), (2.0, 1.0, 0.0)) for clause in prop.clauses] == [True, False]
    assert [clause.met((0.25, 0.5), (1.0, 1.0, 0.0)) for clause in prop.clauses] == [True, False]  # a tie is none
    assert not any(clause.met((0.25, 0.75), (2.0, 1.0, 0.0)) for clause in prop.clauses)
    assert len(prop.by_box()) == 1
