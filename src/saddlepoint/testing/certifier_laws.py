"""The law of certifiers, for ours and anyone's: what is certified holds, whatever network it is asked about.

    for seed in range(300):
        never_false(lambda classifier, x, y, ball: my_lower_bounds(classifier, x, y, ball), seed)

A certifier returns a lower bound of min z_y − max_{j≠y} z_j over ball ∩ [0, 1], one per example, in real arithmetic;
it may raise ModelError for a network that it does not know.
"""

import copy
import random
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from saddlepoint.classifier import Classifier
from saddlepoint.errors import LawViolation, ModelError
from saddlepoint.geometry import L1, L2, Ball, Linf, Region
from saddlepoint.losses import margin
from saddlepoint.testing.networks import network
from saddlepoint.typing import Images, Labels, PerExample

Certifier = Callable[[Classifier, Images, Labels, Ball], PerExample]
Outcome = Literal["refused", "open", "certified"]
_POINTS, _STEPS = 48, 12
_ROUNDING = 2e-4
"""What float32 may do to a margin of these networks, as a share of the largest number on the way to it."""


def never_false(certifier: Certifier, seed: int) -> Outcome:
    """Ask about a network that the seed draws, at the largest radius that is certified, and look for a counterexample.

    Looked for at random points and corners of the set, at constant images, and by ascent in float64; in the module as
    it is and, where it bears that, in float64; for one row alone and for many.

    Returns:
        Whether the network was refused, no radius was certified, or one was.

    Raises:
        LawViolation: a certified margin is not that of the module.
    """
    drawn, draw = network(seed), random.Random(seed)  # noqa: S311 - no secrets
    classifier, x = Classifier(drawn.module), drawn.x
    try:
        y = classifier.predict(x).label
        found = _largest(certifier, classifier, x, y, draw)
    except ModelError:
        return "refused"
    if found is None:
        return "open"
    ball, bound = found
    points = _points(ball.at(x.expand(_POINTS, -1, -1, -1)), seed)
    exact = None if any(kind.startswith("typed") for kind in drawn.kinds) else _double(drawn.module, points)
    if exact is not None:
        points = torch.cat([points, _ascended(exact, ball, points, y)])
    size = 1 + _largest_number(drawn.module, points)
    seen = [(drawn.module, _ROUNDING * size, points), (drawn.module, _ROUNDING * size, points[-1:])]
    seen += [] if exact is None else [(exact, 1e-12 * size, points.double())]
    for module, rounding, some in seen:
        with torch.no_grad():
            least = float(margin(module(some).double(), y.expand(len(some))).amin())
        if not least >= bound - rounding:
            raise LawViolation(
                f"seed {seed}: a margin of at least {bound:.6g} was certified in {ball}, and the module has "
                f"{least:.6g} there, where rounding explains {rounding:.2g}: {' → '.join(drawn.kinds)}"
            )
    return "certified"


def _largest(
    certifier: Certifier, classifier: Classifier, x: Images, y: Labels, draw: random.Random
) -> tuple[Ball, float] | None:
    """Return the largest of some radii at which a margin is certified, and the margin."""
    kinds: list[Callable[[float], Ball]] = [Linf, Linf, L2, L1]
    kind, eps = draw.choice(kinds), draw.uniform(0.05, 0.5)
    for _ in range(6):
        bound = float(certifier(classifier, x, y, kind(eps))[0])
        if bound > 0:
            return kind(eps), bound
        eps /= 4
    return None


def _points(region: Region, seed: int) -> Images:
    """Return points of a set: random ones, corners, constant images, and x itself."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(region.x.shape, generator=generator)
    noise[: len(noise) // 3] = noise[: len(noise) // 3].flatten(1).mean(1).reshape(-1, 1, 1, 1).sign()
    radius = float(region.radius[0])
    inner = region.project(noise * radius * torch.rand(len(noise), 1, 1, 1, generator=generator))
    return torch.cat([region.x + region.maximiser(noise), region.x + inner, region.x[:1]])


def _double(module: nn.Module, x: Images) -> nn.Module | None:
    """Return the module in float64, if it can be."""
    try:
        exact = copy.deepcopy(module).double()
        with torch.no_grad():
            return exact if exact(x.double()).dtype == torch.float64 else None
    except (RuntimeError, TypeError):
        return None


def _ascended(module: nn.Module, ball: Ball, points: Images, y: Tensor) -> Images:
    """Return points moved to where the margin is small, by projected gradient steps in float64."""
    region = ball.at(points[-1:].expand_as(points))
    delta = points - region.x
    for step in range(_STEPS):
        at = (region.x + delta).double().requires_grad_()
        try:
            value = margin(module(at), y.expand(len(at))).sum()
            (gradient,) = torch.autograd.grad(value, at)
        except RuntimeError:  # another type on the way, or no gradient
            return points
        far = region.maximiser(-gradient.nan_to_num().float())
        delta = region.project(delta + (far - delta) / (1 + step / 2))
    return region.x + delta


@torch.no_grad()
def _largest_number(module: nn.Module, x: Tensor) -> float:
    """Return the largest number that a module's layers hand on."""
    found = [0.0]
    hooks = [
        part.register_forward_hook(lambda _, __, out: found.append(float(out.abs().amax())))
        for part in module.modules()
        if not isinstance(part, nn.Sequential)
    ]
    try:
        module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return max(found)
