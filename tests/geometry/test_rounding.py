"""Rounding, checked in exact rational arithmetic."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlepoint.geometry.floats import inward, sum_toward_zero, toward_zero, two_sum

DTYPES = {torch.float16: 16, torch.float32: 32, torch.float64: 64}


@st.composite
def pairs(draw, bound=1e3):
    dtype = draw(st.sampled_from(list(DTYPES)))
    floats = st.floats(-bound, bound, width=DTYPES[dtype]) | st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0**-12, -1.0])
    return tuple(torch.tensor([[draw(floats)]], dtype=dtype) for _ in range(2))


def exact(value):
    return Fraction(value.item())


@settings(deadline=None, max_examples=300)
@given(pairs())
def test_two_sum_is_exact(pair):
    a, b = pair
    s, error = two_sum(a, b)
    assert exact(s) + exact(error) == exact(a) + exact(b)
    rounded, real = exact(sum_toward_zero(a, b)), exact(a) + exact(b)
    assert abs(rounded) <= abs(real)
    assert rounded * real >= 0


@settings(deadline=None, max_examples=500)
@given(pairs())
def test_the_stored_point_is_no_farther_than_delta(pair):
    x, delta = pair
    fresh = inward(x, delta)
    assert abs(exact(x + fresh) - exact(x)) <= abs(exact(delta))
    assert abs(exact(fresh)) <= abs(exact(delta))
    assert exact(fresh) * exact(delta) >= 0
    if abs(exact(x + delta) - exact(x)) <= abs(exact(delta)):
        assert torch.equal(fresh, delta)
    else:
        unit = abs(exact(torch.nextafter(x + delta, x)) - exact(x + delta))
        assert abs(exact(delta)) - abs(exact(fresh)) <= 2 * unit


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@settings(deadline=None, max_examples=100)
@given(value=st.floats(-1e6, 1e6))
def test_casting_goes_toward_zero(dtype, value):
    wide = torch.tensor([[value]], dtype=torch.float64)
    cast = toward_zero(wide, dtype)
    assert cast.dtype == dtype
    assert abs(exact(cast)) <= abs(Fraction(value))
    following = torch.nextafter(cast, torch.full_like(cast, torch.inf).copysign(wide.to(dtype)))
    assert following.isinf() or abs(Fraction(value)) < abs(exact(following))
