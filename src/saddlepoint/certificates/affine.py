"""Affine operations: one rule for all of them.

f(x₁, …, x_k) = Σ L_i x_i + b, with L a function that is linear in its parents and whose coefficients are non-negative
when its weights are: |L| is then the same function of the weights' absolute values.

    interval     f([c − r, c + r]) = [f(c) − |L| r, f(c) + |L| r]
    functional   ⟨A, f(x)⟩ = ⟨Lᵀ A, x⟩ + ⟨A, b⟩
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch
from torch import Tensor

from saddlepoint.certificates.rounding import gamma, small, summed

Linear = Callable[..., Tensor]
"""L(*parents, *weights), parents and result with examples along the first axis."""
Transpose = Callable[..., tuple[Tensor | None, ...]]
"""Lᵀ(A, *weights): one functional for each parent, from one of the result."""
Pull = Callable[..., tuple[Tensor | None, ...]]
"""Lᵀ(A, *weights) for A of windows of a grid, (N, C, h, w): their values at each parent that L reads."""
Range = Callable[..., tuple[Tensor, Tensor]]
"""The range of f for parents' ranges, each (lower, upper)."""
Reweigh = Callable[[Tensor, Tensor], Tensor]
"""A weight that has taken in factors of channels: numbers, (C, 1, …), or one for all."""


@final
@dataclass(frozen=True)
class Stencil:
    """Lᵀ of an operation that does the same everywhere on a grid: convolutions, and what works on channels alone.

    Attributes:
        pull: the values of windows at each parent.
        stride: how many times farther apart they lie there,
        padding: and by how much they begin earlier.
    """

    pull: Pull
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


@final
@dataclass(frozen=True, eq=False)
class Form:
    """How an audit reads L: by what, with which settings, from which of the network's own arrays.

    Attributes:
        kind: an operation of `saddlepoint_audit.operations`.
        arrays: as the module holds them, not yet folded.
        settings: plain numbers.
        whole: whether the offset is in the arrays, too.
    """

    kind: str
    arrays: Mapping[str, Tensor] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = False


@final
@dataclass(frozen=True, eq=False)
class Affine:
    """f(x₁, …, x_k) = L(x₁, …, x_k; weights) + offset.

    Attributes:
        linear: L.
        shapes: of the parents, without the examples' axis.
        weights: the constants of L.
        offset: b, in the shape of one result; None for zero.
        terms: how many products a coordinate of L sums at most.
        pulled: how many one of Lᵀ sums; as many when not given.
        exact: whether L only moves numbers, so that nothing is rounded.
        adjoint: Lᵀ where it is simple, None for a parent that L does not read; None to have it derived.
        range: a tighter range than that of a sum, where there is one.
        stencil: Lᵀ for functionals of windows, where the operation does the same everywhere on a grid.
        channelwise: whether f(x) = w · x + b, of one shape, with one factor w for each channel.
        rescaled: of the one weight and a factor for each channel of the result, the weight that has taken them in.
        rereading: the same of a factor for each channel of the parent.
        parts: the magnitudes of the terms that b was summed of, where others were folded into it.
        form: how an audit reads L; None where it takes numbers of a matrix, or after folding.
    """

    linear: Linear
    shapes: tuple[tuple[int, ...], ...]
    weights: tuple[Tensor, ...] = ()
    offset: Tensor | None = None
    terms: int = 1
    pulled: int | None = None
    exact: bool = False
    adjoint: Transpose | None = None
    range: Range | None = None
    stencil: Stencil | None = None
    channelwise: bool = False
    rescaled: Reweigh | None = None
    rereading: Reweigh | None = None
    parts: Tensor | None = None
    form: Form | None = None

    @property
    def most(self) -> int:
        """How many products a coordinate of L or Lᵀ sums at most."""
        return max(self.terms, self.pulled or 1)

    def forward(self, *parents: Tensor) -> Tensor:
        """Return f."""
        image = self.linear(*parents, *self.weights)
        return image if self.offset is None else image + unrepeated(self.offset)

    def magnitude(self, *parents: Tensor) -> Tensor:
        """Return |L| of non-negative parents."""
        return self.linear(*parents, *(weight.abs() for weight in self.weights))

    def interval(self, *parents: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the range of f, coordinate by coordinate, for parents in [lower, upper]."""
        if self.range is not None:
            return self.range(*parents)
        if self.exact and self.offset is None:
            return self.linear(*(low for low, _ in parents)), self.linear(*(high for _, high in parents))
        centre = self.forward(*((low + high) / 2 for low, high in parents))
        radius = self.magnitude(*((high - low) / 2 for low, high in parents))
        return centre - radius, centre + radius

    def rounding(self, *sizes: Tensor) -> Tensor | None:
        """Return by how much f(x) may be off in floating point: γ_n (|L| |x| + |b|) + n η.

        Sums of n products, in any order, are off by at most γ_n = n u / (1 − n u) of the sum of their magnitudes
        (Higham 2002, section 3.1), and each product by η more where it is too small for the type (eq. 2.8).
        `sizes` bound |x|.
        """
        return None if self.exact and self.offset is None else self._rounded(self.terms, sizes)

    def pulling(self, additions: int, *sizes: Tensor) -> Tensor | None:
        """Return what floating point may add to ⟨Lᵀ A, x⟩ + ⟨A, b⟩, per unit of |A|, likewise.

        Args:
            additions: how many functionals are added up at a parent, at most.
            sizes: bounds of |x|.
        """
        pulled = self.terms if self.pulled is None else self.pulled
        if self.exact and self.offset is None and additions < 2 and pulled == 1:
            return None
        return self._rounded(additions + (pulled if self.offset is None else max(pulled, summed(self.offset))), sizes)

    def _rounded(self, terms: int, sizes: tuple[Tensor, ...]) -> Tensor:
        size = self.magnitude(*sizes)
        if (constant := self.constant) is not None:
            size = size + constant
        return gamma(terms, size) * (size + small(size))

    @property
    def constant(self) -> Tensor | None:
        """|b|, or the sum of its terms' magnitudes: what its rounding is measured by."""
        return self.parts if self.parts is not None or self.offset is None else self.offset.abs()

    def transpose(self, functional: Tensor) -> tuple[Tensor | None, ...]:
        """Return Lᵀ A for each parent, from A of the result, functionals along the first axis."""
        if self.adjoint is not None:
            return self.adjoint(functional, *self.weights)
        zeros = [functional.new_zeros(functional.shape[0], *shape) for shape in self.shapes]
        pull = torch.func.vjp(lambda *parents: self.linear(*parents, *self.weights), *zeros)[1]
        pulled: tuple[Tensor, ...] = pull(functional)
        return pulled

    def transposed_magnitude(self, functional: Tensor) -> tuple[Tensor | None, ...]:
        """Return |L|ᵀ A for each parent, for A ≥ 0."""
        return replace(self, weights=tuple(weight.abs() for weight in self.weights)).transpose(functional)


def unrepeated(x: Tensor) -> Tensor:
    """Return the numbers that an expanded tensor repeats: they broadcast alike, and their gradient is one sum."""
    return x[tuple(slice(0, 1) if step == 0 else slice(None) for step in x.stride())]
