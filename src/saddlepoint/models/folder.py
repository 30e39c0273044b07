"""The model folder: `model.safetensors` and `model.json`, which hold all that a classifier is, and no code."""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from saddlepoint.classifier import Classifier
from saddlepoint.errors import InputError, WeightsError
from saddlepoint.models import card as cards
from saddlepoint.models.card import Card

CARD, WEIGHTS, NETWORK = "model.json", "model.safetensors", "model.onnx"
_FILES = {"weights": WEIGHTS, "network": NETWORK}
_EXPECTED = "expected a folder written by sp.save_classifier"


def claims(reference: str) -> bool:
    """Whether a reference is a folder with a `model.json`."""
    return (Path(reference) / CARD).is_file()


def read_card(folder: Path) -> Card:
    """Return what `model.json` says, after checking that it is ours and that the files are those that it names.

    Raises:
        WeightsError: it is torn, foreign or of a newer version, or a file is not what was saved.
    """
    try:
        card = cards.read(json.loads((folder / CARD).read_text(encoding="utf-8")))
    except WeightsError as error:
        raise WeightsError(f"{str(folder / CARD)!r} cannot be used: {error}; {_EXPECTED}") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
        raise WeightsError(f"{str(folder / CARD)!r} cannot be read ({reason}); {_EXPECTED}") from None
    for key, digest in card.digests.items():
        path = folder / _FILES[key]
        if not path.is_file() or sha256(path) != digest:
            raise WeightsError(f"{str(path)!r} is not what {CARD} names: the folder is torn; save it again")
    return card


def dressed(classifier: Classifier, card: Card) -> Classifier:
    """Return the classifier with the normalisation, class names and preprocessing of a card."""
    return Classifier(
        classifier.module, mean=card.mean, std=card.std, names=card.names, preprocessing=card.preprocessing
    )


@contextlib.contextmanager
def drafted(
    classifier: Classifier, folder: Path, architecture: str, notes: Mapping[str, object]
) -> Iterator[tuple[Path, Card]]:
    """Write a model folder beside its place, or inside it, and move its files there if the body does not object.

    The card comes last, so that what a crash leaves behind is seen to be torn.

    Args:
        classifier: the network and its preprocessing.
        folder: where the model folder is to be.
        architecture: what builds the network again.
        notes: what the card says beside it; JSON.

    Raises:
        InputError: the notes are not JSON, the network is gone, or nothing can be written there.
    """
    _encoded(notes)
    home = folder if folder.is_dir() else folder.parent
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home, prefix=".writing-") as scratch:
            _write(classifier, Path(scratch), architecture, notes)
            yield Path(scratch), read_card(Path(scratch))
            _move(Path(scratch), folder)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"cannot write {str(folder)!r} ({reason}); expected a place for a model folder") from None


def architecture(card: Card, folder: Path) -> str:
    """Return the reference to the architecture; one to a network inside the folder is made to find it there."""
    return f"onnx:{folder / NETWORK}" if card.architecture == f"onnx:{NETWORK}" else card.architecture


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(classifier: Classifier, folder: Path, architecture: str, notes: Mapping[str, object]) -> None:
    from safetensors.torch import save

    (folder / WEIGHTS).write_bytes(save({key: _plain(value) for key, value in classifier.module.state_dict().items()}))
    files = ["weights"]
    if architecture.startswith("onnx:"):
        _copy(Path(architecture.partition(":")[2]), folder / NETWORK)
        architecture, files = f"onnx:{NETWORK}", ["weights", "network"]
    content = {
        "format": cards.FORMAT,
        "version": cards.VERSION,
        "architecture": architecture,
        "mean": classifier.mean.flatten().tolist() if classifier.normalises else None,
        "std": classifier.std.flatten().tolist() if classifier.normalises else None,
        "names": classifier.names,
        "preprocessing": asdict(classifier.preprocessing),
        **{key: {"file": _FILES[key], "sha256": sha256(folder / _FILES[key])} for key in files},
        "card": dict(notes),
    }
    (folder / CARD).write_bytes(_encoded(content))


def _plain(value: Tensor) -> Tensor:
    """Return a tensor in memory of its own, in the order in which safetensors writes it."""
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)


def _move(draft: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in (NETWORK, WEIGHTS, CARD):
        if (draft / name).exists():
            (draft / name).replace(folder / name)
        elif claims(str(folder)):
            (folder / name).unlink(missing_ok=True)  # of the model that was here before


def _encoded(content: Mapping[str, object]) -> bytes:
    try:
        return (json.dumps(dict(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"the card is no JSON ({reason}); expected text, finite numbers, lists and dicts") from None


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise InputError(f"the network {str(source)!r} is gone; expected it where the classifier was loaded from")
    shutil.copyfile(source, target)
