"""The laws of balls and regions, to hold against one's own: each is a function that raises `LawViolation` or returns.

    for law in REGION_LAWS.values():
        law(region, d, keys)      # any points d in the shape of region.x, one random key per row
    for law in BALL_LAWS.values():
        law(ball, x, d, keys)         # any x in [0, 1]

Membership, identity and row-wise invariance are exact. Inequalities allow for the rounding of x's type, no more: a
region rounds inward by a few units in the last place of x + δ.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from saddlepoint.errors import LawViolation
from saddlepoint.geometry.maximisers import inner
from saddlepoint.geometry.norms import row_sum, wide, working
from saddlepoint.geometry.regions import Ball, Region
from saddlepoint.typing import Images, Keys, Mask, PerExample

RegionLaw = Callable[[Region, Images, Keys], None]
BallLaw = Callable[[Ball, Images, Images, Keys], None]


def projects_inside(region: Region, d: Images, keys: Keys) -> None:
    """P(d), the maximiser and the start lie in Δ, with no tolerance."""
    for what, point in (
        ("project", region.project(d)),
        ("maximiser", region.maximiser(d)),
        ("start", region.start(keys)),
    ):
        excess = region.ball.norm(wide(region.x + point) - wide(region.x)) - region.radius
        _hold(region.contains(point), f"{what} lands inside", region.ball, excess)


def keeps_the_inside(region: Region, d: Images, keys: Keys) -> None:
    """P(z) is z, bit for bit, for z ∈ Δ."""
    for z in (region.project(d), region.start(keys), torch.zeros_like(region.x), region.project(d / 2)):
        again = region.project(z)
        _hold(_same(again, z), "project is the identity inside", region.ball, region.ball.norm(wide(again) - wide(z)))


def projects_to_the_nearest(region: Region, d: Images, keys: Keys) -> None:
    """⟨d − P(d), z − P(d)⟩ ≤ 0 for z ∈ Δ (variational inequality); z = maximiser(d − P(d)) makes it a certificate."""
    p = region.project(d)
    away = wide(d) - wide(p)
    for z in (region.maximiser(away), region.start(keys), torch.zeros_like(p)):
        step = wide(z) - wide(p)
        excess = inner(away, step) - _slack(region, away, p, z) - _slack(region, step, p, z)
        _hold(excess <= 0, "project is the nearest point (variational inequality)", region.ball, excess)


def supports(region: Region, g: Images, keys: Keys) -> None:
    """support(g) = ⟨g, maximiser(g)⟩ ≥ ⟨g, z⟩ for z ∈ Δ."""
    best = region.maximiser(g)
    gap = (region.support(g) - inner(g, best)).abs() - _slack(region, g, best, best)
    _hold(gap <= 0, "support is attained by the maximiser", region.ball, gap)
    for z in (region.start(keys), region.project(g), torch.zeros_like(best)):
        excess = inner(g, z) - region.support(g) - 1e-12 * region.radius * region.ball.dual_norm(g)
        _hold(excess <= 0, "support bounds every point", region.ball, excess)


def ascends(region: Region, g: Images, keys: Keys) -> None:
    """From δ ∈ Δ, the step has at most its length, and goes up; in a coupled ball it stays in the box as well."""
    delta, length = region.project(region.start(keys)), region.radius / 3
    step = region.ascent(g, delta, length)
    rounding = 1 + 16 * torch.finfo(g.dtype).eps
    excess = region.ball.norm(step) - rounding * length - _floor(region, torch.ones_like(g))
    _hold(excess <= 0, "a step has at most its length", region.ball, excess)
    _hold(inner(g, step) >= 0, "a step goes up", region.ball, -inner(g, step))


def encloses(region: Region, d: Images, keys: Keys) -> None:
    """Bounds of x + δ hold every point of Δ, stored and real, and lie in the box and within ε but for a last bit."""
    lower, upper = region.enclosure()
    x = wide(region.x)
    for what, delta in (("projections", region.project(d)), ("maximisers", region.maximiser(d))):
        for point in (x + wide(delta), wide(region.x + delta)):
            inside = ((point >= lower) & (point <= upper)).reshape(len(d), -1).all(1)
            _hold(inside, f"the enclosure holds {what}", region.ball)
    reach = region.radius.reshape(-1, *[1] * (x.ndim - 1))
    grain = 4 * torch.finfo(x.dtype).eps * (x.abs() + reach) + torch.finfo(x.dtype).tiny
    tight = (lower >= x - reach - grain) & (upper <= x + reach + grain)
    _hold(tight.reshape(len(d), -1).all(1), "the enclosure is no wider than the ball", region.ball)


def takes_several_functionals(region: Region, g: Images, keys: Keys) -> None:
    """Supports and maximisers of several g per row are those of each."""
    several = torch.stack([g, -g, g / 2], 1)
    support, best = region.support(several), region.maximiser(several)
    for k in range(several.shape[1]):
        _hold(support[:, k] == region.support(several[:, k]), f"support of functional {k} of several", region.ball)
        _hold(_same(best[:, k], region.maximiser(several[:, k])), f"maximiser of functional {k}", region.ball)


def keeps_rows_apart(region: Region, d: Images, keys: Keys) -> None:
    """Each row comes out as it does alone, bit for bit."""
    whole = _answers(region, d, keys)
    for i in range(len(d)):
        radius = region.radius[i : i + 1]
        x, low, high = (v[i : i + 1] for v in (region.x, region.low, region.high))
        alone = Region(replace(region.ball, eps=radius), x, low, high)
        for what, answer in _answers(alone, d[i : i + 1], keys[i : i + 1]).items():
            same = torch.arange(len(d), device=d.device) != i
            same[i] = torch.equal(answer, whole[what][i : i + 1])
            _hold(same, f"{what} is the same alone and among others", region.ball)


def steps_steepest(ball: Ball, x: Images, g: Images, keys: Keys) -> None:
    """⟨g, steepest(g)⟩ = ‖g‖_* with ‖steepest(g)‖ ≤ 1.

    Args:
        ball: the ball under test.
        x: images in [0, 1], (B, C, H, W).
        g: any points of that shape.
        keys: one random key for each row, (B,).
    """
    v, rounding = ball.steepest(g), 16 * torch.finfo(g.dtype).eps
    gap = (inner(g, v) - ball.dual_norm(g)).abs() - rounding * ball.dual_norm(g) - torch.finfo(g.dtype).tiny
    _hold(gap <= 0, "steepest attains the dual norm", ball, gap)
    _hold(ball.norm(v) <= 1 + rounding, "steepest has norm at most 1", ball, ball.norm(v) - 1)


def supports_by_the_dual_norm(ball: Ball, x: Images, g: Images, keys: Keys) -> None:
    """Without a box, support(g) = ε‖g‖_*."""
    region = ball.at(torch.zeros_like(x), None, None)
    exact = region.radius * ball.dual_norm(g)
    gap = (region.support(g) - exact).abs() - 4 * torch.finfo(x.dtype).eps * exact - _floor(region, g)
    _hold(gap <= 0, "support of the bare ball is the dual norm", ball, gap)


def samples_uniformly(ball: Ball, x: Images, d: Images, keys: Keys) -> None:
    """Of 2000 samples all lie inside, and (‖v‖/ε)^dimension is uniform on [0, 1] (Kolmogorov–Smirnov, level 10⁻⁵).

    Args:
        ball: the ball under test.
        x: images in [0, 1], (B, C, H, W).
        d: any points of that shape.
        keys: one random key for each row, (B,).
    """
    many = keys[0] + torch.arange(2000, device=x.device)
    points = replace(ball, eps=1.0).sample(many, working(x[:1]).expand(len(many), *x.shape[1:]))
    norm = ball.norm(points)
    _hold(norm <= 1, "samples lie inside", ball, norm - 1)
    volume = (norm ** x.shape[1:].numel()).sort().values
    steps = torch.arange(len(many) + 1, dtype=volume.dtype, device=volume.device) / len(many)
    statistic = torch.maximum(steps[1:] - volume, volume - steps[:-1]).max()
    excess = (statistic - 2.47 / math.sqrt(len(many))).expand(1)
    _hold(excess <= 0, "samples are uniform (Kolmogorov–Smirnov)", ball, excess)


def grows_with_its_radius(ball: Ball, x: Images, d: Images, keys: Keys) -> None:
    """A larger ε brings the projection no farther from d and the support no lower."""
    small, large = ball.at(x), replace(ball, eps=2 * ball.eps).at(x)
    near, far = (wide(d) - wide(region.project(d)) for region in (large, small))
    slack = _slack(large, near, d - near.to(d.dtype), d - near.to(d.dtype))
    excess = (inner(near, near) - inner(far, far)) / 2 - slack - _slack(small, far, *(2 * [small.project(d)]))
    _hold(excess <= 0, "a larger radius projects nearer", ball, excess)
    best = small.maximiser(d)
    excess = small.support(d) - large.support(d) - _slack(small, d, best, best)
    _hold(excess <= 0, "a larger radius supports more", ball, excess)


def vanishes_at_zero(ball: Ball, x: Images, d: Images, keys: Keys) -> None:
    """The ball of radius 0 is {0}."""
    region = replace(ball, eps=0.0).at(x)
    for what, point in _answers(region, d, keys[: len(d)]).items():
        if what != "contains":
            _hold(wide(point).reshape(len(d), -1).eq(0).all(1), f"{what} is 0 for radius 0", ball)


def takes_one_radius_per_row(ball: Ball, x: Images, d: Images, keys: Keys) -> None:
    """Radii of a batch act as in separate calls."""
    radii = torch.linspace(0, 1, len(x), dtype=torch.float64, device=x.device)
    whole = _answers(replace(ball, eps=radii).at(x), d, keys[: len(d)])
    for i in range(len(x)):
        alone = replace(ball, eps=float(radii[i])).at(x[i : i + 1])
        for what, answer in _answers(alone, d[i : i + 1], keys[i : i + 1]).items():
            same = torch.equal(answer, whole[what][i : i + 1])
            _hold(torch.tensor([same]), f"{what} takes row {i}'s own radius", ball)


REGION_LAWS: dict[str, RegionLaw] = {
    law.__name__: law
    for law in (
        projects_inside,
        keeps_the_inside,
        projects_to_the_nearest,
        supports,
        ascends,
        encloses,
        takes_several_functionals,
        keeps_rows_apart,
    )
}
BALL_LAWS: dict[str, BallLaw] = {
    law.__name__: law
    for law in (
        steps_steepest,
        supports_by_the_dual_norm,
        samples_uniformly,
        grows_with_its_radius,
        vanishes_at_zero,
        takes_one_radius_per_row,
    )
}


def _answers(region: Region, d: Images, keys: Keys) -> dict[str, Tensor]:
    p = region.project(d)
    return {
        "project": p,
        "contains": region.contains(d),
        "maximiser": region.maximiser(d),
        "support": region.support(d),
        "start": region.start(keys),
        "ascent": region.ascent(d, p, region.radius / 2, 0.3),
    }


def _same(a: Images, b: Images) -> Mask:
    return (a == b).reshape(len(a), -1).all(1)


def _slack(region: Region, a: Images, p: Images, z: Images) -> PerExample:
    """Bound what ⟨a, ·⟩ can lose when p and z move by rounding: a few units of x + δ, and of ε along the ball."""
    eps = torch.finfo(region.x.dtype).eps
    grain = 4 * eps * (wide(region.x).abs() + wide(p).abs() + wide(z).abs())
    return row_sum(wide(a).abs() * grain) + 32 * eps * region.radius * region.ball.dual_norm(a) + _floor(region, a)


def _floor(region: Region, a: Images) -> PerExample:
    """Bound what underflow can lose of ⟨a, ·⟩."""
    return torch.finfo(region.x.dtype).tiny * row_sum(wide(a).abs())


def _hold(holds: Mask, law: str, ball: Ball, excess: PerExample | None = None) -> None:
    if not bool(holds.all()):
        row = int((~holds).nonzero()[0])
        amount = "" if excess is None else f" by {excess[row].item():.3g}"
        raise LawViolation(f"{law}: violated by the {ball.name} ball in row {row}{amount}")
