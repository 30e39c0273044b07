"""Code that the user names runs; it alone."""

import sys

import pytest
import torch
from torch import nn

from saddlepoint.errors import InputError
from saddlepoint.models import load_classifier, save_classifier
from saddlepoint.testing import toys

SOURCE = """
from dataclasses import dataclass
import torch
from torch import nn
import saddlepoint as sp

@dataclass
class Size:
    classes: int = 3

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, Size().classes))

def whole():
    return sp.Classifier(make(), mean=0.5, std=0.25, names=("a", "b", "c"))

def number():
    return 3

def needs(argument):
    return make()

def fails():
    raise ValueError("a\\nb")

def leaves():
    raise SystemExit("no GPU here")

def loud():
    print("loading")
    return make()

constant = 3
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    (tmp_path / "my_net.py").write_text(SOURCE)
    (tmp_path / "my_broken.py").write_text("def make(:")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("place", ["my_net.py", "./my_net.py", "my_net", "ABSOLUTE"])
def test_a_factory_is_run(source, place):
    place = str(source / "my_net.py") if place == "ABSOLUTE" else place
    plain, whole = load_classifier(f"{place}:make"), load_classifier(f"{place}:whole")
    x = toys.pixels(2, (3, 2, 2))
    assert torch.equal(plain.predict(x).logits, plain.module.eval()(x).detach())
    assert (whole.names, whole.normalises, plain.normalises) == (("a", "b", "c"), True, False)
    assert torch.equal(whole.predict(x).logits, plain.module(4 * (x - 0.5)).detach())


def test_weights_and_normalisation_are_replaced(source):
    other = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    torch.save(other.state_dict(), "w.pth")
    found = load_classifier("my_net.py:make", weights="w.pth", mean=[0.1, 0.2, 0.3], std=0.5)
    x = toys.pixels(2, (3, 2, 2))
    expected = other((x - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / 0.5).detach()
    assert torch.equal(found.predict(x).logits, expected)


REFUSED = {
    "there is no file 'none.py'": "none.py:make",
    "'my_net.py' has no function 'other'": "my_net.py:other",
    "'my_net.py' has no function 'constant'": "my_net.py:constant",
    "returned a int; expected a torch.nn.Module or sp.Classifier": "my_net.py:number",
    "could not call 'my_net.py:needs' \\(TypeError": "my_net.py:needs",
    "could not call 'my_net.py:fails' \\(ValueError: a b in my_net.py, line 25\\)": "my_net.py:fails",
    "could not call 'my_net.py:leaves' \\(SystemExit: no GPU here in my_net.py, line 28\\)": "my_net.py:leaves",
    "could not import 'my_broken.py' \\(SyntaxError": "my_broken.py:make",
    "unknown model 'no_such_package.x:make'": "no_such_package.x:make",
    "could not import 'my_net.inner'": "my_net.inner:make",
    "unknown model 'my_net.py'": "my_net.py",
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_run_is_one_line(source, message):
    with pytest.raises(InputError, match=message) as caught:
        load_classifier(REFUSED[message])
    assert "\n" not in str(caught.value)


def test_opening_a_folder_never_runs_code(source, tmp_path):
    classifier = load_classifier("my_net.py:whole")
    save_classifier(classifier, "saved")
    (source / "my_net.py").write_text(SOURCE + "\nopen('ran', 'w').close()\n")
    with pytest.raises(InputError, match="--model my_net.py:whole --weights saved"):
        load_classifier("saved")
    assert not (source / "ran").exists()
    x = toys.pixels(2, (3, 2, 2))
    again = load_classifier("my_net.py:make", weights="saved")
    assert torch.equal(again.predict(x).logits, classifier.predict(x).logits)
    assert again.names == classifier.names


@pytest.mark.parametrize("package", ["with_init", "without"])
def test_a_package_of_the_working_folder_is_known_without_it_on_the_path(source, package, monkeypatch):
    (source / package).mkdir()
    (source / package / "inner.py").write_text(SOURCE)
    if package == "with_init":
        (source / package / "__init__.py").touch()
    elsewhere = [path for path in sys.path if path not in ("", str(source))]
    monkeypatch.setattr("sys.path", [*elsewhere])
    assert load_classifier(f"{package}.inner:whole").names == ("a", "b", "c")
    assert sys.path == elsewhere


def test_what_code_prints_goes_to_standard_error(source, capsys):
    load_classifier("my_net.py:loud")
    assert capsys.readouterr() == ("", "loading\n")
