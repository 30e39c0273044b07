"""The model folder: `model.safetensors` and `model.json`, which hold all that a classifier is, and no code."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from saddlepoint.classifier import Classifier, Preprocessing
from saddlepoint.errors import InputError, WeightsError

CARD, WEIGHTS, NETWORK = "model.json", "model.safetensors", "model.onnx"
FORMAT, VERSION = "saddlepoint-model", 1


def claims(reference: str) -> bool:
    """Whether a reference is a folder with a `model.json`."""
    return (Path(reference) / CARD).is_file()


def read_card(folder: Path) -> dict[str, Any]:
    """Return what `model.json` says, after checking that it is ours and that the weights are those that it names.

    Raises:
        WeightsError: it is torn, foreign or of a newer version, or the weights are not those that were saved.
    """
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        kind, version = card["format"], card["version"]
        digest, architecture = card["weights"]["sha256"], card["architecture"]
        Preprocessing(**card["preprocessing"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
        raise WeightsError(f"{str(folder / CARD)!r} cannot be read ({reason}); {_EXPECTED}") from None
    if kind != FORMAT or not isinstance(version, int) or not isinstance(architecture, str):
        raise WeightsError(f"{str(folder / CARD)!r} is of format {kind!r}; {_EXPECTED}")
    if version > VERSION:
        raise WeightsError(f"{str(folder)!r} was saved by a newer saddlepoint (version {version}); update saddlepoint")
    if not (folder / WEIGHTS).is_file() or _sha256(folder / WEIGHTS) != digest:
        raise WeightsError(f"{str(folder / WEIGHTS)!r} is not what {CARD} names: the folder is torn; save it again")
    return dict(card)


def dressed(classifier: Classifier, card: dict[str, Any]) -> Classifier:
    """Return the classifier with the normalisation, class names and preprocessing of a card."""
    return Classifier(
        classifier.module,
        mean=card.get("mean"),
        std=card.get("std"),
        names=card.get("names"),
        preprocessing=Preprocessing(**card["preprocessing"]),
    )


def write_folder(classifier: Classifier, folder: Path, architecture: str, card: dict[str, Any]) -> None:
    """Write the two files, and a copy of the network where the architecture is an ONNX file; the card comes last."""
    from safetensors.torch import save_file

    state: dict[str, Tensor] = {key: value.cpu().clone() for key, value in classifier.module.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as scratch:
        weights = Path(scratch) / WEIGHTS
        save_file(state, weights)
        if architecture.startswith("onnx:"):
            _copy(Path(architecture.partition(":")[2]), folder / NETWORK, Path(scratch))
            architecture = f"onnx:{NETWORK}"
        content = {
            "format": FORMAT,
            "version": VERSION,
            "architecture": architecture,
            "mean": classifier.mean.flatten().tolist() if classifier.normalises else None,
            "std": classifier.std.flatten().tolist() if classifier.normalises else None,
            "names": classifier.names,
            "preprocessing": asdict(classifier.preprocessing),
            "weights": {"file": WEIGHTS, "sha256": _sha256(weights)},
            "card": card,
        }
        text = Path(scratch) / CARD
        text.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        weights.replace(folder / WEIGHTS)
        text.replace(folder / CARD)


def architecture(card: dict[str, Any], folder: Path) -> str:
    """Return the reference to the architecture; one to a network inside the folder is made to find it there."""
    reference: str = card["architecture"]
    return f"onnx:{folder / NETWORK}" if reference == f"onnx:{NETWORK}" else reference


def _copy(source: Path, target: Path, scratch: Path) -> None:
    if not source.is_file():
        raise InputError(f"the network {str(source)!r} is gone; expected it where the classifier was loaded from")
    if target.exists() and source.samefile(target):
        return
    shutil.copyfile(source, scratch / NETWORK).replace(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_EXPECTED = "expected a folder written by sp.save_classifier"
