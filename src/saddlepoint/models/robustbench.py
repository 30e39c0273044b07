"""RobustBench's model zoo (Croce et al. 2021), through its own package where the user has it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from saddlepoint.classifier import Classifier, Preprocessing
from saddlepoint.errors import InputError
from saddlepoint.models.hub import fetched
from saddlepoint.models.weights import fit, read_weights
from saddlepoint.models.zoo import imagenet_names

FORM = "robustbench:ID[:DATASET[:THREAT]]"
DATASETS, THREATS = ("cifar10", "cifar100", "imagenet"), ("Linf", "L2", "corruptions")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load(place: str | None, weights: Path | None) -> Classifier:
    """Return a model of the zoo; it normalises pixels in [0, 1] itself. CIFAR-10 and Linf when they are not named."""
    name, dataset, threat, *rest = f"{place or ''}::".split(":")
    dataset, threat = dataset or "cifar10", threat or "Linf"
    if not name or dataset not in DATASETS or threat not in THREATS or any(rest):
        datasets, threats = " or ".join(DATASETS), " or ".join(THREATS)
        raise InputError(f"unknown model 'robustbench:{place or ''}': expected {FORM}, {datasets}, {threats}")
    load_model, preprocessing = _package()
    folder = Path(torch.hub.get_dir()) / "robustbench"
    with patch.dict(os.environ, TORCH_FORCE_WEIGHTS_ONLY_LOAD="1"):
        module = fetched(f"robustbench:{place}", lambda: load_model(name, folder, dataset, threat))
    if weights is not None:
        fit(module, read_weights(weights), str(weights))
    names = {"cifar10": CIFAR10, "imagenet": tuple(imagenet_names())}.get(dataset)
    return Classifier(module, names=names, preprocessing=_translated(preprocessing(name, dataset, threat)))


def _package() -> tuple[Callable[..., Any], Callable[[str, str, str], Any]]:
    """Return RobustBench's functions that give a model, and torchvision's transforms for its images."""
    try:
        from robustbench.data import get_preprocessing
        from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel
        from robustbench.utils import load_model
    except ImportError:
        raise InputError("robustbench: references need its package; pip install robustbench") from None
    return load_model, lambda name, dataset, threat: get_preprocessing(
        BenchmarkDataset(dataset), ThreatModel(threat), name, None
    )


def _translated(transforms: Any) -> Preprocessing:  # noqa: ANN401 - torchvision has no types
    """Return torchvision's transforms of one model as data."""
    known: dict[str, Any] = {}
    for step in transforms.transforms:
        kind = type(step).__name__
        if kind == "Resize":
            squash = not isinstance(step.size, int) and len(step.size) == 2
            known |= {"resize": _side(step), "interpolation": step.interpolation.value, "squash": squash}
        elif kind == "CenterCrop":
            known["crop"] = _side(step)
        elif kind not in ("ToTensor", "MaybeToTensor"):
            raise InputError(f"the model's images pass through {step!r}; expected Resize, CenterCrop and ToTensor")
    return Preprocessing(**known)


def _side(step: Any) -> int:  # noqa: ANN401
    sides = {step.size} if isinstance(step.size, int) else set(step.size)
    if len(sides) != 1:
        raise InputError(f"the model's images pass through {step!r}; expected square ones")
    return int(sides.pop())
