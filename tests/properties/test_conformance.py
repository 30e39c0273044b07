"""The published conformance cases of VNN-LIB 2.0: every answer right, or refused in one line."""

import importlib.util
import sys
from pathlib import Path

import onnx
import pytest

from saddlepoint.errors import InputError, ModelError
from saddlepoint.properties import prove

REFUSED = {
    "arithmetic_lin01", "arithmetic_lin02",  # a constraint of several inputs
    "arithmetic_poly01", "arithmetic_poly02", "arithmetic_poly03", "arithmetic_poly04",
    "cast07", "cast08", "shape01", "shape02", "shape03", "shape04",  # inputs of integers
    "hidden01", "hidden02", "hidden03", "hidden04", "hidden05",
    "maxpool03",  # an input without a bound
    "multi_io01", "multi_io02", "multi_io03", "multi_io04",
    "network_equal01", "network_isomorphic01", "network_isomorphic02", "network_multiple01",  # two networks
    "cast01", "cast03", "cast05", "equal01", "equal03", "equal05", "where01", "where03", "where05",  # steps
    "div01", "div03", "mul03", "pow01", "pow03", "softmax01", "softmax03", "softmax04", "softmax05",  # no bounds
}  # fmt: skip
"""What this version cannot prove, and says so."""


def cases():
    """Return every case: a file that builds a network and a property, and says the answer."""
    root = pytest.importorskip("vnntest.core.tests")
    return sorted(Path(root.__path__[0]).glob("*/[!_]*.py"))


def answer(path, folder):
    """Write the network and the property of a case, and return the right answer."""
    spec = importlib.util.spec_from_file_location("case", path)
    case = importlib.util.module_from_spec(spec)
    sys.modules["case"] = case  # where a script looks for its own names
    spec.loader.exec_module(case)
    classes = (value for value in vars(case).values() if isinstance(value, type) and value.__module__ == "case")
    case = next((kind() for kind in classes if hasattr(kind, "build_onnx_model")), case)
    model = case.build_onnx_model()
    model = next(iter(model.values())) if isinstance(model, dict) else model
    onnx.save(model[0] if isinstance(model, list | tuple) else model, folder / "net.onnx")
    (folder / "prop.vnnlib").write_text(str(case.build_vnnlib_spec()))
    expected = case.return_expected_output()
    return str(getattr(expected, "value", expected)).lower()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_case_is_right_or_refused(tmp_path):
    wrong, refused, count = {}, dict[str, str](), 0
    for path in cases():
        expected, short = answer(path, tmp_path), path.stem
        count += 1
        try:
            outcome = prove(tmp_path / "net.onnx", tmp_path / "prop.vnnlib", timeout=20).outcome
        except (InputError, ModelError) as error:
            refused[short] = str(error)
            continue
        if outcome != expected:
            wrong[short] = outcome
    assert count >= 170
    assert wrong == {}
    assert set(refused) <= REFUSED
    assert not any("\n" in line for line in refused.values())
