"""A data set: identities that are cheap to list, and examples that are read one at a time."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from saddlepoint import random
from saddlepoint.classifier import Preprocessing
from saddlepoint.data.preprocess import preprocess
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
        fetch: returns the photograph at a place of the whole set, or its stored pixels, which are taken as they are;
            raises InputError if it is damaged.
        places: where in the whole set each example stands.
        labels: of the whole set.
        classes: what the labels are called, by label; None if that is not known.
        customary: whether a model of as many classes has them in this order, as CIFAR-10's have.
        photos: whether examples are photographs, which can be brought into another shape.
        content: returns a hash of all examples, where that is cheap; None else.
        recipe: what is done to a photograph.
        grey: whether a photograph becomes one channel.
        shape: that every example has; None for any.
    """

    name: str
    ids: Sequence[str]
    fetch: Callable[[int], Stored | Image.Image]
    places: Sequence[int]
    labels: Sequence[int]
    classes: Mapping[int, str] | None = None
    customary: bool = True
    photos: bool = False
    content: Callable[[], str | None] = lambda: None
    recipe: Preprocessing = field(default_factory=Preprocessing)
    grey: bool = False
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if len(set(self.ids)) < len(self.ids):
            ((twice, _),) = Counter(self.ids).most_common(1)
            raise InputError(f"two examples of {self.name} have the id {twice!r}; expected different names: rename one")
        if min(self.labels, default=0) < 0:
            place = min(range(len(self.labels)), key=self.labels.__getitem__)
            raise InputError(
                f"{self.name} has the label {self.labels[place]} at its example {place}; expected classes from 0: some "
                "test sets have no labels, name another split"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Sample:
        """Return one example in the form that its model takes.

        Raises:
            InputError: it is damaged, or of another shape; the others can be read all the same.
        """
        place = self.places[index]
        levels, label = np.ascontiguousarray(self._levels(self.fetch(place))), self.labels[place]
        if self.shape not in (None, levels.shape):
            raise InputError(f"its shape is {levels.shape}; expected {self.shape}, which the others have")
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

    def relabelled(self, labels: Mapping[int, int]) -> "Dataset":
        """Return the same examples with other labels: those of a model."""
        classes = None if self.classes is None else {labels[label]: name for label, name in self.classes.items()}
        return replace(self, labels=[labels[label] for label in self.labels], classes=classes)

    @classmethod
    def from_tensors(
        cls, x: object, y: object, *, ids: Sequence[str] | None = None, classes: Sequence[str] | None = None
    ) -> "Dataset":
        """Return a data set over images and labels.

        Args:
            x: (N, C, H, W), a tensor or an array: floating-point in [0, 1], or uint8, 0 to 255.
            y: labels, (N,), whole numbers.
            ids: stable names of the examples, all different; their places when not given.
            classes: what the labels are called.

        Raises:
            InputError: they cannot be used.
        """
        images, labels = from_arrays(x, "x"), torch.as_tensor(y).detach().cpu()
        if labels.is_floating_point() or labels.dtype == torch.bool or labels.numel() != len(images) or not len(images):
            raise InputError(
                f"y has shape {tuple(labels.shape)} and type {labels.dtype}, x holds {len(images)} images; expected a "
                "whole number for each"
            )
        data = of_arrays("tensors", "tensors", images, labels.flatten().long().numpy(), classes)
        return data if ids is None else replace(data, ids=_named(ids, len(images)))

    def __repr__(self) -> str:
        """Return what it holds, in one line."""
        kind = "photographs" if self.photos else "images"
        shape = "" if self.shape is None else f" of shape {tuple(self.shape)}"
        labels = {self.labels[place] for place in self.places}
        return f"Dataset({self.name!r}: {len(self)} {kind}{shape}, {len(labels)} classes)"

    def _levels(self, stored: Stored | Image.Image) -> Stored:
        if not isinstance(stored, Image.Image):
            return stored
        levels = preprocess(stored.convert("L") if self.grey else stored, self.recipe).numpy()
        return levels[:1] if self.grey else levels


def _named(ids: Sequence[str], count: int) -> list[str]:
    if len(ids) != count:
        raise InputError(f"ids holds {len(ids)} names for {count} examples; expected one for each")
    return list(map(str, ids))


def from_arrays(x: object, what: str) -> np.ndarray:
    """Return images as they are stored, uint8 or float32 in [0, 1], (N, C, H, W).

    Raises:
        InputError: they are of another shape, or their pixels are others.
    """
    images = torch.as_tensor(x).detach().cpu()
    if images.dim() == 3:
        raise InputError(f"{what} has shape {tuple(images.shape)}; expected (N, C, H, W): x[:, None] adds the channel")
    if images.dim() != 4:
        raise InputError(f"{what} has shape {tuple(images.shape)}; expected (N, C, H, W)")
    if images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        raise InputError(f"{what} has shape {tuple(images.shape)}; expected channels first: x.permute(0, 3, 1, 2)")
    if images.dtype == torch.uint8 or not images.numel():
        return images.numpy()
    if not images.is_floating_point():
        raise InputError(f"{what} has type {images.dtype}; expected uint8, or floating-point pixels in [0, 1]")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"{what} has pixels from {low:.3g} to {high:.3g}; expected [0, 1]: leave out transforms.Normalize, pass "
            "mean and std to sp.Classifier; divide levels by 255; clamp what overshoots a little: x.clamp(0, 1)"
        )
    return images.float().numpy()


def of_arrays(
    name: str, prefix: str, images: np.ndarray, labels: np.ndarray, classes: Sequence[str] | None = None
) -> Dataset:
    """Return a data set over arrays: images uint8 or float32 (N, C, H, W), labels (N,); ids are "prefix/00042".

    Args:
        name: what messages and records call it.
        prefix: the first part of every id.
        images: uint8 in [0, 255] or float32 in [0, 1], (N, C, H, W).
        labels: integers, (N,).
        classes: the names of the classes; None where they have none.
    """
    width = max(5, len(str(len(images) - 1)))
    ids = [f"{prefix}/{index:0{width}d}" for index in range(len(images))]

    def content() -> str:
        total = hashlib.sha256(f"{images.dtype} {images.shape} {labels.tolist()}\n".encode())
        for image in images:
            total.update(np.ascontiguousarray(image).data)
        return f"sha256:{total.hexdigest()}"

    names = None if classes is None else dict(enumerate(classes))
    places = range(len(images))
    return Dataset(name, ids, images.__getitem__, places, labels.tolist(), names, content=content)
