"""References to data sets, `KIND:PLACE`, and the one table that says what each kind is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saddlepoint.classifier import Classifier
from saddlepoint.data.datasets import arrays
from saddlepoint.data.datasets.class_folders import load_folder
from saddlepoint.data.datasets.dataset import Dataset, of_arrays
from saddlepoint.data.datasets.huggingface import FORM, load_hub
from saddlepoint.data.datasets.match import matched
from saddlepoint.data.image_files import ASSETS
from saddlepoint.errors import InputError
from saddlepoint.extras import imported
from saddlepoint.models.robustbench import CIFAR10
from saddlepoint.words import meant

SPLITS = {"test": "t10k", "train": "train"}
DIGITS = tuple("0123456789")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to name a data set: how its references are written, what they stand for, and what opens them."""

    form: str
    about: str
    load: Callable[[str, str], Dataset]

    @property
    def split(self) -> bool:
        """Whether training images are named with ":train"."""
        return "[:train]" in self.form


def load_dataset(reference: str, *, classifier: Classifier | None = None) -> Dataset:
    """Return the data set that a reference stands for.

    Args:
        reference: `mnist:DIR`, `fashion-mnist:DIR` and `cifar10:DIR`, each with `:train` for the training images,
            `imagefolder:DIR` with one folder per class, `npz:FILE`, `hf:NAME[:SPLIT]`, or `digits`.
        classifier: whose preprocessing, channels and classes the examples are to have.

    Raises:
        InputError: the reference does not exist, a file is damaged, or a label is no class of the classifier.
        ModelError: the classifier cannot take images of this shape.
    """
    data = _loaded(reference)
    if not len(data):
        raise InputError(f"{reference} holds no example; expected at least one")
    return data if classifier is None else matched(data, classifier)


def _loaded(reference: str) -> Dataset:
    kind, colon, place = reference.partition(":")
    if kind in KINDS and bool(colon) == (":" in KINDS[kind].form):
        return KINDS[kind].load(reference, place)
    if Path(reference).is_dir():
        return load_folder(reference, Path(reference))
    if Path(reference).suffix == ".npz" and Path(reference).is_file():
        return _npz(reference, reference)
    hint = meant(kind, KINDS, shown=lambda near: KINDS[near].form)
    forms = ", ".join(kind.form for kind in KINDS.values())
    raise InputError(f"unknown data {reference!r}: expected {forms}, a folder or an NPZ file{hint}")


def _mnist(reference: str, place: str) -> Dataset:
    return _idx(reference, place, DIGITS)


def _fashion(reference: str, place: str) -> Dataset:
    return _idx(reference, place, FASHION)


def _idx(reference: str, place: str, classes: Sequence[str]) -> Dataset:
    folder, split = _split(place)
    files = []
    for kind, dimensions in (("images", 3), ("labels", 1)):
        stem = f"{SPLITS[split]}-{kind}"
        names = [f"{stem}{joint}idx{dimensions}-ubyte{end}" for joint in "-." for end in ("", ".gz")]
        files.append((_first(folder, names, ("", "raw", "MNIST/raw", "FashionMNIST/raw")), dimensions))
    images, labels = (arrays.read_idx(path, dimensions) for path, dimensions in files)
    arrays.checked(files[1][0], (images, labels))
    return of_arrays(reference, split, images[:, None], labels, classes)


def _cifar10(reference: str, place: str) -> Dataset:
    folder, split = _split(place)
    many = [f"data_batch_{number}" for number in range(1, 6)] if split == "train" else ["test_batch"]
    inside = ("", "cifar-10-batches-py", "cifar-10-batches-bin")
    zipped = [path.name for path in sorted(folder.glob("*.npz")) if split in path.stem]
    first = _first(folder, [f"{many[0]}.bin", many[0], f"{split}.npz", *zipped], inside)
    if first.suffix == ".npz":
        images, labels = arrays.checked(first, arrays.read_npz(first))
    else:
        read = arrays.read_binary if first.suffix == ".bin" else arrays.read_pickle
        batches = [arrays.checked(path, read(path)) for path in (first.with_name(n + first.suffix) for n in many)]
        images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    if images.shape[1:] != (3, 32, 32):
        arrays.refuse(first, f"its images have shape {images.shape[1:]}; expected (3, 32, 32)")
    return of_arrays(reference, split, images, labels, CIFAR10)


def _npz(reference: str, place: str) -> Dataset:
    path = Path(place)
    if not path.is_file():
        raise InputError(f"there is no file {place!r}; expected npz:FILE")
    return of_arrays(reference, path.stem, *arrays.checked(path, arrays.read_npz(path)))


def _digits(reference: str, _: str) -> Dataset:
    load_digits = imported("sklearn.datasets").load_digits

    images, labels = load_digits(return_X_y=True)
    return of_arrays(reference, "digits", (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32), labels, DIGITS)


def _sample(reference: str, _: str) -> Dataset:
    path = ASSETS / "fashion-mnist-sample.npz"
    return of_arrays(reference, "fashion-mnist-sample", *arrays.checked(path, arrays.read_npz(path)), FASHION)


def _folder(reference: str, place: str) -> Dataset:
    return load_folder(reference, Path(place))


KINDS: dict[str, Kind] = {
    "mnist": Kind("mnist:DIR[:train]", "MNIST's four IDX files, gzip or not", _mnist),
    "fashion-mnist": Kind("fashion-mnist:DIR[:train]", "Fashion-MNIST's four IDX files, gzip or not", _fashion),
    "cifar10": Kind("cifar10:DIR[:train]", "CIFAR-10: binary version, Python version, or NPZ", _cifar10),
    "imagefolder": Kind("imagefolder:DIR", "one folder per class: by index, name or WordNet id", _folder),
    "npz": Kind("npz:FILE", "arrays x (images) and y (labels)", _npz),
    "hf": Kind(FORM, "a data set of the Hugging Face hub, or a folder of its format", load_hub),
    "fashion-mnist-sample": Kind(
        "fashion-mnist-sample", "1,000 of Fashion-MNIST's test images, balanced; they ship with saddlepoint", _sample
    ),
    "digits": Kind("digits", "scikit-learn's 1,797 digits of 8 × 8 pixels, no file at all", _digits),
}


def _split(place: str) -> tuple[Path, str]:
    folder, colon, split = place.rpartition(":")
    name, chosen = (folder, split) if colon and split in SPLITS else (place, "test")
    if not Path(name).is_dir():
        raise InputError(f"there is no folder {name!r}; expected that of the data set")
    return Path(name), chosen


def _first(folder: Path, names: list[str], inside: tuple[str, ...]) -> Path:
    first = next((path for part in inside for name in names if (path := folder / part / name).is_file()), None)
    if first is None:
        raise InputError(f"{str(folder)!r} has none of the files {', '.join(names[:4])}; expected the data set itself")
    return first
