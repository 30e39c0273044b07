"""The nearest point of hyperplane ∩ box: z lands there, no point is nearer (SciPy), nothing breaks at the edges."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog

from saddlepoint.geometry import L1, L2, Linf

BALLS = (Linf(1.0), L2(1.0), L1(1.0))
named = {"ids": lambda ball: ball.name}
laws = settings(deadline=None, max_examples=40)


def draw(seed, size):
    """A point of a box with open and closed sides, a normal with zeros and ties, and an offset."""
    random = np.random.default_rng(seed)
    low, high = -random.choice([0, 0.1, 0.5, np.inf], size), random.choice([0, 0.1, 0.5, np.inf], size)
    d = random.uniform(np.maximum(low, -1), np.minimum(high, 1))
    w = random.choice([random.standard_normal(size), np.round(2 * random.standard_normal(size)) / 2])
    return d, w, w @ d + random.normal() * random.choice([0.01, 0.3, 3.0]), low, high


def project(ball, d, w, b, low, high):
    arrays = (torch.as_tensor(v, dtype=torch.float64)[None] for v in (d, w, low, high))
    d, w, low, high = arrays
    return ball.onto_hyperplane(d, w, torch.tensor([b], dtype=torch.float64), low, high)[0].numpy()


def reachable(d, w, b, low, high):
    """Return the interval of ⟨w, z⟩ over the box."""
    w, low, high = w[w != 0], low[w != 0], high[w != 0]
    return np.minimum(w * low, w * high).sum() <= b <= np.maximum(w * low, w * high).sum()


def least(p, d, w, b, low, high):
    """Return min ‖z − d‖_p by linear programming or, in ℓ2, from the multiplier."""
    size = len(d)
    if p == 2:
        towards = np.sign(b - w @ d) * w
        move = lambda t: np.clip(d + t * towards, low, high) - d  # noqa: E731
        gap = lambda t: abs(b - w @ d) - np.sign(b - w @ d) * (w @ move(t))  # noqa: E731
        top = 1.0
        while gap(top) > 1e-12 and top < 1e9:
            top *= 2
        return np.linalg.norm(move(top if gap(top) >= 0 else brentq(gap, 0, top, xtol=1e-15, rtol=1e-14)))
    # z = d + u − v; ℓ1 pays for every move, ℓ∞ for the bound s of all.
    cost = np.r_[np.full(2 * size, float(p == 1)), float(p == math.inf)]
    bound = np.c_[np.eye(size), np.eye(size), -np.ones(size)] if p == math.inf else None
    sides = [(0, h) for h in high - d] + [(0, r) for r in d - low] + [(0, None)]
    sides = [(a, None if b == np.inf else b) for a, b in sides]
    limit = None if bound is None else np.zeros(size)
    found = linprog(cost, bound, limit, np.r_[w, -w, 0][None], [b - w @ d], bounds=sides)
    assert found.status == 0, found.message
    return found.fun


@pytest.mark.parametrize("ball", BALLS, **named)
@laws
@given(seed=st.integers(0, 10**6), size=st.integers(1, 12))
def test_it_lands_and_nothing_is_nearer(ball, seed, size):
    d, w, b, low, high = draw(seed, size)
    z = project(ball, d, w, b, low, high)
    assert ((z >= low) & (z <= high)).all()
    if not reachable(d, w, b, low, high):
        far = np.where(np.sign(b - w @ d) * w > 0, high, low)
        np.testing.assert_allclose(z, np.where(w != 0, far, d), rtol=1e-14, atol=1e-15)
        return
    assert w @ z == pytest.approx(b, rel=1e-9, abs=1e-9)
    assert np.linalg.norm(z - d, ball.p) == pytest.approx(least(ball.p, d, w, b, low, high), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("ball", BALLS, **named)
def test_without_a_box_the_distance_is_that_of_the_dual_norm(ball):
    random = np.random.default_rng(0)
    d, w = (torch.as_tensor(random.standard_normal((5, 3, 4, 6))) for _ in range(2))
    b, open_side = torch.as_tensor(random.standard_normal(5)), torch.full_like(d, torch.inf)
    z = ball.onto_hyperplane(d, w, b, -open_side, open_side)
    gap = b - (w * d).flatten(1).sum(1)
    torch.testing.assert_close(ball.norm(z - d), gap.abs() / ball.dual_norm(w))


@pytest.mark.parametrize("ball", BALLS, **named)
def test_no_normal_no_gap_and_normals_of_any_magnitude(ball):
    d = torch.tensor([[0.1, -0.2, 0.3]]).repeat(6, 1)
    w = torch.tensor([[1.0, -2.0, 0.5]]).repeat(6, 1)
    w[0], w[1:] = 0, w[1:] * torch.tensor([1.0, 1e-30, 1e30, 1e-42, 1.0])[:, None]
    w[5, 0] = 1e-38
    b = 1.1 * (w.double() * d.double()).sum(1)
    b[0], b[1] = 7.0, (w[1].double() * d[1].double()).sum()
    for side in (0.5, torch.inf):
        z = ball.onto_hyperplane(d, w, b, torch.full_like(d, -side), torch.full_like(d, side))
        assert torch.isfinite(z).all()
        assert torch.equal(z[:2], d[:2])
        torch.testing.assert_close((w[2:].double() * z[2:]).sum(1), b[2:], rtol=1e-4, atol=0)


@pytest.mark.parametrize("ball", BALLS, **named)
def test_rows_do_not_depend_on_their_neighbours(ball):
    seed = torch.Generator().manual_seed(0)
    d, w = (torch.rand(4, 3, 20, 31, generator=seed) - 0.5 for _ in range(2))
    b = torch.tensor([0.0, 3.0, -40.0, 1e6], dtype=torch.float64)
    low, high = torch.full_like(d, -0.5), torch.full_like(d, 0.5)
    whole = ball.onto_hyperplane(d, w, b, low, high)
    alone = [ball.onto_hyperplane(*(v[i : i + 1] for v in (d, w, b, low, high))) for i in range(4)]
    assert torch.equal(whole, torch.cat(alone))
    assert ball.onto_hyperplane(*(v[:0] for v in (d, w, b, low, high))).shape == (0, 3, 20, 31)


@pytest.mark.parametrize("ball", BALLS, **named)
def test_a_region_tells_its_pixel_box(ball):
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    wall = torch.tensor([0.0, -1.0, 0.0]).reshape(3, 1, 1)
    for lower, upper in ((0.0, 1.0), (None, None), (wall, 1.0), (None, torch.ones_like(x))):
        low, high = ball.at(x, lower, upper).box
        least, most = (-math.inf if lower is None else lower), (math.inf if upper is None else upper)
        torch.testing.assert_close(low, least - x)
        torch.testing.assert_close(high, most - x)
        assert (x + low >= least).all()
        assert (x + high <= most).all()
