"""By whom, with what and on what a session works on a run: nothing that the records depend on."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from saddlepoint.classifier import Classifier
from saddlepoint.files import in_utf8

PACKAGES = ("saddlepoint", "torch", "torchvision", "timm", "numpy", "onnx", "pillow")


def provenance(classifier: Classifier) -> dict[str, Any]:
    """Return when, with what software and on what hardware this session works on the run."""
    device = classifier.device
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [in_utf8(Path(sys.argv[0]).name), *map(in_utf8, sys.argv[1:])],
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} ({platform.machine()})",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the working folder, with a plus sign when it holds changes; None outside of git."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip() or None
