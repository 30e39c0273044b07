"""A stranger finds his way: names once, faces that agree, nothing less explained than it was."""

import ast
import importlib.util
from pathlib import Path

import saddlepoint as sp

ROOT = Path(__file__).parents[1]
_SPEC = importlib.util.spec_from_file_location("house", ROOT / "benchmarks" / "house.py")
house = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(house)

COMMENTS = 0.007
"""The share of lines that give a reason: this rises, and never falls."""


def test_no_two_modules_have_one_name():
    assert house.repeated(house.modules()) == {}


def test_names_say_what_a_value_is():
    assert house.says_nothing(house.modules()) == []


def test_the_faces_agree():
    """What is exported, what is loaded on demand, and what type checkers see are the same names."""
    tree = ast.parse((ROOT / "src/saddlepoint/__init__.py").read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname or alias.name for node in checked.body for alias in node.names}
    assert seen == set(sp._HOME) == set(sp.__all__) - {"__version__"}


def test_functions_of_four_parameters_say_what_they_are():
    assert house.without_args(house.modules()) == []


def test_what_has_a_reason_keeps_it():
    modules = house.modules()
    assert sum(module.comments for module in modules) >= COMMENTS * sum(module.lines for module in modules)
