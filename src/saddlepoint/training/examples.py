"""Training examples: in memory or read as they come, split by a seed, in an order that seed and epoch alone decide."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from saddlepoint import random
from saddlepoint.data.datasets import Dataset
from saddlepoint.data.datasets.dataset import Sample
from saddlepoint.data.datasets.references import KINDS
from saddlepoint.errors import InputError
from saddlepoint.training.recipe import Recipe
from saddlepoint.typing import Images, Labels

MEMORY = 4 * 2**30
"""Bytes of float32 pixels up to which a data set is held in memory; a larger one is read batch by batch."""
_READERS = 8
"""Threads that decode a batch: decoding leaves Python's lock."""


@final
@dataclass(frozen=True, slots=True)
class Examples:
    """Pixels (N, C, H, W) and labels (N,), in memory."""

    x: Images
    y: Labels

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.x.shape[1:])

    def images(self, rows: Tensor) -> Images:
        """Return the pixels of some of them."""
        return self.x[rows]

    def take(self, rows: Tensor) -> "Examples":
        """Return some of them."""
        return Examples(self.x[rows], self.y[rows])


@final
@dataclass(frozen=True, slots=True)
class Streamed:
    """Examples that are read and decoded when they are asked for: `places` of a data set, and their labels, (N,)."""

    data: Dataset
    places: Tensor
    y: Labels
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.y)

    def images(self, rows: Tensor) -> Images:
        """Return the pixels of some of them.

        Raises:
            InputError: one is damaged, or of another shape.
        """
        with ThreadPoolExecutor(_READERS) as pool:
            samples = list(pool.map(self._read, self.places[rows].tolist()))
        return torch.stack([sample.x for sample in samples])

    def take(self, rows: Tensor) -> "Streamed":
        """Return some of them."""
        return Streamed(self.data, self.places[rows], self.y[rows], self.shape)

    def _read(self, place: int) -> Sample:
        sample = _sample(self.data, place)
        if tuple(sample.x.shape) != self.shape:
            raise InputError(_shapes(self.data, tuple(sample.x.shape), self.shape))
        return sample


Source = Examples | Streamed


def training_reference(reference: str) -> str:
    """Return the reference to the training images, of data sets that have two parts and of which none was named."""
    kind = KINDS.get(reference.partition(":")[0])
    named = reference.endswith((":train", ":test"))
    return f"{reference}:train" if kind is not None and kind.split and not named else reference


def read(data: Dataset, memory: int | None = None) -> Source:
    """Return all examples: in memory if they fit into so many bytes, `MEMORY` when not given.

    Raises:
        InputError: there are none, one is damaged, or their shapes differ.
    """
    if not len(data):
        raise InputError(f"{data.name} has no example; expected some to train on")
    shape = tuple(_sample(data, 0).x.shape)
    places = torch.arange(len(data))
    whole = Streamed(data, places, torch.tensor([data.labels[place] for place in data.places]), shape)
    if 4 * len(data) * torch.Size(shape).numel() > (MEMORY if memory is None else memory):
        return whole
    return Examples(torch.stack([whole._read(place).x for place in range(len(data))]), whole.y)


def _sample(data: Dataset, place: int) -> Sample:
    try:
        return data.read(place)
    except InputError as error:
        raise InputError(f"the example {data.ids[place]!r} of {data.name} cannot be used: {error}") from None


def _shapes(data: Dataset, first: tuple[int, ...], second: tuple[int, ...]) -> str:
    return f"the examples of {data.name} have shapes such as {first} and {second}; expected one for all"


def read_ahead(examples: Source, parts: Iterator[Tensor]) -> Iterator[tuple[Tensor, Images]]:
    """Yield places and their pixels; what must be decoded is so while the caller works on the part before."""
    if isinstance(examples, Examples):
        yield from ((rows, examples.images(rows)) for rows in parts)
        return
    before: tuple[Tensor, Future[Images]] | None = None
    with ThreadPoolExecutor(1) as pool:
        for rows in parts:
            now = rows, pool.submit(examples.images, rows)
            if before is not None:
                yield before[0], before[1].result()
            before = now
        if before is not None:
            yield before[0], before[1].result()


def split(examples: Source, share: float, seed: int) -> tuple[Source, Source]:
    """Return training and validation examples; which are which depends on (seed, place) alone."""
    count = round(share * len(examples))
    order = permutation(len(examples), random.key(seed, "split"))
    return examples.take(order[count:].sort().values), examples.take(order[:count].sort().values)


def permutation(count: int, key: int) -> Tensor:
    """Return a random order of `count` places."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(key % 2**63))


def batches(count: int, size: int, key: int) -> Iterator[Tensor]:
    """Yield the places of each batch of an epoch; a last one of less than half the size is left out."""
    order = permutation(count, key)
    for part in torch.split(order, size):
        if 2 * len(part) >= min(size, count):
            yield part


def steps_of(count: int, size: int) -> int:
    """Return how many batches an epoch has."""
    whole, rest = divmod(count, size)
    return whole + (2 * rest >= min(size, count))


def augmented(x: Images, recipe: Recipe) -> Images:
    """Return the images, moved and mirrored as the recipe says; torch's global generator decides."""
    for kind in recipe.augment:
        x = _cropped(x) if kind == "crop" else _flipped(x)
    return x


def _cropped(x: Images) -> Images:
    """Shift each image by up to an eighth of its size, zeros coming in: RandomCrop with padding, for a whole batch."""
    batch, _, height, width = x.shape
    pad = max(height, width) // 8
    padded = torch.nn.functional.pad(x, (pad, pad, pad, pad))
    down, right = (torch.randint(2 * pad + 1, (batch, 1), device=x.device) for _ in range(2))
    rows = down + torch.arange(height, device=x.device)
    columns = right + torch.arange(width, device=x.device)
    at = torch.arange(batch, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[at, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def _flipped(x: Images) -> Images:
    mirror = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(mirror, x.flip(-1), x)
