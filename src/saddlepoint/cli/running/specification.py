"""What was asked, and by whom on what: the two documents of a run folder."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from argparse import Namespace
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from saddlepoint.attacks.registry import to_dict
from saddlepoint.cli.attacking.settings import Settings
from saddlepoint.data import in_utf8
from saddlepoint.data.datasets import Dataset

PACKAGES = ("saddlepoint", "torch", "torchvision", "timm", "numpy", "onnx", "pillow")


def specification(given: Namespace, chosen: Settings, data: Dataset) -> dict[str, Any]:
    """Return everything that the rows depend on; a run goes on only under an equal specification."""
    return {
        "kind": "attack",
        "model": {
            "reference": in_utf8(given.model),
            "digest": chosen.classifier.digest(),
            "preprocessing": asdict(chosen.preprocessing),
        },
        "data": {
            "reference": in_utf8(given.data),
            "limit": given.limit,
            "first": given.first,
            "examples": len(data),
            "classes": data.classes and {name: label for label, name in data.classes.items()},
            "shape": data.shape and list(data.shape),
            "content": data.content(),
            "ids": f"sha256:{hashlib.sha256(json.dumps(list(data.ids)).encode()).hexdigest()}",
        },
        "threat": {"norm": chosen.norm, "eps": float(chosen.eps), "box": chosen.bounds and list(chosen.bounds)},
        "attack": [to_dict(step) for step in chosen.suite],
        "stop": str(chosen.stop),
        "seed": chosen.seed,
        "batch_size": min(chosen.batch_size, len(data)),
        "precision": chosen.precision,
    }


def provenance(chosen: Settings) -> dict[str, Any]:
    """Return when, with what software and on what hardware this session works on the run."""
    device = chosen.classifier.device
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["saddlepoint", *map(in_utf8, sys.argv[1:])],
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
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
