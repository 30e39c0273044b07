"""FMN finds the nearest adversarial point: exactly on linear models, at any scale, with the box active or not."""

import pytest
import torch
from torch import nn

import saddlepoint as sp

BALLS = {"linf": sp.Linf, "l2": sp.L2, "l1": sp.L1}


def linear(classes, shape=(2, 3, 4), scale=1.0, seed=0):
    torch.manual_seed(seed)
    layer = nn.Linear(torch.Size(shape).numel(), classes)
    with torch.no_grad():
        layer.weight *= scale
        layer.bias.zero_()
    return sp.Classifier(nn.Sequential(nn.Flatten(), layer)), layer


def closed_form(layer, x, y, ball, low, high):
    """The least distance to the half-space of any other class, inside the box."""
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    z = x.double().flatten(1) @ weight.T + bias
    least = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for label in range(len(weight)):
        normal = (weight[label] - weight[y]).reshape(x.shape)
        gap = z.gather(1, y[:, None]).squeeze(1) - z[:, label]
        move = ball.toward(normal, gap, low - x.double(), high - x.double())
        reached = (normal * move).flatten(1).sum(1) >= gap - 1e-9
        distance = torch.where(reached & (y != label), ball.norm(move), torch.inf)
        least = torch.minimum(least, distance)
    return least


@pytest.mark.parametrize(
    ("norm", "classes", "boxed"),
    [
        pytest.param(
            norm, classes, boxed, marks=[] if (norm, classes, boxed) == ("linf", 10, True) else [pytest.mark.slow]
        )
        for norm in BALLS
        for classes in (2, 10)
        for boxed in (True, False)
    ],
)
def test_distances_of_linear_models_are_exact_and_every_row_is_found(norm, classes, boxed):
    classifier, layer = linear(classes, seed=classes)
    x = torch.rand(24, 2, 3, 4)
    x[::3] = x[::3].round()  # at the corners of the box, where half of all moves are blocked
    y = classifier.predict(x).label
    box = (0.0, 1.0) if boxed else None
    far = {"linf": 1.0, "l2": 5.0, "l1": 24.0}[norm]
    due = closed_form(layer, x, y, BALLS[norm](far), *(box or (-1e6, 1e6)))
    found = sp.attack(classifier, x, y, BALLS[norm](far), sp.FMN(targets=9, steps=100), box=box)
    reachable = due < far * 0.999
    assert reachable.sum() >= 12
    assert bool(found.success[reachable].all())
    ratio = found.norm[reachable] / due[reachable]
    assert float(ratio.max()) <= (1.002 if norm != "l1" else 1.02), ratio
    assert float(ratio.min()) >= 1 - 1e-6


@pytest.mark.parametrize("norm", BALLS)
def test_distances_of_very_different_size_in_one_batch(norm):
    classifier, layer = linear(2)
    normal = layer.weight.detach()[1] - layer.weight.detach()[0]
    x = torch.randn(16, 24)
    x -= (x @ normal)[:, None] / normal.square().sum() * normal  # onto the boundary
    sizes = torch.logspace(-4, 1, 16)
    steepness = BALLS[norm](1.0).dual_norm(normal[None]).float() / normal.square().sum()
    x = (x - sizes[:, None] * steepness * normal).reshape(16, 2, 3, 4)  # at these distances from it
    y = torch.zeros(16, dtype=torch.long)
    assert bool((classifier.predict(x, box=None).label == 0).all())
    due = closed_form(layer, x, y, BALLS[norm](1.0), -1e6, 1e6)
    radii = 4 * due
    found = sp.attack(classifier, x, y, BALLS[norm](radii), sp.FMN(steps=60), box=None)
    assert bool(found.success.all())
    # The last digits of x itself are what distances of 1e-4 end at.
    assert float((found.norm / due).max()) <= (1.01 if norm != "l1" else 1.05)


def test_where_the_gradient_is_zero_a_round_begins_elsewhere():
    class Flat(nn.Module):
        """No gradient near the clean image."""

        def forward(self, x):
            rise = torch.relu((x - 0.5).abs().flatten(1).amax(1) - 0.2)
            return torch.stack([torch.full_like(rise, 0.05), rise], 1)

    x, y = torch.full((5, 1, 4, 4), 0.5), torch.zeros(5, dtype=torch.long)
    with pytest.warns(sp.MaskingWarning):
        found = sp.attack(sp.Classifier(Flat()), x, y, sp.Linf(0.5), sp.FMN(targets=1))
    assert not found.success.any()
    found = sp.attack(sp.Classifier(Flat()), x, y, sp.Linf(0.5), sp.FMN(targets=3))
    assert bool(found.success.all())
    assert float(found.norm.max()) <= 0.26
