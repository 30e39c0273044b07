"""The laws catch the mistakes that are made in the field; each is planted here and must be seen."""

import pytest
import torch

from saddlepoint.errors import LawViolation
from saddlepoint.geometry import L1, L2, Linf, Region
from saddlepoint.geometry.norms import beside, spread
from saddlepoint.testing.ball_laws import BALL_LAWS, REGION_LAWS


def shrunk(region, delta):
    return delta * spread((region.radius / region.ball.norm(delta)).clamp(max=1), delta)


class Radial(Region):
    """A rescaled point lies in the ball, but is not the nearest: foolbox in ℓ1."""

    def project(self, delta):
        return torch.where(beside(self.contains(delta), delta), delta, self._settle(self._boxed(shrunk(self, delta))))

    def _boxed(self, delta):
        return torch.clamp(delta, self.low, self.high)


class ClampedFirst(Radial):
    """Clipping to the box before rescaling is not the nearest point of the intersection either."""

    def project(self, delta):
        near = self._settle(shrunk(self, self._boxed(delta)))
        return torch.where(beside(self.contains(delta), delta), delta, near)


class BlownUp(Radial):
    """Clamping δ instead of the factor brings the inside to the surface: adv-lib in ℓ2."""

    def project(self, delta):
        unit = delta / spread(self.ball.norm(delta).clamp(min=1e-12), delta)
        return self._settle(self._boxed(unit * spread(self.radius, delta)))


class Loose(Region):
    """Without rounding inward, the stored point is too far by an ulp."""

    def project(self, delta):
        return self.ball.nearest(delta, self.radius, self.low, self.high)


class NoBox(Region):
    def support(self, g):
        return self.radius * self.ball.dual_norm(g)


class Gossip(Region):
    """A statistic over the batch, where rows must not hear of each other."""

    def project(self, delta):
        return super().project(delta - 0.01 * delta.mean(0))


class Pulled(L2):
    """A uniform radius instead of U^{1/d}: torchattacks in ℓ2."""

    def uniform(self, keys, counter, shape):
        points = super().uniform(keys, counter, shape)
        return points / spread(self.norm(points), points) * spread(self.norm(points) ** points[0].numel(), points)


class Signed(L2):
    def steepest(self, g, sparsity=0.0):
        return g.sign()


class Dense(L1):
    def steepest(self, g, sparsity=0.0):
        return g / spread(g.abs().sum(1), g)


class Deaf(Linf):
    """A radius that is averaged over the batch."""

    def at(self, x, lower=0.0, upper=1.0):
        eps = self.eps.mean() if isinstance(self.eps, torch.Tensor) else self.eps
        return Linf(float(eps)).at(x, lower, upper)


SEED = torch.Generator().manual_seed(3)
X, KEYS = torch.rand(4, 12, generator=SEED), torch.arange(4)
POINTS = torch.randn(4, 12, generator=SEED) * torch.tensor([0.02, 0.3, 1.0, 5.0])[:, None]


@pytest.mark.parametrize(
    ("planted", "ball", "law"),
    [
        (Radial, L1(0.7), "projects_to_the_nearest"),
        (Radial, L2(0.7), "projects_to_the_nearest"),
        (ClampedFirst, L2(0.7), "projects_to_the_nearest"),
        (ClampedFirst, L1(0.7), "projects_to_the_nearest"),
        (BlownUp, L2(0.7), "keeps_the_inside"),
        (Loose, L2(0.5), "projects_inside"),
        (Loose, L1(0.7), "projects_inside"),
        (NoBox, L2(2.0), "supports"),
        (NoBox, Linf(0.7), "supports"),
        (Gossip, L2(0.7), "keeps_rows_apart"),
    ],
)
def test_wrong_region_is_caught(planted, ball, law):
    region = ball.at(X)
    wrong = planted(region.ball, region.x, region.low, region.high)
    REGION_LAWS[law](region, POINTS, KEYS)
    with pytest.raises(LawViolation, match=rf"{ball.name} ball in row \d"):
        REGION_LAWS[law](wrong, POINTS, KEYS)


@pytest.mark.parametrize(
    ("planted", "sound", "law"),
    [
        (Pulled, L2, "samples_uniformly"),
        (Signed, L2, "steps_steepest"),
        (Dense, L1, "steps_steepest"),
        (Deaf, Linf, "takes_one_radius_per_row"),
    ],
)
def test_wrong_ball_is_caught(planted, sound, law):
    BALL_LAWS[law](sound(0.7), X, POINTS, KEYS)
    with pytest.raises(LawViolation, match=planted.name):
        BALL_LAWS[law](planted(0.7), X, POINTS, KEYS)
