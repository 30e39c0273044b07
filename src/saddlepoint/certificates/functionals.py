"""Linear functionals ⟨A, z⟩ of a node's result z, B sets of S each: of all of z, or each of a window of it.

A neuron of a convolution depends on a small window of the layers before it. `Patches` keeps that window only, so that
a functional costs what the neuron's receptive field does, not what the layer does.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from saddlepoint.certificates.rounding import careful_sum

Pair = tuple[int, int]

_CACHED = 32
"""Functionals of a whole layer that are worked on at once."""
_LARGE = 0.5
"""Windows of at least this share of the grid are spread over it: a dense layer is then as fast."""


@final
@dataclass(frozen=True, eq=False)
class Dense:
    """A as it is.

    Attributes:
        values: (B, S, *shape).
    """

    values: Tensor

    def read(self, z: Tensor) -> Tensor:
        """Return z, (B or 1, *shape), so that it meets the values."""
        return z.unsqueeze(1)

    def dense(self) -> "Dense":
        """Return itself."""
        return self

    def apart(self) -> "Dense":
        """Return each functional of one set as a set of its own."""
        return Dense(self.values.movedim(1, 0))

    def __add__(self, other: "Functionals") -> "Dense":
        """Return the sums."""
        return Dense(self.values + other.dense().values)

    def parts(self) -> Iterator["Dense"]:
        """Yield some functionals at a time: arithmetic on what fits into a cache costs a fraction."""
        return map(Dense, self.values.split(_CACHED, 1))  # type: ignore[no-untyped-call]

    def size(self, vector: Tensor) -> Tensor:
        """Return ⟨|A|, v⟩, (B, S), for v ≥ 0."""
        return torch.cat([(part.values.abs() * part.read(vector)).flatten(2).sum(2) for part in self.parts()], 1)

    def inner(self, vector: Tensor, *, careful: bool = False) -> Tensor:
        """Return ⟨A, v⟩, (B, S), for one v per set, (B or 1, *shape); see `careful_sum`."""
        flat, other = self.values.flatten(2), vector.flatten(1).unsqueeze(1)
        return careful_sum(flat * other) if careful else (flat @ other.mT).squeeze(2)

    def over(self, vector: Tensor, *, careful: bool) -> Tensor:
        """Return ⟨A, v⟩, (B, S); of one set over the coordinates where v is not 0."""
        flat, chosen = vector.flatten(1), self.values.flatten(2)
        if len(flat) == 1:  # what a sum rounds must not depend on which sets are together
            places = flat[0].nonzero().squeeze(1)
            flat, chosen = flat.index_select(1, places), chosen.index_select(2, places)
        return Dense(chosen).inner(flat, careful=careful)


@final
@dataclass(frozen=True, eq=False)
class Patches:
    """Functionals of a grid, each zero outside of a window.

    Attributes:
        values: (B, S, C, h, w). Those that lie over the edge of the grid are 0.
        origin: rows and columns at the node where the functionals began, (2, B or 1, S).
        stride: by which an origin is multiplied, and
        shift: what is then added, for the window's first row and column.
        grid: (C, H, W).
    """

    values: Tensor
    origin: Tensor
    stride: Pair
    shift: Pair
    grid: tuple[int, ...]

    @cached_property
    def _lines(self) -> tuple[Tensor, Tensor]:
        """The windows' rows, (B or 1, S, h), and columns, (B or 1, S, w), on the grid or over its edge."""
        first = (self.origin[axis] * self.stride[axis] + self.shift[axis] for axis in (0, 1))
        rows, columns = (
            begin.unsqueeze(2) + torch.arange(size, device=begin.device)
            for begin, size in zip(first, self.values.shape[3:], strict=True)
        )
        return rows, columns

    @cached_property
    def _places(self) -> Tensor:
        """Where each value stands in the flattened grid, (B or 1, S·h·w); those over the edge, at its border."""
        _, height, width = self.grid
        rows, columns = self._lines
        places = rows.clamp(0, height - 1).unsqueeze(3) * width + columns.clamp(0, width - 1).unsqueeze(2)
        return places.flatten(1)

    def read(self, z: Tensor) -> Tensor:
        """Return z, (B or 1, C, H, W), in the windows."""
        _, count, _, high, wide = self.values.shape
        sets, channels = max(len(z), len(self._places)), self.grid[0]
        places = self._places.reshape(-1, count, 1, high * wide).expand(sets, -1, channels, -1)
        windows = z.flatten(2).unsqueeze(1).expand(sets, count, -1, -1).gather(3, places)
        return windows.reshape(sets, count, channels, high, wide)

    def dense(self) -> Dense:
        """Return the same functionals of the whole grid."""
        sets, count, channels, high, wide = self.values.shape
        zeros = self.values.new_zeros(sets, count, channels, self.grid[1] * self.grid[2])
        places = self._places.reshape(-1, count, 1, high * wide).expand(sets, -1, channels, -1)
        return Dense(zeros.scatter_add(3, places, self.values.flatten(3)).reshape(sets, count, *self.grid))

    def apart(self) -> "Patches":
        """Return each functional of one set as a set of its own."""
        return replace(self, values=self.values.movedim(1, 0), origin=self.origin.mT)

    def __add__(self, other: "Functionals") -> "Functionals":
        """Return the sums, in windows that hold both."""
        if isinstance(other, Dense) or self.stride != other.stride:
            return self.dense() + other
        shift = _pair(min(pair) for pair in zip(self.shift, other.shift, strict=True))
        end = _pair(max(pair) for pair in zip(self._end, other._end, strict=True))
        return replace(self, values=self._widened(shift, end) + other._widened(shift, end), shift=shift)

    @property
    def _end(self) -> Pair:
        high, wide = self.values.shape[3:]
        return self.shift[0] + high, self.shift[1] + wide

    def _widened(self, shift: Pair, end: Pair) -> Tensor:
        (top, left), (bottom, right) = self.shift, self._end
        return functional.pad(self.values, (left - shift[1], end[1] - right, top - shift[0], end[0] - bottom))

    def moved(self, values: Tensor, stride: Pair, padding: Pair, grid: tuple[int, ...]) -> "Functionals":
        """Return functionals of a node before: windows `stride` times as far apart that begin `padding` earlier.

        Args:
            values: the coefficients at the node before.
            stride: how many of its pixels one step of this node is, along both axes.
            padding: how many pixels earlier its windows begin.
            grid: height and width of the node before.
        """
        place = replace(
            self,
            values=values,
            stride=_pair(a * b for a, b in zip(self.stride, stride, strict=True)),
            shift=_pair(a * b - p for a, b, p in zip(self.shift, stride, padding, strict=True)),
            grid=grid,
        )
        cut = replace(place, values=values * place._inside) if any(padding) else place
        return cut.dense() if values[0, 0, 0].numel() >= _LARGE * grid[1] * grid[2] else cut

    @property
    def _inside(self) -> Tensor:
        """One on the grid, zero over its edge, (B or 1, S, 1, h, w)."""
        rows, columns = ((at >= 0) & (at < size) for at, size in zip(self._lines, self.grid[1:], strict=True))
        return (rows.unsqueeze(3) & columns.unsqueeze(2)).unsqueeze(2).to(self.values.dtype)

    def parts(self) -> Iterator["Patches"]:
        """Yield itself: windows are small."""
        yield self

    def size(self, vector: Tensor) -> Tensor:
        """Return ⟨|A|, v⟩, (B, S), for v ≥ 0."""
        return (self.values * self.read(vector)).flatten(2).abs_().sum(2)

    def inner(self, vector: Tensor, *, careful: bool = False) -> Tensor:
        """Return ⟨A, v⟩, (B, S), for one v per set, (B or 1, C, H, W); see `careful_sum`."""
        products = (self.values * self.read(vector)).flatten(2)
        return careful_sum(products) if careful else products.sum(2)

    def over(self, vector: Tensor, *, careful: bool) -> Tensor:
        """Return ⟨A, v⟩, (B, S)."""
        return self.inner(vector, careful=careful)


Functionals = Dense | Patches


def units(
    shape: tuple[int, ...], coordinates: Tensor, like: Tensor, sets: int, signs: tuple[int, ...] = (1, -1)
) -> Functionals:
    """Return s z_k for each sign s and coordinate k of a node, sign by sign, for `sets` sets.

    Args:
        shape: of the node.
        coordinates: positions in the flattened node.
        like: a tensor of the type and device wanted.
        sets: B.
        signs: 1 for z_k, −1 for −z_k.
    """
    count = len(signs) * len(coordinates)
    sign = torch.tensor(signs, dtype=like.dtype, device=like.device).reshape(-1, 1, 1)
    if len(shape) != 3:
        unit = _one_hot(coordinates, int(torch.Size(shape).numel()), like)
        return Dense((sign * unit).reshape(count, *shape).expand(sets, -1, *shape))
    channels, height, width = shape
    unit = _one_hot(coordinates // (height * width), channels, like)
    values = (sign * unit).reshape(count, channels, 1, 1).expand(sets, -1, -1, 1, 1)
    place = coordinates % (height * width)
    origin = torch.stack([place // width, place % width]).unsqueeze(1).repeat(1, 1, len(signs))
    return Patches(values, origin, (1, 1), (0, 0), shape)


def _one_hot(positions: Tensor, size: int, like: Tensor) -> Tensor:
    return functional.one_hot(positions, size).to(like)


def size_of(a: Functionals, vector: Tensor) -> Tensor:
    """Return at least ⟨|A|, v⟩, (B, S), for one v ≥ 0 per set: a sum of n terms ≥ 0 loses at most γ_n of itself."""
    # eps is 2u, so that this allows 4u(n + 8): γ_n ≈ n·u is the sum's own, the rest is for products and for v.
    unit = torch.finfo(a.values.dtype).eps * (a.values[0, 0].numel() + 8)
    return a.size(vector) * (1 + 2 * unit)


def _pair(numbers: Iterable[int]) -> Pair:
    rows, columns = numbers
    return rows, columns
