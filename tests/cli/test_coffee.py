"""The demonstration itself, on the real model: certain, and wrong."""

import json

import pytest

from saddlepoint.cli.main import main
from saddlepoint.data import COFFEE


@pytest.fixture(scope="module")
def coffee(tmp_path_factory):
    """The JSON object of a run of 10 steps, all else by default, and its folder."""
    import contextlib
    import io

    out, folder = io.StringIO(), tmp_path_factory.mktemp("coffee")
    with contextlib.redirect_stdout(out):
        assert main(["attack", "--steps", "10", "--json", "--out", str(folder)]) == 0
    return json.loads(out.getvalue()), folder


def test_the_espresso_is_known_and_then_is_not(coffee):
    found, folder = coffee
    (image,) = found["images"]
    assert image["image"] == str(COFFEE)
    assert (image["clean"]["label"], image["clean"]["name"]) == (967, "espresso")
    assert image["clean"]["probability"] == pytest.approx(0.951, abs=0.002)
    assert image["success"]
    assert image["written"]["success"]
    assert image["adversarial"]["probability"] > 0.9
    assert image["adversarial"]["true_class_probability"] < 1e-4
    assert image["perturbation"]["linf"] <= 2 / 255
    assert sorted(path.name for path in folder.iterdir()) == [
        "coffee.adversarial.png",
        "coffee.figure.png",
        "coffee.perturbation.png",
    ]
