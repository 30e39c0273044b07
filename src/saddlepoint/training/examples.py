"""Training examples: in memory, split by a seed, drawn in an order that the seed and the epoch alone decide."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlepoint import random
from saddlepoint.data.datasets import Dataset
from saddlepoint.errors import InputError
from saddlepoint.training.recipe import Recipe
from saddlepoint.typing import Images, Labels

_SPLIT = {"mnist", "fashion-mnist", "cifar10"}


@dataclass(frozen=True, slots=True)
class Examples:
    """Pixels (N, C, H, W) and labels (N,)."""

    x: Images
    y: Labels

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Tensor) -> "Examples":
        """Return some of them."""
        return Examples(self.x[rows], self.y[rows])


def training_reference(reference: str) -> str:
    """Return the reference to the training images, of data sets that have two parts and of which none was named."""
    kind = reference.partition(":")[0]
    named = reference.endswith((":train", ":test"))
    return f"{reference}:train" if kind in _SPLIT and not named else reference


def read(data: Dataset) -> Examples:
    """Read all examples into memory.

    Raises:
        InputError: one is damaged, or their shapes differ.
    """
    samples = [data.read(index) for index in range(len(data))]
    shapes = {tuple(sample.x.shape) for sample in samples}
    if len(shapes) > 1:
        first, second = sorted(shapes)[:2]
        raise InputError(f"the examples of {data.name} have shapes such as {first} and {second}; expected one for all")
    return Examples(torch.stack([sample.x for sample in samples]), torch.tensor([sample.y for sample in samples]))


def split(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
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
