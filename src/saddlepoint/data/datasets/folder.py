"""A folder of class folders, as ImageNet comes: listed at once, decoded one image at a time."""

import difflib
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from saddlepoint.classifier import Classifier, Preprocessing
from saddlepoint.data.datasets.dataset import Dataset, Stored
from saddlepoint.data.images import read_image
from saddlepoint.data.preprocess import preprocess
from saddlepoint.errors import InputError

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".jp2", ".ico"}
)


def load_folder(name: str, place: Path, classifier: Classifier | None) -> Dataset:
    """Return the images of DIR/CLASS/…, with the classes of the classifier where it has names.

    Raises:
        InputError: there is no such folder, it has no class folder with images, or a class is none of the model's.
    """
    if not place.is_dir():
        raise InputError(f"there is no folder {str(place)!r}; expected imagefolder:DIR with one folder per class")
    folders = sorted(entry.name for entry in os.scandir(place) if entry.is_dir() and not entry.name.startswith("."))
    listed = [(file, folder) for folder in folders for file in _images(place / folder)]
    if not listed:
        raise InputError(f"{str(place)!r} has no folders with images; expected DIR/CLASS/IMAGE")
    labels = _labels(sorted({folder for _, folder in listed}), classifier)
    recipe = classifier.preprocessing if classifier else Preprocessing()
    grey = classifier is not None and _takes_grey(classifier)

    def fetch(index: int) -> tuple[Stored, int]:
        file, folder = listed[index]
        image = read_image(file)
        levels = preprocess(image.convert("L") if grey else image, recipe).numpy()
        return levels[:1] if grey else levels, labels[folder]

    ids = [_text(file.relative_to(place)) for file, _ in listed]
    return Dataset(name, ids, fetch, range(len(ids)), [labels[folder] for _, folder in listed])


def _text(path: Path) -> str:
    """Return a path as text that UTF-8 can say, also when the file's name is in another encoding."""
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _takes_grey(classifier: Classifier) -> bool:
    """Whether the first convolution takes one channel."""
    first = next((weight for weight in classifier.module.parameters() if weight.ndim == 4), None)
    return first is not None and first.shape[1] == 1


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _labels(folders: list[str], classifier: Classifier | None) -> dict[str, int]:
    """Return the class of each folder: by index, WordNet id or name; in sorted order where the model has no names."""
    if all(folder.isdecimal() for folder in folders):
        return {folder: int(folder) for folder in folders}
    if classifier is None or classifier.names is None:
        return {folder: index for index, folder in enumerate(folders)}
    find = _wordnet() if all(_is_wordnet(folder) for folder in folders) else classifier.label_of
    return {folder: _found(folder, find) for folder in folders}


def _found(folder: str, find: Callable[[str], int]) -> int:
    try:
        return find(folder)
    except InputError as error:
        raise InputError(f"the folder {folder!r} is no class of the model: {error}") from None


def _is_wordnet(folder: str) -> bool:
    return len(folder) == 9 and folder[0] == "n" and folder[1:].isdecimal()


def _wordnet() -> Callable[[str], int]:
    info: Any = import_module("timm.data.imagenet_info")
    order = {name: index for index, name in enumerate(info.ImageNetInfo("imagenet-1k").label_names())}

    def find(name: str) -> int:
        if name not in order:
            near = difflib.get_close_matches(name, order, n=1)
            raise InputError(
                f"{name} is none of ImageNet's 1000 WordNet ids{f'; did you mean {near[0]}?' if near else ''}"
            )
        return order[name]

    return find
