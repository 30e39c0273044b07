"""Classifiers of torchvision: everything about them is looked up in their published weights entry, never guessed."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from saddlepoint.classifier import Classifier, Preprocessing
from saddlepoint.errors import InputError
from saddlepoint.extras import imported
from saddlepoint.models.download import download
from saddlepoint.models.weights import fit, read_weights
from saddlepoint.words import meant

FORM = "torchvision:NAME[:WEIGHTS]"
LICENCE = "BSD-3-Clause"
"""Torchvision's own; some of its published weights state another."""

# Their published weights hold auxiliary heads and expect the module to shift its input itself.
_AUXILIARY = {"aux_logits": True, "transform_input": True, "init_weights": False}
_ARGUMENTS: dict[str, dict[str, bool]] = {"googlenet": _AUXILIARY, "inception_v3": _AUXILIARY}

# The published DenseNets spell norm.1 what the modules call norm1.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def load(place: str | None, weights: Path | None) -> Classifier:
    """Return a torchvision classifier with its published weights, or with those of a file."""
    models = imported("torchvision.models")

    name, _, wanted = (place or "").partition(":")
    if name not in _names():
        raise InputError(f"unknown model 'torchvision:{place or ''}': expected {FORM}{_near(name, _names())}")
    entry = _entry(name, wanted)
    state = download(entry) if weights is None else read_weights(weights)
    module: nn.Module = models.get_model(name, weights=None, **_ARGUMENTS.get(name, {}))
    fit(module, _modern(state), f"{name} {entry.name}" if weights is None else str(weights))
    recipe = entry.transforms()
    return Classifier(
        module,
        mean=recipe.mean,
        std=recipe.std,
        names=entry.meta["categories"],
        preprocessing=Preprocessing(
            resize=recipe.resize_size[0], crop=recipe.crop_size[0], interpolation=recipe.interpolation.value
        ),
        name=f"torchvision:{place}",
    )


def references() -> list[str]:
    """Return `torchvision:NAME` for every torchvision classifier."""
    return [f"torchvision:{name}" for name in _names()]


def facts(reference: str) -> dict[str, object]:
    """Return size, clean accuracy, weights and licence of a torchvision classifier."""
    entry = _entry(reference.partition(":")[2], "")
    return {
        "reference": reference,
        "parameters": entry.meta["num_params"],
        "accuracy": entry.meta["_metrics"]["ImageNet-1K"]["acc@1"],
        "crop": entry.transforms().crop_size[0],
        "weights": entry.name,
        "licence": entry.meta.get("license", LICENCE),
    }


def imagenet_names() -> list[str]:
    """Return the 1000 ImageNet class names as Kolter & Madry's lesson prints them: 341 is "hog"."""
    names: list[str] = imported("torchvision.models").ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    return names


def _names() -> list[str]:
    models = imported("torchvision.models")

    names: list[str] = models.list_models(module=models)
    return names


def _entry(name: str, wanted: str) -> Any:  # noqa: ANN401 - torchvision has no types
    """Return the weights entry that was asked for, or the first that was published."""
    models = imported("torchvision.models")

    entries = {entry.name: entry for entry in models.get_model_weights(name)}
    if not wanted:
        return next(iter(entries.values()))
    if wanted not in entries:
        expected = " or ".join(entries)
        raise InputError(f"unknown weights {wanted!r} of torchvision:{name}: expected {expected}")
    return entries[wanted]


def _near(name: str, names: list[str]) -> str:
    return meant(name, names, most=3, shown="torchvision:{}".format, otherwise=", such as torchvision:resnet50")


def _modern(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for key in [key for key in state if _OLD_DENSENET.search(key)]:
        state[_OLD_DENSENET.sub(r"\1\2", key)] = state.pop(key)
    return state
