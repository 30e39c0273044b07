"""A data set: identities that are cheap to list, and examples that are read one at a time."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from saddlepoint import random
from saddlepoint.errors import InputError

Stored = np.ndarray
"""Pixels as a file holds them, (C, H, W): uint8 levels, or float32 in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One example.

    Attributes:
        id: stable: it depends on neither order, subset nor machine.
        x: pixels, float32 (C, H, W) in [0, 1].
        y: label.
        digest: SHA-256 of shape, pixels as they are stored, and label; hex.
    """

    id: str
    x: Tensor
    y: int
    digest: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples in an order, read when they are asked for.

    Attributes:
        name: the reference.
        ids: of the examples, in their order; all different.
        fetch: returns stored pixels and label of the example at a place of the whole set; raises InputError if it is
            damaged.
        places: where in the whole set each example stands.
        labels: of the whole set, where they are known without reading an example; None else.
    """

    name: str
    ids: Sequence[str]
    fetch: Callable[[int], tuple[Stored, int]]
    places: Sequence[int]
    labels: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Sample:
        """Return one example.

        Raises:
            InputError: it is damaged; the others can be read all the same.
        """
        levels, label = self.fetch(self.places[index])
        levels = np.ascontiguousarray(levels)
        content = f"{levels.dtype} {levels.shape} {label}\n".encode() + levels.tobytes()
        pixels = torch.from_numpy(levels.astype(np.float32))
        x = pixels / 255 if levels.dtype == np.uint8 else pixels
        return Sample(self.ids[index], x, label, hashlib.sha256(content).hexdigest())

    def select(self, *, limit: int | None = None, first: int | None = None, seed: int = 0) -> "Dataset":
        """Return a random sample of `limit` examples, or the `first` ones; in the order of the whole.

        A sample depends on (seed, ids) alone, and a smaller one is part of a larger one: the examples with the least
        keys. The first ones are often easier, as in MNIST.

        Raises:
            InputError: both were asked for.
        """
        if limit is not None and first is not None:
            raise InputError(f"limit is {limit} and first is {first}; expected one of them")
        chosen: Sequence[int] = range(len(self))[:first]
        if limit is not None:
            keys = [random.key(seed, "sample", identity) for identity in self.ids]
            chosen = sorted(sorted(range(len(self)), key=keys.__getitem__)[:limit])
        return replace(self, ids=[self.ids[i] for i in chosen], places=[self.places[i] for i in chosen])


def of_arrays(name: str, prefix: str, images: np.ndarray, labels: np.ndarray) -> Dataset:
    """Return a data set over arrays: images uint8 or float32 (N, C, H, W), labels (N,); ids are "prefix/00042"."""
    width = max(5, len(str(len(images) - 1)))
    ids = [f"{prefix}/{index:0{width}d}" for index in range(len(images))]
    return Dataset(name, ids, lambda place: (images[place], int(labels[place])), range(len(images)), labels.tolist())
