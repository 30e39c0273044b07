"""Lines of smooth activations, against points of the interval; any slope is sound."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import saddlepoint as sp
from saddlepoint.certificates import smooth

ALL = {name: getattr(smooth, name) for name in ("SIGMOID", "TANH", "GELU", "SILU", "SOFTPLUS", "ELU")}
NUMBER = st.floats(-30, 30)


@pytest.mark.parametrize("name", ALL)
@given(NUMBER, NUMBER, st.floats(-3, 3), st.sampled_from([torch.float32, torch.float64]))
def test_no_point_leaves_the_lines_or_the_range(name, one, other, slope, dtype):
    activation = ALL[name]
    lower, upper = (torch.tensor([[side]], dtype=dtype) for side in sorted((one, other)))
    x = torch.linspace(0, 1, 999, dtype=torch.float64) * (upper - lower).double() + lower.double()
    values = activation.forward(x)
    lines = activation.lines(lower, upper, torch.tensor([[slope]], dtype=dtype))
    below = lines.lower_slope.double() * x + lines.lower_intercept.double()
    above = lines.upper_slope.double() * x + lines.upper_intercept.double()
    assert (below <= values + 1e-12).all()
    assert (above >= values - 1e-12).all()
    low, high = activation.interval(lower, upper)
    assert (low.double() <= values).all()
    assert (high.double() >= values).all()


@pytest.mark.parametrize("name", ALL)
def test_the_curvature_bounds_the_second_derivative(name):
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(ALL[name].forward(x).sum(), x)
    steps = slope.diff().abs() / x.detach().diff()
    assert steps.max() <= ALL[name].curvature
    assert steps.max() >= 0.95 * ALL[name].curvature


@pytest.mark.parametrize("name", ["GELU", "SILU"])
def test_the_dip_is_where_the_derivative_is_zero(name):
    x = torch.tensor(ALL[name].dip, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(ALL[name].forward(x), x)
    assert abs(slope.item()) < 1e-7


def test_alpha_crown_moves_the_slopes_of_smooth_networks():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2)
    classifier, x = sp.Classifier(module), torch.rand(3, 1, 4, 4)
    y = classifier.predict(x).label
    bounds = {
        name: sp.certify(classifier, x, y, sp.Linf(0.2), method=name).lower_bound for name in ("crown", "alpha-crown")
    }
    assert (bounds["alpha-crown"] >= bounds["crown"] - 1e-6).all()
    assert (bounds["alpha-crown"] > bounds["crown"] + 1e-3).any()
    with pytest.raises(sp.ModelError, match="is no ReLU, of which programs are made"):
        sp.certify(classifier, x, y, sp.Linf(0.2), method="milp")


def test_other_settings_are_one_line():
    classifier = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.GELU("tanh"), nn.Linear(4, 2)))
    with pytest.raises(sp.ModelError, match="has the setting approximate = 'tanh'; expected its default"):
        sp.certify(classifier, torch.rand(1, 1, 2, 2), torch.tensor([0]), sp.Linf(0.1))
