"""Adversarial points and their clean images: safetensors by record key, each with its SHA-256.

The image of a point lies beside it, as bytes where its pixels are multiples of 1/255: a reader needs no data set.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlepoint.errors import InputError, RunError, TornError, reason

FORMAT, VERSION = "saddlepoint-points", 1
_RESERVED = "__metadata__"
_CLEAN = "clean "
"""Before the key of the record whose image it is; keys of records begin with their kind."""

Pixels = NDArray[np.float32] | NDArray[np.uint8]


def owned(identity: str, point: NDArray[Any]) -> NDArray[np.float32]:
    """Return a copy of a point that nobody else will write to.

    Raises:
        InputError: it is not float32 (C, H, W), or its id cannot be a key of safetensors.
    """
    if point.dtype != np.float32 or point.ndim != 3:
        raise InputError(f"the point of {identity!r} is {point.dtype} {point.shape}; expected float32 (C, H, W)")
    if identity == _RESERVED:
        raise InputError(f"an example has the id {identity!r}, which safetensors reserve; expected another one")
    return np.array(point, dtype="<f4", order="C")


def image(x: NDArray[Any]) -> Pixels:
    """Return a copy of an image, float32 (C, H, W): as bytes if each pixel is exactly a multiple of 1/255."""
    bytes_ = np.round(np.clip(x, 0, 1) * 255).astype(np.uint8)
    return bytes_ if np.array_equal(as_pixels(bytes_), x) else np.array(x, dtype="<f4", order="C")


def as_pixels(x: Pixels) -> NDArray[np.float32]:
    """Return an image as float32 pixels in [0, 1]."""
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x.astype(np.float32)


def encode(points: Mapping[str, NDArray[np.float32]], images: Mapping[str, Pixels]) -> bytes:
    """Return points, and the images of some of them, as the content of a safetensors file."""
    from safetensors.numpy import save

    tensors = {**points, **{_CLEAN + key: x for key, x in images.items()}}
    digests = {key: _sha256(tensor) for key, tensor in tensors.items()}
    text = json.dumps(digests, sort_keys=True, ensure_ascii=False)
    return bytes(save(tensors, {"format": FORMAT, "version": str(VERSION), "sha256": text}))


def stored(path: Path) -> set[str]:
    """Return the ids of the points in a file, from its header alone; a missing file holds none.

    Raises:
        RunError: the file is torn, foreign or of a newer version.
    """
    if not path.exists():
        return set()
    with _opened(path) as (_, digests):
        return {key for key in digests if not key.startswith(_CLEAN)}


def read_points(path: Path, wanted: Iterable[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield points with their ids, float32 (C, H, W), each after checking it against its SHA-256.

    Raises:
        RunError: the file is torn, foreign, or newer, or does not hold a point as it was written.
    """
    with _opened(path) as (file, digests):
        for identity in wanted:
            if identity not in digests:
                raise RunError(
                    f"the point of {identity!r} is not in {str(path)!r}, where its row says; restore the file"
                )
            point: NDArray[np.float32] = file.get_tensor(identity)
            if point.dtype != np.float32 or point.ndim != 3 or _sha256(point) != digests[identity]:
                raise RunError(f"the point of {identity!r} in {str(path)!r} is not what was written; restore the file")
            yield identity, point


def read_images(path: Path, wanted: Iterable[str]) -> Iterator[tuple[str, Pixels]]:
    """Yield the images of points with the points' keys, where they were kept, each after checking its SHA-256.

    Raises:
        RunError: as `read_points`.
    """
    with _opened(path) as (file, digests):
        for key in wanted:
            if _CLEAN + key not in digests:
                continue
            x: Pixels = file.get_tensor(_CLEAN + key)
            if x.ndim != 3 or _sha256(x) != digests[_CLEAN + key]:
                raise RunError(f"the image of {key!r} in {str(path)!r} is not what was written; restore the file")
            yield key, x


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """Yield a checked file and the SHA-256 of each of its points; what the reader trips over is one line."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            yield file, _digests(file, path)
    except RunError:
        raise
    except Exception as error:  # whatever safetensors make of broken bytes
        raise TornError(
            f"{str(path)!r} cannot be read ({reason(error)}); it is torn: restore it, or remove it and give the same "
            "command again"
        ) from None


def _digests(file: Any, path: Path) -> dict[str, str]:  # noqa: ANN401 - safetensors have no types
    head = file.metadata() or {}
    version = head.get("version", "")
    if head.get("format") != FORMAT:
        raise RunError(f"{str(path)!r} is not of a run folder; move it out of there")
    if version.isdecimal() and int(version) > VERSION:
        raise RunError(f"{str(path)!r} was written by a newer saddlepoint (points {version}); update saddlepoint")
    digests = json.loads(head["sha256"])
    if version != str(VERSION) or not isinstance(digests, dict) or set(digests) != set(file.keys()):
        raise TornError(f"{str(path)!r} is torn or was edited; restore it")
    return digests


def _sha256(point: Pixels) -> str:
    head = repr(point.shape).encode()
    return hashlib.sha256(head + point.tobytes()).hexdigest()
