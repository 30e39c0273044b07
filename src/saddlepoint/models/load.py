"""References to classifiers, `KIND` or `KIND:PLACE`, and the one table that says what each kind is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from saddlepoint.classifier import Classifier
from saddlepoint.errors import InputError
from saddlepoint.models import code, folder, hub, lite0, nets, robustbench, shipped, zoo
from saddlepoint.models.card import Card
from saddlepoint.words import meant


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to name a classifier.

    Attributes:
        form: how its references are written.
        about: where its architecture, weights, normalisation and class names come from, in a few words.
        licence: of the weights.
        load: builds the classifier from what follows the colon (None without a colon) and an optional weights file.
        names: every complete reference of this kind that can be listed cheaply; near misses are suggested from it.
        facts: what a list tells of one of them.
    """

    form: str
    about: str
    licence: str
    load: Callable[[str | None, Path | None], Classifier]
    names: Callable[[], Sequence[str]] = list
    facts: Callable[[str], dict[str, object]] = lambda reference: {"reference": reference}


KINDS: dict[str, Kind] = {
    "efficientnet-lite0": Kind(
        lite0.NAME,
        "ships with saddlepoint, real ImageNet weights",
        "Apache-2.0",
        lite0.load,
        lambda: [lite0.NAME],
        lite0.facts,
    ),
    "shipped": Kind(
        shipped.FORM,
        "ship with saddlepoint: 28 x 28 grey images, 166k parameters",
        "Apache-2.0",
        lambda place, weights: _shipped(str(place), weights),
        shipped.names,
        shipped.facts,
    ),
    "torchvision": Kind(zoo.FORM, "torchvision's published weights", zoo.LICENCE, zoo.load, zoo.references, zoo.facts),
    "timm": Kind(
        hub.TIMM, "timm's published weights", "of each model", hub.load_timm, hub.timm_references, hub.timm_facts
    ),
    "hf": Kind(
        hub.HF, "an image classifier of the Hugging Face hub, or a folder of its format", "of each model", hub.load_hf
    ),
    "robustbench": Kind(robustbench.FORM, "RobustBench's model zoo", "of each paper", robustbench.load),
    "net": Kind(nets.FORM, "an architecture of the field, untrained: what `train` makes", "Apache-2.0", nets.load),
    "onnx": Kind(
        "onnx:FILE[.gz]", "an ONNX file, as a torch module", "yours", lambda place, weights: _onnx(place, weights)
    ),
}
CODE = Kind(code.FORM, "your own function that returns a module", "yours", code.load)
FOLDER = Kind(
    "FOLDER", "a model folder that sp.save_classifier wrote", "yours", lambda place, _: _opened(Path(str(place)))
)


def load_classifier(
    reference: str,
    *,
    weights: str | Path | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    bgr: bool = False,
    device: str | torch.device | None = None,
) -> Classifier:
    """Return the classifier that a reference stands for, in eval mode.

    Args:
        reference: what `saddlepoint models` lists: `efficientnet-lite0`, which ships with the package and needs no
            download; `torchvision:NAME`, with the first weights that were published for it (for most IMAGENET1K_V1,
            which is what the literature means by the name), or `torchvision:NAME:WEIGHTS`; `timm:NAME`; `hf:ORG/NAME`;
            `robustbench:ID`; `onnx:FILE`; `FILE.py:FACTORY` or `PACKAGE.MODULE:FACTORY`, your own code; or a model
            folder.
        weights: a local file to take the weights from: safetensors, or a state dict of `torch.save`. It is read
            without executing code. Or a model folder, from which normalisation, names and preprocessing come, too.
        mean: per channel, in pixel units of [0, 1]; replaces that of the reference.
        std: likewise.
        bgr: whether the module takes channels as blue, green, red; x, mean and std stay in red, green, blue.
        device: where the classifier shall compute; None leaves it on the CPU.

    Raises:
        InputError: the reference or the device does not exist.
        WeightsError: the weights cannot be downloaded, read safely or fitted to the architecture.
    """
    computes_on = _usable(device) if device is not None else torch.device("cpu")
    if weights is not None and folder.claims(str(weights)):
        classifier = _dressed(reference, Path(weights), folder.read_card(Path(weights)))
    else:
        kind, place = _resolved(reference)
        classifier = kind.load(place, None if weights is None else Path(weights))
    if mean is not None or std is not None or bgr:
        classifier = Classifier(
            nn.Sequential(_Reversed(), classifier.module) if bgr else classifier.module,
            mean=_told(classifier, classifier.mean) if mean is None else mean,
            std=_told(classifier, classifier.std) if std is None else std,
            names=classifier.names,
            preprocessing=classifier.preprocessing,
        )
    classifier.name = classifier.reference = reference
    classifier.weights = None if weights is None else str(weights)
    classifier.source = code.source(reference)
    return classifier.to(computes_on).eval()


class _Reversed(nn.Module):
    """Red, green, blue → blue, green, red, as models trained with OpenCV or Caffe take them."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(1)


def _told(classifier: Classifier, numbers: Tensor) -> list[float] | None:
    return numbers.flatten().tolist() if classifier.normalises else None


def save_classifier(
    classifier: Classifier,
    path: str | Path,
    *,
    architecture: str | None = None,
    card: Mapping[str, object] | None = None,
) -> Path:
    """Write a model folder, `model.safetensors` and `model.json`, and see that it can be opened.

    Args:
        classifier: the classifier.
        path: the folder; made when missing, its files replaced when it is a model folder.
        architecture: the reference that builds the module; that with which the classifier was loaded, when not given.
        card: what else a reader should know, in JSON's types: how it was trained, what it reaches, licence.

    Returns:
        The folder. Opening one never executes code: where the architecture is code, name it,
        `load_classifier("FILE.py:FACTORY", weights=FOLDER)`.

    Raises:
        InputError: no reference builds this module, or the card is no JSON; what was at the path stays as it is.
    """
    target, reference = Path(path), architecture or classifier.reference
    if reference is None:
        raise InputError(
            "the classifier was not made by load_classifier; expected architecture=REF, a reference that builds its "
            "module, such as 'my_net.py:make'"
        )
    if isinstance(next(iter(classifier.module.children()), None), _Reversed):
        raise InputError("the classifier was loaded with bgr=True, which a model folder cannot say; save it without")
    if folder.claims(reference):
        reference = folder.architecture(folder.read_card(Path(reference)), Path(reference))
    _resolved(reference)
    with folder.drafted(classifier, target, reference, card or {}) as (draft, written):
        _dressed(folder.architecture(written, draft), draft, written)
    return target


def _onnx(place: str | None, weights: Path | None) -> Classifier:
    from saddlepoint.models import onnx

    return onnx.load(place, weights)


def _opened(place: Path) -> Classifier:
    card = folder.read_card(place)
    reference = folder.architecture(card, place)
    if _resolved(reference)[0] is CODE:
        raise InputError(
            f"the architecture of {str(place)!r} is code, {reference!r}, which opening a folder does not execute; "
            f"if you trust it, name it: --model {reference} --weights {place}"
        )
    return _dressed(reference, place, card)


def _shipped(name: str, weights: Path | None) -> Classifier:
    card = folder.read_card(shipped.folder(name))
    kind, rest = _resolved(card.architecture)
    return folder.dressed(kind.load(rest, weights or shipped.folder(name) / folder.WEIGHTS), card)


def _dressed(reference: str, place: Path, card: Card) -> Classifier:
    kind, rest = _resolved(reference)
    if kind is FOLDER:
        raise InputError(f"the model {reference!r} is a folder, and so are the weights; expected one of them")
    return folder.dressed(kind.load(rest, place / folder.WEIGHTS), card)


def _resolved(reference: str) -> tuple[Kind, str | None]:
    """Return the kind of a reference, and what its loader needs of it."""
    prefix, colon, place = reference.partition(":")
    if reference in shipped.names():
        return KINDS["shipped"], reference
    if prefix in KINDS and prefix != "shipped":
        return KINDS[prefix], place if colon else None
    for kind, claims in ((FOLDER, folder.claims), (CODE, code.claims)):
        if claims(reference):
            return kind, reference
    raise InputError(
        f"unknown model {reference!r}: expected {lite0.NAME}, torchvision:NAME, onnx:FILE, a model folder or another "
        f"reference that `saddlepoint models` lists{_near(reference)}"
    )


def require_no_code(reference: str, said: str, flag: str = "--model") -> None:
    """Raise InputError if a reference that a file names, not the user, is one to code: that is never run.

    Args:
        reference: which the file names.
        said: what names it, for the message.
        flag: with which a user names code.
    """
    if _names_code(reference):
        raise InputError(
            f"{said} names code, {reference!r}, which is not run because a file says so; if you trust it, name it "
            f"yourself: {flag} {reference}"
        )


def _names_code(reference: str) -> bool:
    """Tell whether to load a reference would run code: by the name alone, nothing is looked up or imported."""
    place, colon, factory = reference.rpartition(":")
    known = reference.partition(":")[0] in KINDS or reference in shipped.names() or folder.claims(reference)
    return not known and bool(colon and place) and factory.isidentifier()


def _near(reference: str) -> str:
    names = [name for kind in KINDS.values() for name in kind.names()]
    short = {name.rpartition(":")[2]: name for name in names}
    return meant(reference, names) or meant(reference, short, shown=lambda name: repr(short[name]))


def _usable(device: str | torch.device) -> torch.device:
    """Return a device on which a tensor can be made."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0][:60]
        raise InputError(
            f"device {str(device)!r} cannot be used ({reason}); expected cpu, or cuda where present"
        ) from None
