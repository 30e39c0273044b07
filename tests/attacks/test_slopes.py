"""One gradient and two forwards tell whether gradients say how the margin changes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import saddlepoint as sp
from saddlepoint.attacks.linearity import HONEST, misled, slope_ratios
from saddlepoint.testing import TRAPS, toys

BOX = (0.0, 1.0)


@given(seed=st.integers(0, 2**16), scale=st.sampled_from([1e-3, 1.0, 1e4]))
def test_of_a_linear_model_the_ratio_is_one(seed, scale):
    torch.manual_seed(seed)
    layer = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)).double()
    x = torch.rand(9, 3, 2, 2, dtype=torch.float64)
    ratios = slope_ratios(lambda x: scale * layer(x), x, torch.zeros(9, dtype=torch.long), BOX)
    torch.testing.assert_close(ratios, torch.ones_like(ratios))
    assert misled(ratios) is None


@pytest.mark.parametrize("factor", [0.0, 0.25, 3.0, 10.0])
def test_a_gradient_that_is_a_part_of_the_truth_is_told(factor):
    torch.manual_seed(0)
    layer, x = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)), torch.rand(20, 3, 2, 2)

    def hidden(x):  # the value changes `factor` times as much as the gradient says
        return factor * layer(x.detach()) + layer(x) - layer(x.detach())

    ratios = slope_ratios(hidden, x, torch.zeros(20, dtype=torch.long), BOX)
    assert misled(ratios) == pytest.approx(factor, abs=0.01)


def test_without_gradients_nothing_is_said():
    x, y = torch.rand(20, 3, 2, 2), torch.zeros(20, dtype=torch.long)
    for model in (lambda x: x.detach().flatten(1)[:, :3], lambda x: x.round().flatten(1)[:, :3]):
        assert misled(slope_ratios(model, x, y, BOX)) is None


@pytest.fixture(scope="module")
def panel():
    x, y = toys.digits()
    return toys.trained(), x[1:61:2], y[1:61:2]


@pytest.mark.parametrize("name", ["rounded units", "k winners take all", "shattered gradients", "detached branch"])
def test_traps_that_hide_a_part_of_the_gradient_are_told(panel, name):
    twin, x, y = panel
    assert misled(slope_ratios(TRAPS[name].defend(twin), x, y, BOX)) is not None
    honest = slope_ratios(twin, x, y, BOX)
    assert HONEST[0] < float(honest.median()) < HONEST[1]


@pytest.mark.parametrize("box", [BOX, None])
def test_fast_says_so(panel, box):
    twin, x, y = panel
    suite = (sp.PGD(steps=3), sp.IfDoubted(sp.PGD(steps=3)))
    with pytest.warns(sp.MaskingWarning, match="gradients mispredict: one grey level along the gradient"):
        sp.attack(TRAPS["rounded units"].defend(twin), x, y, sp.Linf(1 / 16), suite, box=box)
