"""The laws of certifiers, for ours and anyone's: what is certified holds, whatever network it is asked about.

    for law in CERTIFIER_LAWS.values():
        law(lambda classifier, x, y, ball: my_lower_bounds(classifier, x, y, ball))
    for seed in range(300):
        never_false(my_certifier, seed)
    never_looser(my_crown, my_alpha_crown, my_exact_method)

A certifier returns a lower bound of min z_y − max_{j≠y} z_j over ball ∩ [0, 1], one per example, in real arithmetic;
it may raise ModelError for a network that it does not know.
"""

import copy
import random
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saddlepoint.classifier import Classifier
from saddlepoint.errors import LawViolation, ModelError
from saddlepoint.geometry import L1, L2, Ball, Linf, Region
from saddlepoint.losses import margin
from saddlepoint.testing import toys
from saddlepoint.testing.networks import network
from saddlepoint.typing import Images, Labels, PerExample

Certifier = Callable[[Classifier, Images, Labels, Ball], PerExample]
Law = Callable[[Certifier], None]
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
        largest = _largest(certifier, classifier, x, y, draw)
    except ModelError:
        return "refused"
    if largest is None:
        return "open"
    ball, bound = largest
    points = _points(ball.at(x.expand(_POINTS, -1, -1, -1)), seed)
    exact = None if any(kind.startswith("typed") for kind in drawn.kinds) else _double(drawn.module, points)
    if exact is not None:
        points = torch.cat([points, _ascended(exact, ball, points, y)])
    size = 1 + _largest_number(drawn.module, points)
    rounding = max(_ROUNDING * size, 2 * _apart(drawn.module, exact, points, y))
    seen = [(drawn.module, rounding, points), (drawn.module, rounding, points[-1:])]
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
        bound = float(_bounds(certifier, classifier, x, y, kind(eps))[0])
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
def _apart(module: nn.Module, exact: nn.Module | None, points: Tensor, y: Labels) -> float:
    """Return how far margins in float32 are from those in float64: a function may absorb what layers never show."""
    if exact is None:
        return 0.0
    labels = y.expand(len(points))
    apart = margin(module(points).double(), labels) - margin(exact(points.double()), labels)
    return float(apart.abs().amax())


@torch.no_grad()
def _largest_number(module: nn.Module, x: Tensor) -> float:
    """Return the largest number that a module's layers hand on."""
    largest = [0.0]
    hooks = [
        part.register_forward_hook(lambda _, __, out: largest.append(float(out.abs().amax())))
        for part in module.modules()
        if not isinstance(part, nn.Sequential)
    ]
    try:
        module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return max(largest)


def holds_at_samples(certifier: Certifier) -> None:
    """A bound is no greater than the margin at any point of the set: random ones, corners, and steps downhill."""
    for module, ball, x, y in _cases():
        try:
            bound = _bounds(certifier, Classifier(module), x, y, ball)
        except ModelError:  # as of an activation that it does not know
            continue
        points = _points(ball.at(x.expand(_POINTS, -1, -1, -1)), 0)
        points = torch.cat([points, _ascended(copy.deepcopy(module).double(), ball, points, y)])
        with torch.no_grad():
            least = float(margin(module(points).double(), y.expand(len(points))).amin())
        size = 1 + _largest_number(module, points)
        _require(
            float(bound[0]) <= least + _ROUNDING * size, f"{float(bound[0]):.6g} in {ball}; a point has {least:.6g}"
        )


def below_closed_forms(certifier: Certifier) -> None:
    """Of a linear classifier the least margin is z_y − z_j − ε‖w_y − w_j‖_*, where the box of pixels is far."""
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(12, 4)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(4, 12, generator=generator))
    classifier = Classifier(nn.Sequential(nn.Flatten(), linear))
    x = 0.4 + 0.2 * torch.rand(5, 3, 2, 2, generator=generator)
    y = classifier.predict(x).label
    weight, logits = linear.weight.detach().double(), classifier.predict(x).logits.double()
    for ball in (Linf(0.1), L2(0.2), L1(0.3)):
        rows = (weight[y][:, None] - weight).reshape(-1, 3, 2, 2)
        fall = torch.as_tensor(ball.eps) * ball.dual_norm(rows).reshape(5, 4)
        others = logits.gather(1, y[:, None]) - logits - fall
        due = others.scatter(1, y[:, None], torch.inf).amin(1)
        bounds = _bounds(certifier, classifier, x, y, ball).double()
        _require(bool((bounds <= due + 1e-5).all()), f"bounds {bounds.tolist()} in {ball}; exact are {due.tolist()}")


def below_brute_force(certifier: Certifier) -> None:
    """Of a tiny ReLU network the least margin is known: one linear program for each pattern of active neurons."""
    for seed in range(4):
        layers, classifier, x, y = _tiny(seed)
        for eps in (0.05, 0.3):
            due = min(least_margin(layers, x, eps, int(y), other) for other in {0, 1, 2} - {int(y)})
            bound = float(_bounds(certifier, classifier, x, y, Linf(eps))[0])
            _require(bound <= due + 1e-5, f"a bound of {bound:.6g} at eps {eps}, seed {seed}; the least is {due:.6g}")


def sees_what_is_planted(certifier: Certifier) -> None:
    """A small cube where another class wins, to which no gradient leads, is never certified away."""
    module, x = _Planted().eval(), torch.full((1, 1, 2, 2), 0.6)
    bound = float(_bounds(certifier, Classifier(module), x, torch.tensor([0]), Linf(0.11))[0])
    _require(not bound > 0, f"a margin of {bound:.6g} was certified around a point of another class")


def certifies_no_mistake(certifier: Certifier) -> None:
    """What is misclassified at x itself is never certified, at any radius."""
    classifier, x = toys.convolutional(), toys.pixels(6, (3, 6, 5))
    wrong = (classifier.predict(x).label + 1) % 4
    for eps in (0.0, 0.02):
        bound = _bounds(certifier, classifier, x, wrong, Linf(eps))
        _require(not bool((bound > 0).any()), f"bounds {bound.tolist()} of misclassified examples at eps {eps}")


def is_the_same_in_any_company(certifier: Certifier) -> None:
    """The bound of an example does not depend on which others it is asked about with."""
    classifier, x = toys.convolutional(), toys.pixels(7, (3, 6, 5))
    y = classifier.predict(x).label
    whole = _bounds(certifier, classifier, x, y, Linf(0.01))
    for rows in ([3], [6, 3], [5, 4, 3, 2]):
        part = _bounds(certifier, classifier, x[rows], y[rows], Linf(0.01))
        _require(torch.equal(part, whole[rows]), f"beside others, bounds of the rows {rows} are {part.tolist()}")


def refuses_what_is_no_number(certifier: Certifier) -> None:
    """A weight that is NaN or infinite leads to an error or to no certificate."""
    for poison in (torch.nan, torch.inf):
        module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        with torch.no_grad():
            module[1].weight[1, 2] = poison  # type: ignore[operator]
        try:
            bound = _bounds(certifier, Classifier(module), torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]), Linf(0.1))
        except ModelError:
            continue
        _require(not bool((bound > 0).any()), f"{float(bound[0]):.6g} was certified with a weight that is {poison}")


CERTIFIER_LAWS: dict[str, Law] = {
    law.__name__: law
    for law in (
        holds_at_samples,
        below_closed_forms,
        below_brute_force,
        sees_what_is_planted,
        certifies_no_mistake,
        is_the_same_in_any_company,
        refuses_what_is_no_number,
    )
}


def never_looser(*certifiers: Certifier, slack: float = 1e-3) -> None:
    """Each certifier's bound is no smaller than those of the certifiers before it, such as CROWN ≤ α-CROWN ≤ exact.

    Args:
        certifiers: from loose to tight.
        slack: what rounding and a solver may take.

    Raises:
        LawViolation: one is smaller.
    """
    for seed in range(6):
        _, classifier, x, y = _tiny(seed)
        for eps in (0.02, 0.1, 0.4):
            bounds = [float(_bounds(certifier, classifier, x, y, Linf(eps))[0]) for certifier in certifiers]
            _require(all(a <= b + slack for a, b in pairwise(bounds)), f"bounds {bounds} at eps {eps}, seed {seed}")


def _bounds(certifier: Certifier, classifier: Classifier, x: Images, y: Labels, ball: Ball) -> PerExample:
    """Return what a certifier says, held to what it must look like."""
    bounds = certifier(classifier, x, y, ball)
    if not isinstance(bounds, Tensor) or bounds.shape != y.shape:
        shape = f" of shape {tuple(bounds.shape)}" if isinstance(bounds, Tensor) else ""
        raise LawViolation(
            f"the certifier returned a {type(bounds).__name__}{shape}; expected a tensor of {len(y)} lower bounds"
        )
    return bounds


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise LawViolation(message)


def _cases() -> Iterator[tuple[nn.Module, Ball, Images, Labels]]:
    """Yield ordinary networks with a ball of each norm, small and large."""
    convolutional = toys.convolutional().module.eval()
    dense = nn.Sequential(nn.Flatten(), nn.Linear(90, 12), nn.Tanh(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in dense.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=draw))
    x = toys.pixels(1, (3, 6, 5))
    for module, ball in product(
        (convolutional, dense.eval()), (Linf(0.0), Linf(0.01), Linf(0.2), L2(0.1), L2(1.0), L1(0.5))
    ):
        yield module, ball, x, Classifier(module).predict(x).label


def _tiny(seed: int) -> tuple[list[nn.Linear], Classifier, Images, Labels]:
    """Return a network of eight ReLUs and an image of four pixels."""
    draw = torch.Generator().manual_seed(seed)
    layers = [nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(3, 3)]
    with torch.no_grad():
        for parameter in (parameter for layer in layers for parameter in layer.parameters()):
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=draw))
    module = nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    classifier, x = Classifier(module), torch.rand(1, 1, 2, 2, generator=draw)
    return layers, classifier, x, classifier.predict(x).label


def least_margin(layers: list[nn.Linear], x: Images, eps: float, label: int, other: int) -> float:
    """Return min z_label − z_other over cube ∩ [0, 1], as `least_largest` does.

    Args:
        layers: three, of a ReLU network of four pixels and eight neurons.
        x: one image.
        eps: of the cube.
        label: whose margin it is.
        other: over which class.
    """
    unit = np.eye(layers[2].out_features)
    return least_largest(layers, x, eps, unit[[label]] - unit[[other]])


def least_largest(layers: list[nn.Linear], x: Images, eps: float, rows: NDArray[np.float64]) -> float:
    """Return min over cube ∩ [0, 1] of max_k ⟨r_k, z⟩; on the polytope of each pattern of active ReLUs z is linear.

    Args:
        layers: three, of a ReLU network of four pixels and eight neurons.
        x: one image.
        eps: of the cube.
        rows: r, (K, classes).
    """
    from scipy.optimize import linprog

    weights = [(part.weight.detach().double().numpy(), part.bias.detach().double().numpy()) for part in layers]
    low, high = ((x.double() + side).clamp(0, 1).flatten().numpy() for side in (-eps, eps))
    best, ends = np.inf, np.stack([np.append(low, -np.inf), np.append(high, np.inf)], 1)
    for pattern in product([0, 1], repeat=8):
        matrix, offset, left, right = np.eye(4), np.zeros(4), [], []
        for (weight, bias), active in zip(weights[:2], (np.array(pattern[:5]), np.array(pattern[5:])), strict=True):
            matrix, offset = weight @ matrix, weight @ offset + bias
            turn = np.where(active, -1.0, 1.0)  # active: z ≥ 0, else z ≤ 0
            left.append(np.pad(turn[:, None] * matrix, ((0, 0), (0, 1))))
            right.append(-turn * offset)
            matrix, offset = active[:, None] * matrix, active * offset
        weight, bias = weights[2]
        # The last variable is above every row.
        left.append(np.pad(rows @ weight @ matrix, ((0, 0), (0, 1)), constant_values=-1.0))
        right.append(-rows @ (weight @ offset + bias))
        solution = linprog(np.eye(5)[4], np.concatenate(left), np.concatenate(right), bounds=ends)
        if solution.success:
            best = min(best, solution.fun)
    return float(best)


class _Planted(nn.Module):
    """Class 0 everywhere but in a cube of width 2·10⁻³ around one point, where gradients do not lead."""

    def forward(self, x: Images) -> Tensor:
        """Return (1, bump − 1/2)."""
        distance = (x - 0.5).abs().flatten(1).sum(1, keepdim=True)
        bump = torch.relu(1e-3 - distance) * 4e3
        return torch.cat([torch.ones_like(bump), bump - 0.5], 1)
