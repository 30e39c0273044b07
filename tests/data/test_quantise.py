import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlepoint.data import levels, magnified, pixels
from saddlepoint.geometry import L1, L2, Linf

RADII = {Linf: (0.0, 1 / 255, 2 / 255, 2.6 / 255, 8 / 255, 0.3), L2: (0.0, 0.05, 0.5, 3.0), L1: (0.0, 0.1, 1.0, 12.0)}
CASES = [(ball, radius) for ball, radii in RADII.items() for radius in radii]


def problem(ball, seed, box):
    """Random 8-bit rows, some of their pixels at the bounds, and points inside the ball (and the box)."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randint(-60, 316, (4, 3, 6, 6), generator=random).clamp(0, 255).to(torch.uint8)
    keys = torch.randint(0, 2**62, (4,), generator=random)
    region = ball.at(pixels(x), *((0.0, 1.0) if box else (None, None)))
    delta = region.project(8 * ball.sample(keys, pixels(x)))
    return x, pixels(x) + delta


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 2**31), st.booleans())
def test_inside_the_ball_and_nearest_or_next_towards_zero(case, seed, box):
    ball = case[0](case[1])
    x, x_adv = problem(ball, seed, box)
    n = levels(x, x_adv, ball).double() - x.double()
    assert bool((ball.norm(n / 255) <= case[1]).all())
    exact = (x_adv.double() * 255).clamp(0, 255) - x.double()
    assert bool(((n - exact).abs() < 1 + 1e-4).all())
    assert bool((n.abs() <= exact.abs() + 0.5 + 1e-4).all())
    assert bool((n * exact >= 0).all())
    nearest = exact.round()
    inside = ball.norm(nearest / 255) <= case[1]
    untied = ((exact.frac().abs() - 0.5).abs() > 1e-3).flatten(1).all(1)
    assert torch.equal(n[inside & untied], nearest[inside & untied])


@pytest.mark.parametrize("steps", range(9))
def test_a_radius_of_whole_levels_is_used_up(steps):
    ball, x = Linf(steps / 255), torch.full((1, 3, 2, 2), 100, dtype=torch.uint8)
    assert torch.equal(levels(x, pixels(x) + steps / 255, ball), x + steps)
    assert torch.equal(levels(x, pixels(x) - steps / 255, ball), x - steps)


def test_only_the_coordinate_that_leaves_is_cut_in_linf():
    x = torch.full((1, 1, 1, 3), 100, dtype=torch.uint8)
    delta = torch.tensor([2.6, 1.6, -2.6]).reshape(1, 1, 1, 3) / 255
    assert levels(x, pixels(x) + delta, Linf(2.61 / 255)).flatten().tolist() == [102, 102, 98]


def test_the_longest_roundings_are_taken_back_first_in_l1():
    x = torch.full((1, 1, 1, 3), 100, dtype=torch.uint8)
    delta = torch.tensor([0.9, 0.6, -0.7]).reshape(1, 1, 1, 3) / 255
    assert levels(x, pixels(x) + delta, L1(2.21 / 255)).flatten().tolist() == [101, 100, 99]


def test_one_radius_per_row():
    x = torch.full((2, 1, 1, 2), 100, dtype=torch.uint8)
    x_adv = pixels(x) + torch.tensor([1.7, 2.7]).reshape(2, 1, 1, 1) / 255
    ball = Linf(torch.tensor([1.8, 3.2], dtype=torch.float64) / 255)
    assert levels(x, x_adv, ball).flatten().tolist() == [101, 101, 103, 103]


def test_points_outside_the_box_are_written_at_its_bounds():
    x = torch.tensor([1, 254], dtype=torch.uint8).reshape(1, 1, 1, 2)
    x_adv = pixels(x) + torch.tensor([-4.0, 4.0]).reshape(1, 1, 1, 2) / 255
    assert levels(x, x_adv, Linf(4 / 255)).flatten().tolist() == [0, 255]


def test_magnified_reaches_black_or_white_around_mid_grey():
    delta = torch.tensor([0.0, 2 / 255, -2 / 255]).reshape(3, 1, 1)
    grey, factor = magnified(delta)
    assert factor == 63
    assert grey.flatten().tolist() == [128, 254, 1]


@pytest.mark.parametrize(("delta", "factor"), [(0.0, 1.0), (0.5, 1.0), (1.0, 0.5), (-0.001, 500.0)])
def test_magnified_at_its_ends(delta, factor):
    grey, found = magnified(torch.full((3, 2, 2), delta))
    assert found == pytest.approx(factor, rel=0.01)
    assert grey.dtype == torch.uint8
