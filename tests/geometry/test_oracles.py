"""Against SciPy, in float64, with code that shares nothing: QP, LP, root finding, thresholds by sorting."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog, minimize

from saddlepoint.geometry import L1, L2, Linf
from saddlepoint.geometry.maximisers import steepest_l1
from saddlepoint.geometry.norms import dual_exponent, lp_norm, row_sum
from saddlepoint.geometry.projections import onto_l1, onto_l2, onto_linf

CASES = [(seed, size, eps) for seed, size in enumerate((1, 2, 3, 6, 6, 40, 40, 400)) for eps in (0.05, 0.7, 4.0)]


def draw(seed, size):
    """Points and a box in δ-space, with ties, zeros, saturated pixels and open sides."""
    random = np.random.default_rng(seed)
    d = random.choice([random.standard_normal(size), np.round(2 * random.standard_normal(size)) / 2])
    low, high = -random.choice([0, 0.1, 0.5, np.inf], size), random.choice([0, 0.1, 0.5, np.inf], size)
    return d, low, high


def rows(*arrays):
    return tuple(torch.as_tensor(a)[None] for a in arrays)


def room(d, low, high, eps):
    return np.minimum(np.where(d > 0, high, -low), eps)


def root(amount, eps, top):
    return 0.0 if amount(0.0) <= eps else brentq(lambda t: amount(t) - eps, 0.0, top, xtol=1e-15, rtol=1e-14)


@pytest.mark.parametrize(("seed", "size", "eps"), CASES)
def test_projections_against_root_finding(seed, size, eps):
    d, low, high = draw(seed, size)
    c, a = room(d, low, high, eps), np.abs(d)
    radius = torch.tensor([eps], dtype=torch.float64)

    mu = root(lambda m: np.linalg.norm(np.minimum(a / (1 + m), c)), eps, 1e4)
    ours = onto_l2(torch.as_tensor(d)[None], radius, *rows(low, high))[0].numpy()
    np.testing.assert_allclose(ours, np.sign(d) * np.minimum(a / (1 + mu), c), rtol=1e-9, atol=1e-11)

    threshold = root(lambda t: np.clip(a - t, 0, c).sum(), eps, a.max())
    ours = onto_l1(torch.as_tensor(d)[None], radius, *rows(low, high))[0].numpy()
    np.testing.assert_allclose(ours, np.sign(d) * np.clip(a - threshold, 0, c), rtol=1e-9, atol=1e-11)

    ours = onto_linf(torch.as_tensor(d)[None], radius, *rows(low, high))[0].numpy()
    np.testing.assert_array_equal(ours, np.clip(d, np.maximum(low, -eps), np.minimum(high, eps)))


@pytest.mark.parametrize("seed", range(6))
def test_projections_against_quadratic_programming(seed):
    random = np.random.default_rng(seed)
    size, eps = 5, 0.6
    d = random.standard_normal(size)
    low, high = -random.uniform(0, 0.5, size), random.uniform(0, 0.5, size)
    radius = torch.tensor([eps], dtype=torch.float64)

    def solve(value, bounds, start, constraint):
        found = minimize(value, start, bounds=bounds, constraints=[constraint], method="SLSQP", options={"ftol": 1e-15})
        return found.x

    ball = {"type": "ineq", "fun": lambda z: eps**2 - z @ z, "jac": lambda z: -2 * z}
    z = solve(lambda z: ((z - d) ** 2).sum(), list(zip(low, high, strict=True)), np.zeros(size), ball)
    np.testing.assert_allclose(onto_l2(torch.as_tensor(d)[None], radius, *rows(low, high))[0].numpy(), z, atol=1e-6)

    # z = u − v with u, v ≥ 0 makes the ℓ1 ball linear.
    spent = {"type": "ineq", "fun": lambda w: eps - w.sum(), "jac": lambda w: -np.ones_like(w)}
    bounds = [(0, h) for h in high] + [(0, -b) for b in low]
    w = solve(lambda w: ((w[:size] - w[size:] - d) ** 2).sum(), bounds, np.zeros(2 * size), spent)
    ours = onto_l1(torch.as_tensor(d)[None], radius, *rows(low, high))[0].numpy()
    np.testing.assert_allclose(ours, w[:size] - w[size:], atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("eps", [0.1, 1.0, 30.0])
def test_l1_projection_against_sorting(seed, eps):
    """Duchi et al. 2008, figure 1: without a box the threshold comes from the sorted magnitudes."""
    d = np.random.default_rng(seed).standard_normal(300).round(2)
    sizes = np.sort(np.abs(d))[::-1]
    thresholds = (np.cumsum(sizes) - eps) / np.arange(1, 301)
    threshold = max(0.0, thresholds[np.nonzero(sizes > thresholds)[0][-1]]) if sizes.sum() > eps else 0.0
    radius, open_side = torch.tensor([eps], dtype=torch.float64), torch.full((1, 300), math.inf, dtype=torch.float64)
    ours = onto_l1(torch.as_tensor(d)[None], radius, -open_side, open_side)[0].numpy()
    np.testing.assert_allclose(ours, np.sign(d) * np.maximum(np.abs(d) - threshold, 0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("seed", "size", "eps"), CASES)
def test_support_against_linear_programming_and_root_finding(seed, size, eps):
    g, _, _ = draw(seed, size)
    x = np.random.default_rng(seed).choice([0.0, 0.25, 0.5, 1.0], size)
    c = room(g, -x, 1 - x, eps)
    at = {ball: ball(eps).at(torch.as_tensor(x)[None]) for ball in (Linf, L2, L1)}
    found = {ball: region.support(torch.as_tensor(g)[None]).item() for ball, region in at.items()}

    np.testing.assert_allclose(found[Linf], np.abs(g) @ c, rtol=1e-12, atol=1e-15)

    spread = linprog(-np.abs(g), A_ub=np.ones((1, size)), b_ub=[eps], bounds=np.stack([np.zeros(size), c], 1))
    np.testing.assert_allclose(found[L1], -spread.fun, rtol=1e-9, atol=1e-12)

    c = np.where(g != 0, c, 0)
    a = np.abs(g)
    top = 10 * eps / a[a > 0].min() if a.any() else 1.0
    reached = np.linalg.norm(c) <= eps
    t = top if reached else brentq(lambda t: np.linalg.norm(np.minimum(t * a, c)) - eps, 0, top, xtol=1e-15, rtol=1e-14)
    np.testing.assert_allclose(found[L2], a @ (c if reached else np.minimum(t * a, c)), rtol=1e-9, atol=1e-12)


def test_l2_maximiser_with_gradients_of_any_magnitude():
    """Without the first pixel, which is walled in, the second takes what is left of the radius, however small g is."""
    for small in (1e-2, 1e-12, 1e-25, 1e-38):
        x = torch.tensor([[0.9, 0.5]])
        delta = L2(0.3).at(x).maximiser(torch.tensor([[1.0, small]]))
        expected = torch.tensor([[0.1, math.sqrt(0.3**2 - 0.1**2)]])
        torch.testing.assert_close(delta, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_steepest_of_tiny_huge_and_zero_gradients(scale):
    g = scale * torch.tensor([[3.0, -4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(L2(1.0).steepest(g), torch.tensor([[0.6, -0.8, 0.0, 0.0], [0.0] * 4]))
    assert Linf(1.0).steepest(g).tolist() == [[1, -1, 0, 0], [0] * 4]
    assert L1(1.0).steepest(g).tolist() == [[0, -1, 0, 0], [0] * 4]
    assert L1(1.0).steepest(g, 0.5).tolist() == [[0.5, -0.5, 0, 0], [0] * 4]


def test_sparsity_per_row_and_ties():
    g = torch.tensor([[4.0, -3.0, 2.0, 2.0]]).expand(4, 4)
    steps = steepest_l1(g, torch.tensor([0.0, 0.5, 0.75, 1.0]))
    assert steps.tolist() == [[1, 0, 0, 0], [0.5, -0.5, 0, 0], [0.25, -0.25, 0.25, 0.25], [0.25, -0.25, 0.25, 0.25]]


def test_l1_step_leaves_a_saturated_pixel():
    x = torch.tensor([[1.0, 0.5, 0.0]])
    region, g, here = L1(0.2).at(x), torch.tensor([[5.0, 2.0, -3.0]]), torch.zeros(1, 3)
    one = torch.ones(1, dtype=torch.float64)
    assert region.ascent(g, here, one / 4).tolist() == [[0, 0.25, 0]]
    assert Linf(0.2).at(x).ascent(g, here, one).tolist() == [[1, 1, -1]]


@given(st.integers(0, 10**6), st.floats(0.01, 3))
def test_l1_steps_against_the_maximiser_over_what_is_left(seed, length):
    draw = np.random.default_rng(seed)
    x, g = torch.as_tensor(draw.uniform(size=(3, 9))), torch.as_tensor(draw.standard_normal((3, 9)))
    region = L1(1.0).at(x)
    delta = region.project(torch.as_tensor(draw.standard_normal((3, 9))))
    here = L1(length).at(torch.zeros_like(x), region.low - delta, region.high - delta)
    step = region.ascent(g, delta, torch.full((3,), length, dtype=torch.float64))
    torch.testing.assert_close((g * step).sum(1), here.support(g))
    even = region.ascent(g, delta, torch.full((3,), length, dtype=torch.float64), sparsity=1 / 3)
    assert (even.abs() <= length / 3 + 1e-12).all()


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, math.inf])
def test_norms_against_numpy(p):
    v = np.random.default_rng(0).standard_normal((3, 7))
    expected = [np.linalg.norm(row, p) for row in v]
    np.testing.assert_allclose(lp_norm(torch.as_tensor(v), p).numpy(), expected, rtol=1e-14)
    assert dual_exponent(dual_exponent(p)) == pytest.approx(p)


@pytest.mark.parametrize("size", [1, 7, 1000, 32769, 150528])
def test_row_sums_do_not_depend_on_neighbours(size):
    v = torch.randn(5, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3
    alone = torch.cat([row_sum(row[None]) for row in v])
    assert torch.equal(row_sum(v), alone)
    assert torch.equal(row_sum(v.T.contiguous().T), alone)
    for p in (1.0, 2.0, math.inf):
        for rows_ in (v, v.float()):
            assert torch.equal(lp_norm(rows_, p), torch.cat([lp_norm(row[None], p) for row in rows_]))
            assert torch.equal(lp_norm(rows_, p)[1:3], lp_norm(rows_[1:3], p))
