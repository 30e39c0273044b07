"""Data sets of the Hugging Face hub, or folders of its format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from saddlepoint.data.datasets.dataset import Dataset
from saddlepoint.data.images import upright_rgb
from saddlepoint.errors import InputError
from saddlepoint.models.hub import quiet

FORM = "hf:NAME[:SPLIT]"


def load_hub(reference: str, place: str) -> Dataset:
    """Return the data set `NAME[:SPLIT]` of the hub, or the table in a folder.

    Raises:
        InputError: it cannot be had, or has no images and labels.
    """
    name, _, split = place.partition(":")
    if not name:
        raise InputError(f"no data set was named after 'hf:'; expected {FORM}, such as hf:ylecun/mnist")
    return _of_table(reference, _table(reference, name, split))


def _table(reference: str, name: str, split: str) -> Any:  # noqa: ANN401 - no types
    try:
        import datasets
    except ImportError:
        raise InputError("hf: data need datasets; pip install 'saddlepoint[hf]'") from None
    whole = (Path(name) / "dataset_dict.json").exists()
    local = whole or (Path(name) / "dataset_info.json").exists()
    if local and split and not whole:
        raise InputError(f"{name!r} is a single table, without splits; expected hf:{name} instead of {reference}")
    try:
        with quiet():
            if not local:
                return datasets.load_dataset(name, split=split or "test")
            table = datasets.load_from_disk(name)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise InputError(
            f"could not fetch {reference} ({reason}); expected a data set of the hub, and a network"
        ) from None
    if whole and (split or "test") not in table:
        raise InputError(f"{name!r} has the splits {', '.join(table)}; expected one of them: hf:{name}:SPLIT")
    return table[split or "test"] if whole else table


def _of_table(reference: str, table: Any) -> Dataset:  # noqa: ANN401 - no types
    image = next((name for name in ("image", "img") if name in table.column_names), None)
    label = next((name for name in ("label", "fine_label", "labels") if name in table.column_names), None)
    if image is None or label is None:
        raise InputError(f"{reference} has the columns {', '.join(table.column_names)}; expected image and label")
    labels = list(table[label])
    wrong = next((label for label in labels if type(label) is not int), 0)
    if type(wrong) is not int:
        raise InputError(f"the labels of {reference} are such as {wrong!r:.40}; expected a column of class indices")
    names = getattr(table.features[label], "names", None)
    ids = [f"{index:07d}" for index in range(len(table))]
    fetch, content = _reader(reference, table, image), lambda: str(getattr(table, "_fingerprint", "")) or None
    classes = dict(enumerate(names)) if names else None
    return Dataset(reference, ids, fetch, range(len(ids)), labels, classes, photos=True, content=content)


def _reader(reference: str, table: Any, image: str) -> Callable[[int], Image.Image]:  # noqa: ANN401 - no types
    def fetch(index: int) -> Image.Image:
        try:
            return upright_rgb(table[index][image])
        except InputError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:80]
            raise InputError(f"example {index} of {reference} is broken ({reason})") from None

    return fetch
