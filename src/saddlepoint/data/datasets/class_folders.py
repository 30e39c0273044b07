"""A folder of class folders, as ImageNet comes: listed at once, decoded one image at a time."""

import os
from pathlib import Path

from saddlepoint.data.datasets.dataset import Dataset
from saddlepoint.data.images import read_image, suffixes
from saddlepoint.errors import InputError
from saddlepoint.files import in_utf8


def load_folder(name: str, place: Path) -> Dataset:
    """Return the images of DIR/CLASS/…; a class is its folder's number, or the place of its name in sorted order.

    Raises:
        InputError: there is no such folder, it has no class folder, or one without images.
    """
    if not place.is_dir():
        raise InputError(f"there is no folder {_shown(place)!r}; expected imagefolder:DIR with one folder per class")
    folders = sorted(entry.name for entry in os.scandir(place) if entry.is_dir() and not entry.name.startswith("."))
    images = {folder: _images(place / folder) for folder in folders}
    if not any(images.values()):
        raise InputError(f"{_shown(place)!r} has no folders with images; expected DIR/CLASS/IMAGE")
    empty = next((folder for folder in folders if not images[folder]), None)
    if empty is not None:
        raise InputError(
            f"the class folder {_shown(place / empty)!r} holds no image; expected one at least: remove it if the model "
            "does not have that class"
        )
    numbers = {folder: int(folder) if _numbered(folders) else index for index, folder in enumerate(folders)}
    listed = [(file, numbers[folder]) for folder in folders for file in images[folder]]
    return Dataset(
        name,
        [_text(file.relative_to(place)) for file, _ in listed],
        lambda index: read_image(listed[index][0]),
        range(len(listed)),
        [label for _, label in listed],
        {number: _text(Path(folder)) for folder, number in numbers.items()},
        customary=False,
        photos=True,
    )


def _numbered(folders: list[str]) -> bool:
    return all(folder.isascii() and folder.isdecimal() for folder in folders)


def _text(path: Path) -> str:
    """Return a path as text that UTF-8 can say, also when the file's name is in another encoding."""
    return in_utf8(path.as_posix().replace("\\", "\\\\"))


def _shown(path: Path) -> str:
    return in_utf8(str(path))


def _images(folder: Path) -> list[Path]:
    known = suffixes()
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in known and path.is_file())
