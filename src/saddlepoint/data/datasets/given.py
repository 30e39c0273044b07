"""Data that are at hand in Python: tensors, arrays, and torch's data sets and loaders."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, TensorDataset

from saddlepoint.data.datasets.dataset import Dataset, Stored, from_arrays
from saddlepoint.data.datasets.references import load_dataset
from saddlepoint.errors import InputError

FORMS = "a reference, (x, y), or a torch Dataset or DataLoader of images and labels"
_LABELS = ("targets", "labels", "_labels")


def as_dataset(data: object) -> Dataset:
    """Return a data set of whatever holds images and labels.

    Args:
        data: a `Dataset`; a reference, for `load_dataset`; a pair of tensors or arrays, for `Dataset.from_tensors`; a
            torch `TensorDataset` or other `Dataset` with a length, whose images are taken as they are, photographs in
            the form that the model asks for; or a `DataLoader`, of which only its data set counts: examples come in
            its order, whatever the loader shuffles, and their ids are their places.

    Raises:
        InputError: it holds something else, or its images are another at each reading.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, str | Path):
        return load_dataset(str(data))
    if isinstance(data, DataLoader):
        return _of_loader(data)
    if isinstance(data, TensorDataset):
        data = tuple(data.tensors)
    if isinstance(data, tuple | list) and len(data) == 2 and all(hasattr(part, "shape") for part in data):
        return Dataset.from_tensors(*data)
    if isinstance(data, IterableDataset) or not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise InputError(f"data is a {type(data).__name__}, which has no places to read from; expected {FORMS}")
    return _of_items(data)


def _of_loader(loader: "DataLoader[Any]") -> Dataset:
    sampler = loader.sampler
    if not isinstance(sampler, SequentialSampler | RandomSampler) or getattr(sampler, "replacement", False):
        raise InputError(
            f"the loader draws by {type(sampler).__name__}; expected its data set, or torch.utils.data.Subset of it"
        )
    return as_dataset(loader.dataset)


def _of_items(data: Any) -> Dataset:  # noqa: ANN401 - whatever has places
    name, count = type(data).__name__, len(data)
    if not count:
        raise InputError(f"the {name} holds no example; expected at least one")
    first, again = (_item(data, 0, name)[0] for _ in range(2))
    if not np.array_equal(np.asarray(first), np.asarray(again)):
        raise InputError(
            f"the {name} gives another image at each reading; expected one without random transforms, as for testing"
        )
    width = max(5, len(str(count - 1)))
    return Dataset(
        name=name,
        ids=[f"{name}/{place:0{width}d}" for place in range(count)],
        fetch=lambda place: _item(data, place, name)[0],
        places=range(count),
        labels=_labels(data, name),
        photos=isinstance(first, Image.Image),
    )


def _item(data: Any, place: int, name: str) -> tuple[Stored | Image.Image, Any]:  # noqa: ANN401
    try:
        item = data[place]
    except Exception as error:
        raise InputError(f"item {place} of the {name} cannot be read: {type(error).__name__}: {error!s:.120}") from None
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise InputError(f"item {place} of the {name} is a {type(item).__name__}; expected an image and its label")
    image = item[0]
    if isinstance(image, Image.Image):
        return image.convert("RGB"), item[1]
    return from_arrays(torch.as_tensor(image)[None], f"image {place} of the {name}")[0], item[1]


def _labels(data: Any, name: str) -> Sequence[int]:  # noqa: ANN401
    """Return the labels, from where torchvision's data sets keep them, else from the items."""
    for attribute in _LABELS:
        kept = getattr(data, attribute, None)
        if kept is not None and hasattr(kept, "__len__") and len(kept) == len(data):
            return [_whole(label, name) for label in kept]
    return [_whole(_item(data, place, name)[1], name) for place in range(len(data))]


def _whole(label: object, name: str) -> int:
    item: Callable[[], object] | None = getattr(label, "item", None)
    plain = item() if item is not None and getattr(label, "size", None) is not None else label
    if isinstance(plain, bool) or not isinstance(plain, int):
        raise InputError(f"a label of the {name} is {label!r:.60}; expected a whole number")
    return plain
