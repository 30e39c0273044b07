"""What users give: radii, boxes, and the one clear line when they cannot be used."""

import numpy as np
import pytest
import torch

import saddlepoint.geometry as geometry
from saddlepoint.errors import InputError
from saddlepoint.geometry import L1, L2, Linf
from saddlepoint.geometry.binding import radius

X = torch.full((2, 1, 2, 2), 0.5)


def test_exports():
    assert geometry.__all__ == ["BALLS", "L1", "L2", "Ball", "Linf", "Region"]


@pytest.mark.parametrize(
    ("eps", "message"),
    [
        (-0.1, "eps is -0.1, expected a finite number ≥ 0"),
        (float("nan"), "eps is nan"),
        (float("inf"), "eps is inf"),
        ("8/255", "eps is '8/255'"),
        (None, "eps is None"),
        (True, "eps is True"),
        ([0.1, 0.2], r"eps is \[0.1, 0.2\]"),
        (torch.tensor([0.1, -0.5]), "eps holds -0.5 in row 1"),
        (torch.tensor([float("nan")]), "eps holds nan in row 0"),
        (torch.zeros(2, 1), r"eps is a tensor of shape \(2, 1\)"),
        (torch.tensor([1, 2]), "type torch.int64"),
    ],
)
def test_radius_that_cannot_be_used(eps, message):
    """Asked of the function that every ball asks, for the shape annotations would refuse a string before it."""
    with pytest.raises(InputError, match=message) as caught:
        radius(eps)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ball", [Linf, L2, L1])
@pytest.mark.parametrize("eps", [-1, float("nan"), torch.tensor([0.5, -1.0])])
def test_every_ball_checks_its_radius(ball, eps):
    with pytest.raises(InputError, match="eps"):
        ball(eps)


def test_radius_is_a_plain_number_where_it_can_be():
    assert Linf(1) == Linf(1.0)
    assert radius(torch.tensor(0.5)) == radius(np.float32(0.5)) == 0.5
    assert type(L1(12).eps) is float
    assert hash(L2(0.5)) == hash(L2(0.5))
    assert repr(L2(0.5)) == "L2(eps=0.5)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X + 1,), r"x holds 1.5 in row 0, outside the box \[0.0, 1.0\]"),
        ((torch.where(torch.arange(2).reshape(2, 1, 1, 1) == 1, torch.nan, X),), "x holds nan in row 1"),
        ((X, 0.6, 1.0), r"outside the box \[0.6, 1.0\]"),
        ((X, torch.zeros(3), 1.0), r"a bound of shape \(3,\) does not broadcast to x of shape \(2, 1, 2, 2\)"),
    ],
)
def test_box_that_does_not_fit(arguments, message):
    with pytest.raises(InputError, match=message):
        Linf(0.1).at(*arguments)


def test_wrong_number_of_radii():
    with pytest.raises(InputError, match="eps holds 3 radii for 2 examples"):
        L2(torch.ones(3)).at(X)


@pytest.mark.parametrize("ball", [Linf, L2, L1])
def test_every_tensor_of_a_region_has_one_row_per_example(ball):
    region = ball(0.1).at(X, None, torch.ones(1, 2, 1))
    assert region.ball.eps.shape == (2,)
    assert region.x.shape == region.low.shape == region.high.shape == X.shape
    assert type(region.ball) is ball


def test_white_and_black_stay_within_reach():
    """Rounding inward must not forbid 0 and 1 themselves."""
    x = torch.rand(1000, 1, generator=torch.Generator().manual_seed(0))
    region = Linf(2.0).at(x)
    for sign, wall in ((1.0, 1.0), (-1.0, 0.0)):
        stored = x + region.maximiser(torch.full_like(x, sign))
        assert ((stored - wall).abs() <= 2**-24).all()


def test_no_box_is_the_ball_alone():
    x = torch.zeros(1, 3)
    assert L1(2.0).at(x, None, None).maximiser(torch.tensor([[1.0, -3.0, 2.0]])).tolist() == [[0, pytest.approx(-2), 0]]
    assert Linf(2.0).at(x, None, None).project(torch.full((1, 3), -9.0)).tolist() == [[-2, -2, -2]]
