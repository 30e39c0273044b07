"""Every ball, every law, by listing; over shapes, types, radii, boxes, ties and zeros."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlepoint.geometry import L1, L2, Linf, Region
from saddlepoint.testing.ball_laws import BALL_LAWS, REGION_LAWS

BALLS = (Linf, L2, L1)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
SHAPES = ((1,), (2,), (5,), (3, 4), (3, 4, 4))
RADII = (0.0, 1e-42, 1e-6, 2 / 255, 0.1, 0.5, 1.0, 3.0, 20.0)
BOXES = ((0.0, 1.0), (None, None), (0, None), (-0.5, 1.25))
TIES = (-2.0, -1.0, -0.5, -0.1, 0.0, 0.0, 0.0, 0.1, 0.5, 1.0, 2.0)
PIXELS = (0.0, 0.0, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0, 1.0)
SCALES = (1e-30, 1e-3, 0.1, 1.0, 30.0, 1e30)

laws = settings(deadline=None, max_examples=25)


@st.composite
def tensors(draw, size, values, dtype, scales=(1.0,)):
    """Half of the draws repeat a few values, half are dense random numbers between them."""
    seed = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        fresh = torch.tensor(values, dtype=torch.float64)[torch.randint(len(values), size, generator=seed)]
    else:
        fresh = min(values) + (max(values) - min(values)) * torch.rand(size, generator=seed, dtype=torch.float64)
    scale = draw(st.sampled_from(scales))
    return (scale * fresh).clamp(torch.finfo(dtype).min, torch.finfo(dtype).max).to(dtype)


@st.composite
def cases(draw):
    """(x, points, keys, eps, (lower, upper)), with one radius or one per example."""
    batch, shape, dtype = draw(st.integers(1, 3)), draw(st.sampled_from(SHAPES)), draw(st.sampled_from(DTYPES))
    x = draw(tensors((batch, *shape), PIXELS, dtype))
    points = draw(tensors((batch, *shape), TIES, dtype, SCALES if dtype != torch.float16 else SCALES[1:5]))
    radii = draw(st.lists(st.sampled_from(RADII), min_size=batch, max_size=batch))
    eps = draw(st.sampled_from((radii[0], torch.tensor(radii, dtype=torch.float64))))
    return x, points, torch.arange(batch) + draw(st.integers(0, 2**40)), eps, draw(st.sampled_from(BOXES))


@pytest.mark.parametrize("law", REGION_LAWS.values(), ids=REGION_LAWS)
@pytest.mark.parametrize("ball", BALLS)
@laws
@given(case=cases())
def test_region(ball, law, case):
    x, points, keys, eps, (lower, upper) = case
    law(ball(eps).at(x, lower, upper), points, keys)


@pytest.mark.parametrize("law", [law for name, law in BALL_LAWS.items() if name != "samples_uniformly"])
@pytest.mark.parametrize("ball", BALLS)
@laws
@given(case=cases())
def test_ball(ball, law, case):
    x, points, keys, eps, _ = case
    law(ball(eps), x, points, keys)


@pytest.mark.parametrize("shape", [(1,), (2,), (3, 3), (3, 16, 16)])
@pytest.mark.parametrize("ball", BALLS)
def test_samples_are_uniform(ball, shape):
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    BALL_LAWS["samples_uniformly"](ball(0.1), x, x, torch.tensor([5, 6]))


@pytest.mark.parametrize("law", REGION_LAWS.values(), ids=REGION_LAWS)
@pytest.mark.parametrize("ball", [Linf(8 / 255), L2(0.5), L1(12.0)], ids=lambda ball: ball.name)
def test_region_of_photographs(ball, law):
    """At 40 000 coordinates reductions are long enough for vector code and, for one row alone, for threads."""
    seed = torch.Generator().manual_seed(1)
    x = (256 * torch.rand(2, 3, 115, 117, generator=seed)).floor() / 255.0 * (255 / 256)
    points = torch.randn(2, 3, 115, 117, generator=seed) * torch.tensor([1e-3, 1.0]).reshape(2, 1, 1, 1)
    law(ball.at(x), points, torch.arange(2))


@laws
@given(case=cases(), ball=st.sampled_from(BALLS))
def test_the_stored_point_obeys_radius_and_box_when_checked_in_float64(case, ball):
    x, points, keys, eps, (lower, upper) = case
    region = ball(eps).at(x, lower, upper)
    for delta in (region.project(points), region.maximiser(points), region.start(keys)):
        assert delta.dtype == x.dtype
        stored = x + delta
        change = (stored.double() - x.double()).reshape(len(x), -1)
        assert (torch.linalg.vector_norm(change, region.ball.p, dim=1) <= region.radius).all()
        assert lower is None or (stored >= lower).all()
        assert upper is None or (stored <= upper).all()


@pytest.mark.parametrize("ball", BALLS)
def test_empty_batch(ball):
    x = torch.zeros(0, 3, 4, 4)
    region = ball(0.1).at(x)
    assert isinstance(region, Region)
    keys = torch.zeros(0, dtype=torch.int64)
    for delta in (region.project(x), region.maximiser(x), region.start(keys), region.ascent(x, x, region.radius, 0.1)):
        assert delta.shape == x.shape
    assert region.contains(x).shape == region.support(x).shape == (0,)


@pytest.mark.parametrize("ball", BALLS)
def test_nan_is_outside_and_stays(ball):
    region = ball(torch.tensor([0.5, 0.5])).at(torch.full((2, 4), 0.5))
    points = torch.tensor([[0.1, torch.nan, 9.0, 0.0], [9.0, 0.0, 0.0, 0.0]])
    projected = region.project(points)
    assert region.contains(points).tolist() == [False, False]
    assert region.contains(projected).tolist() == [False, True]


@pytest.mark.parametrize("ball", BALLS)
def test_arguments_and_global_randomness_are_left_alone(ball):
    x, points, keys = torch.rand(2, 5), torch.randn(2, 5), torch.arange(2)
    before = [v.clone() for v in (x, points, keys)]
    state = torch.get_rng_state()
    region = ball(0.1).at(x)
    (
        region.project(points),
        region.maximiser(points),
        region.start(keys),
        region.ascent(points, points, region.radius, 0.5),
    )
    assert all(torch.equal(a, b) for a, b in zip(before, (x, points, keys), strict=True))
    assert torch.equal(state, torch.get_rng_state())


def test_start_is_another_point_for_another_key_or_counter():
    region = L2(1.0).at(torch.full((3, 6), 0.5))
    keys = torch.tensor([1, 2, 1])
    start = region.start(keys)
    assert torch.equal(start[0], start[2])
    assert not torch.equal(start[0], start[1])
    assert not torch.equal(start, region.start(keys, counter=3))
