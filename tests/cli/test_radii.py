"""One table of default radii, by norm and by the size of images; and radii are written as they were typed."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlepoint.cli.arguments import Number
from saddlepoint.cli.main import main
from saddlepoint.cli.radii import default
from saddlepoint.results import spelled


@pytest.mark.parametrize(
    ("norm", "shape", "eps"),
    [
        ("linf", (1, 28, 28), "0.1"),
        ("linf", (3, 32, 32), "8/255"),
        ("linf", (3, 64, 64), "8/255"),
        ("linf", (3, 224, 224), "4/255"),
        ("linf", None, "4/255"),
        ("l2", (3, 32, 32), "0.5"),
        ("l2", (3, 224, 224), "3"),
        ("l1", (1, 28, 28), "12"),
    ],
)
def test_the_default_fits_the_images(norm, shape, eps):
    found, why = default(norm, shape)
    assert found.text == eps
    assert f"--eps is {eps}, the default in {norm}" in why


@given(st.integers(1, 64))
def test_grey_levels_are_written_as_255ths(greys):
    text = spelled(float(Number(f"{greys}/255")))
    assert Fraction(text) == Fraction(greys, 255)


@given(st.floats(1e-6, 1e3))
def test_no_radius_is_written_as_another(eps):
    assert float(Fraction(spelled(eps))) == pytest.approx(eps, rel=1e-5)


@pytest.mark.parametrize("text", ["0.1", "8/255", "2/255", "0.5", "12", "0.05", "0.3"])
def test_what_was_typed_is_shown(text):
    assert spelled(float(Number(text))) == text


def test_the_command_says_which_radius_it_took_and_why(tmp_path, capsys):
    assert main(["certify", "--limit", "2", "--method", "interval", "--out", str(tmp_path / "run")]) == 0
    assert "--eps is 0.1, the default in linf for grey digits and garments" in capsys.readouterr().out


@pytest.mark.parametrize(("eps", "said"), [("8", "did you mean 8/255"), ("300", "more than all 255 grey levels")])
def test_a_radius_beyond_the_box_is_one_line(eps, said, tmp_path, capsys):
    for command in (["evaluate"], ["attack", "--data", "fashion-mnist-sample", "--model", "fashion-mnist-pgd"]):
        assert main([*command, "--eps", eps, "--out", str(tmp_path / "run")]) == 2
        assert said in capsys.readouterr().err
