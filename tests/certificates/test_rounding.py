"""The argument of `certificates.rounding`, step by step, against fractions and float64; and that it is needed."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import saddlepoint as sp
from saddlepoint.certificates import bounds, crown
from saddlepoint.certificates.functionals import Dense, size_of
from saddlepoint.certificates.lowering import export
from saddlepoint.certificates.rounding import SLACK, careful_sum, gamma, outward, small, summed
from saddlepoint.certificates.sets import around

DTYPES = st.sampled_from([torch.float32, torch.float64])
SCALES = st.sampled_from([1e-30, 1e-3, 1.0, 1e4, 1e12])


def wild(seed, count, dtype, scale):
    """Numbers of both signs over many powers of two, some of which cancel."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=count) * 2.0 ** random.integers(-20, 20, count) * scale
    numbers[count // 2 :] -= numbers[: count - count // 2]
    return torch.tensor(numbers).to(dtype)


def exact(terms):
    return sum((Fraction(number) for number in terms.double().tolist()), Fraction(0))


@given(st.integers(0, 10**6), st.integers(1, 300), DTYPES, SCALES)
@settings(max_examples=60, deadline=None)
def test_a_sum_is_off_by_gamma_and_a_careful_one_by_that_of_fewer_terms(seed, count, dtype, scale):
    terms = wild(seed, count, dtype, scale)
    size = exact(terms.abs())
    plain = terms[0].clone()
    for term in terms[1:]:  # the worst order there is: one after the other
        plain = plain + term
    for found, n in ((plain, count), (careful_sum(terms), summed(terms))):
        allowed = Fraction(gamma(n, terms)) * (size + Fraction(small(terms)))
        assert abs(Fraction(float(found)) - exact(terms)) <= allowed


@given(st.integers(0, 10**6), st.integers(1, 200), DTYPES, st.sampled_from([1e-25, 1e-19, 1e-10, 1.0]))
@settings(max_examples=60, deadline=None)
def test_products_below_the_normal_numbers_are_allowed_for(seed, count, dtype, scale):
    first, second = wild(seed, count, dtype, scale), wild(seed + 1, count, dtype, scale)
    value = sum(
        (Fraction(a) * Fraction(b) for a, b in zip(first.double().tolist(), second.double().tolist(), strict=True)),
        Fraction(0),
    )
    size = sum(
        (
            abs(Fraction(a) * Fraction(b))
            for a, b in zip(first.double().tolist(), second.double().tolist(), strict=True)
        ),
        Fraction(0),
    )
    allowed = Fraction(gamma(count, first)) * (size + Fraction(small(first)))
    assert abs(Fraction(float(first @ second)) - value) <= allowed


def test_gamma_is_that_of_higham_and_infinite_where_it_says_nothing():
    one = torch.zeros(1)
    n, u = 100 + SLACK, 2.0**-24
    assert gamma(100, one) == n * u / (1 - n * u)
    assert gamma(2**24, one) == math.inf
    assert small(one) * u == torch.finfo(torch.float32).tiny


@given(st.integers(0, 10**6), st.integers(1, 50), SCALES)
@settings(max_examples=40, deadline=None)
def test_outward_is_the_nearest_interval_that_holds(seed, count, scale):
    values = wild(seed, count, torch.float64, scale)
    low, high = outward(values, values, torch.float32)
    assert (low.double() <= values).all()
    assert (high.double() >= values).all()
    assert (torch.nextafter(low, high) >= high).all()  # neighbours, or the number itself


@given(st.integers(0, 10**6), st.integers(1, 40), DTYPES, SCALES)
@settings(max_examples=40, deadline=None)
def test_what_is_subtracted_is_rounded_up(seed, count, dtype, scale):
    a, rate = wild(seed, count, dtype, 1.0), wild(seed + 1, count, dtype, scale).abs()
    due = sum(
        (abs(Fraction(x)) * Fraction(r) for x, r in zip(a.double().tolist(), rate.double().tolist(), strict=True)),
        Fraction(0),
    )
    found = float(size_of(Dense(a.reshape(1, 1, -1)), rate.reshape(1, -1)))
    assert Fraction(found) + Fraction(small(a)) >= due


def chain(seed, width, depth, scale):
    """A network whose layers cancel: weights of both signs and large offsets, so that rounding shows."""
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(6, width)]
    for _ in range(depth):
        layers += [nn.ReLU(), nn.Linear(width, width)]
    layers += [nn.ReLU(), nn.Linear(width, 3)]
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(scale)
                layer.bias.normal_().mul_(scale**2)
    return sp.Classifier(nn.Sequential(*layers).eval())


def least(classifier, x, *, allowed):
    """Lower bounds of each logit over the set that holds x alone, with what rounding may add taken off, or not."""
    graph = export(classifier, (1, 2, 3)).graph(torch.float32)
    region = around(x, sp.Linf(0.0), None)
    known = bounds.crown(graph, region)
    relaxation = crown.relax(graph, crown.ranges(graph, known))
    last = len(graph.nodes) - 1
    unit = torch.eye(3).reshape(1, 3, 3).expand(len(x), 3, 3)
    lost = bounds.sizes(graph, known) if allowed else None
    return crown.backward(graph, relaxation, last, Dense(unit), rounding=lost).least(region), known[last]


def logits_in_fractions(classifier, x):
    """The network in rational arithmetic."""
    rows = []
    for image in x:
        z = [Fraction(number) for number in image.flatten().double().tolist()]
        for layer in classifier.module:
            if isinstance(layer, nn.Linear):
                weight, bias = layer.weight.double().tolist(), layer.bias.double().tolist()
                z = [
                    sum((Fraction(w) * v for w, v in zip(row, z, strict=True)), Fraction(b))
                    for row, b in zip(weight, bias, strict=True)
                ]
            elif isinstance(layer, nn.ReLU):
                z = [max(v, Fraction(0)) for v in z]
        rows.append(z)
    return rows


@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(0, 4), st.sampled_from([0.3, 1.0, 7.0, 40.0]))
@settings(max_examples=15, deadline=None)
def test_at_one_point_bounds_in_float32_hold_the_value_in_fractions(seed, width, depth, scale):
    classifier = chain(seed, width, depth, scale)
    x = torch.rand(2, 1, 2, 3)
    below, (low, high) = least(classifier, x, allowed=True)
    for row, logits in enumerate(logits_in_fractions(classifier, x)):
        for k, value in enumerate(logits):
            assert Fraction(float(below[row, k])) <= value
            assert Fraction(float(low[row, k])) <= value <= Fraction(float(high[row, k]))


def test_without_the_allowance_a_bound_is_above_the_value():
    wrong = 0
    for seed in range(20):
        classifier = chain(seed, 10, 3, 7.0)
        x = torch.rand(2, 1, 2, 3, generator=torch.Generator().manual_seed(seed))
        below, _ = least(classifier, x, allowed=False)
        exactly = logits_in_fractions(classifier, x)
        wrong += sum(Fraction(float(below[n, k])) > exactly[n][k] for n in range(2) for k in range(3))
    assert wrong >= 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_allowance_is_small_beside_what_it_is_of(dtype):
    # a thousand products of ordinary size: a claim loses a ten-thousandth of its terms, not a tenth
    assert gamma(1000, torch.zeros(1, dtype=dtype)) < (1e-4 if dtype == torch.float32 else 1e-12)
