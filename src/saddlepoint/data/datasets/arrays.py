"""Whole data sets in files of arrays: IDX, CIFAR-10's three forms, NPZ. Nothing is executed, sizes are checked."""

import gzip
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np

from saddlepoint.data.datasets.pickled import Array, read_pickle_of_arrays
from saddlepoint.errors import InputError

Arrays = tuple[np.ndarray, np.ndarray]
LARGEST = 2**34
"""Bytes that one array may have."""

_ROOM, _RATIO = 2**27, 32
"""A compressed array may unfold to _ROOM bytes, or to _RATIO times its size; real images shrink by less than that."""

IMAGES = ("x", "x_test", "images", "data", "x_adv", "test_images")
LABELS = ("y", "y_test", "labels", "label", "targets", "test_labels")


def refuse(path: Path, why: str) -> NoReturn:
    """Raise InputError about a file."""
    raise InputError(f"cannot read {str(path)!r}: {why}")


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Return the uint8 array of an IDX file, gzip or not (LeCun & Cortes: magic 0, 0, 8, dimensions, then sizes)."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            head = file.read(4 + 4 * dimensions)
            if len(head) < 4 + 4 * dimensions or head[:4] != bytes((0, 0, 8, dimensions)):
                refuse(path, f"it does not begin as IDX with {dimensions} dimensions of bytes")
            shape = np.frombuffer(head[4:], ">u4").tolist()
            size = math.prod(shape)
            if packed and size < LARGEST:
                _check_ratio(path, size, path.stat().st_size)
            # Read no more than what was promised, and see that nothing comes after it.
            content = file.read(size + 1) if size < LARGEST else b""
    except (OSError, EOFError, zlib.error) as error:
        refuse(path, f"the file is broken ({error})")
    if len(content) != size:
        refuse(
            path, f"it promises {size} bytes for shape {tuple(shape)} and holds {len(content)}; expected a whole file"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_npz(path: Path) -> Arrays:
    """Return images (N, C, H, W), uint8 or float32, and labels of an NPZ file."""
    try:
        with zipfile.ZipFile(path) as file:
            parts = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
            if len(parts) < len(file.infolist()):
                refuse(path, "two of its members have one name; expected each array once")
            x, y = (_one_of(path, parts, names) for names in (IMAGES, LABELS))
            for part in (parts[x], parts[y]):
                if part.file_size > LARGEST:
                    refuse(path, f"an array has {part.file_size} bytes; expected at most {LARGEST}")
                _check_ratio(path, part.file_size, part.compress_size)
        with np.load(path, allow_pickle=False) as content:
            images, labels = content[x], content[y]
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        MemoryError,
        zlib.error,
        zipfile.BadZipFile,
        NotImplementedError,
    ) as e:
        if isinstance(e, InputError):
            raise
        refuse(path, f"it is no NPZ, or a damaged one ({' '.join(str(e).split())[:80]})")
    return channels_first(path, images), _labels(path, labels)


def channels_first(path: Path, images: np.ndarray) -> np.ndarray:
    """Return images as (N, C, H, W); grey ones may lack C, and C of 1 or 3 may come last."""
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or 0 in images.shape:
        refuse(path, f"its images have shape {images.shape}; expected (N, C, H, W), (N, H, W, C) or (N, H, W)")
    if images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f" or not np.isfinite(images).all() or images.min() < 0 or images.max() > 1:
        refuse(path, f"its images are {images.dtype} from {images.min()} to {images.max()}; expected uint8, or [0, 1]")
    return images.astype(np.float32)


def read_binary(path: Path) -> Arrays:
    """Return a batch of CIFAR-10's binary version: rows of 1 + 3072 bytes, label and pixels."""
    content = np.fromfile(path, np.uint8)
    if len(content) == 0 or len(content) % 3073:
        refuse(path, f"it has {len(content)} bytes; expected rows of 3073")
    rows = content.reshape(-1, 3073)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)


def read_pickle(path: Path) -> Arrays:
    """Return a batch of CIFAR-10's Python version; its pickle may hold arrays, numbers and text, and runs nothing."""
    try:
        content = read_pickle_of_arrays(path.read_bytes())
        entries = content if isinstance(content, Mapping) else {}
        images, labels = (_values(entries.get(name, entries.get(name.encode()))) for name in ("data", "labels"))
    except InputError:
        raise
    except Exception as error:
        refuse(path, f"it is no pickle of arrays ({type(error).__name__}: {' '.join(str(error).split())[:80]})")
    if images is None or images.ndim != 2 or images.shape[1] != 3072 or images.dtype != np.uint8:
        refuse(path, "it holds no uint8 array `data` of shape (N, 3072)")
    if labels is None:
        refuse(path, "it holds no `labels`, a list of numbers")
    return images.reshape(-1, 3, 32, 32), _labels(path, labels)


def _values(entry: object) -> np.ndarray | None:
    if isinstance(entry, Array):
        return entry.values
    if isinstance(entry, list) and all(type(part) is int for part in entry):
        return np.array(entry, np.int64)
    return None


def checked(path: Path, arrays: Arrays) -> Arrays:
    """Return images and labels that belong together."""
    images, labels = arrays
    if len(images) != len(labels):
        refuse(path, f"it has {len(images)} images and {len(labels)} labels; expected as many")
    return arrays


def _labels(path: Path, labels: np.ndarray) -> np.ndarray:
    labels = labels.reshape(-1) if labels.ndim == 2 and 1 in labels.shape else labels
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.min(initial=0) < 0:
        refuse(path, f"its labels are {labels.dtype} of shape {labels.shape}; expected class indices, (N,)")
    return labels.astype(np.int64)


def _check_ratio(path: Path, unfolded: int, packed: int) -> None:
    if unfolded > max(_ROOM, _RATIO * packed):
        refuse(path, f"{packed} bytes of it unfold to {unfolded}; if you trust it, store it uncompressed")


def _one_of(path: Path, sizes: Mapping[str, object], names: tuple[str, ...]) -> str:
    present = next((name for name in names if name in sizes), None)
    if present is None:
        refuse(path, f"it holds {', '.join(sorted(sizes)) or 'nothing'}; expected one of {', '.join(names)}")
    return present
