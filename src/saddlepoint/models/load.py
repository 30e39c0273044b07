"""References to classifiers, `KIND` or `KIND:PLACE`, and the one table that says what each kind is."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from saddlepoint.classifier import Classifier
from saddlepoint.errors import InputError
from saddlepoint.models import lite0, zoo


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to name a classifier.

    Attributes:
        form: how its references are written.
        load: builds the classifier from what follows the colon (None without a colon) and an optional weights file.
        names: every complete reference of this kind that can be listed cheaply; near misses are suggested from it.
    """

    form: str
    load: Callable[[str | None, Path | None], Classifier]
    names: Callable[[], Sequence[str]]


KINDS: dict[str, Kind] = {
    "efficientnet-lite0": Kind("efficientnet-lite0", lite0.load, lambda: ["efficientnet-lite0"]),
    "torchvision": Kind("torchvision:NAME[:WEIGHTS]", zoo.load, zoo.references),
}


def load_classifier(
    reference: str, *, weights: str | Path | None = None, device: str | torch.device | None = None
) -> Classifier:
    """Return the classifier that a reference stands for, in eval mode.

    Args:
        reference: `efficientnet-lite0`, which ships with the package and needs no download; `torchvision:NAME` for any
            torchvision classifier, with the first weights that were published for it (for most IMAGENET1K_V1, which is
            what the literature means by the name), or `torchvision:NAME:WEIGHTS` for others.
        weights: a local file to take the weights from: safetensors, or a state dict of `torch.save`. It is read
            without executing code. Mean, std, preprocessing and class names remain those of the reference.
        device: where the classifier shall compute; None leaves it on the CPU.

    Raises:
        InputError: the reference or the device does not exist.
        WeightsError: the weights cannot be downloaded, read safely or fitted to the architecture.
    """
    kind, colon, place = reference.partition(":")
    if kind not in KINDS:
        raise InputError(f"unknown model {reference!r}: expected {_forms()}{_near(reference)}")
    computes_on = _usable(device) if device is not None else torch.device("cpu")
    classifier = KINDS[kind].load(place if colon else None, None if weights is None else Path(weights))
    classifier.name = reference
    return classifier.to(computes_on).eval()


def _forms() -> str:
    return " or ".join(kind.form for kind in KINDS.values())


def _near(reference: str) -> str:
    names = [name for kind in KINDS.values() for name in kind.names()]
    short = {name.rpartition(":")[2]: name for name in names}
    near = difflib.get_close_matches(reference, names, n=1) or difflib.get_close_matches(reference, list(short), n=1)
    return f"; did you mean {short.get(near[0], near[0])!r}?" if near else ""


def _usable(device: str | torch.device) -> torch.device:
    """Return a device on which a tensor can be made."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0][:60]
        raise InputError(
            f"device {str(device)!r} cannot be used ({reason}); expected cpu, or cuda where present"
        ) from None
