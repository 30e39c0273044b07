"""The neurons that domains split, and the lines of a domain.

A domain is the part of an input set on which some ReLUs have a given sign. On it, by weak duality (Wang et al. 2021,
"Beta-CROWN", theorem 3.1), for every slope α ∈ [0, 1] and multiplier β ≥ 0,

    ⟨A, h(x)⟩  ≥  ⟨A', x⟩ + c      where a ReLU takes A to   A' = (slope) A − β s

with s the sign of a split neuron, z s ≥ 0, whose line is then exact, and 0 for any other. What is known of every neuron
over the whole set is kept; a domain only adds its signs. It is a row of flat tensors over the P neurons whose sign is
open.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from saddlepoint.certificates.bounds import Bounds, sizes
from saddlepoint.certificates.crown import Relaxation, Sizes, backward, ranges, relax
from saddlepoint.certificates.functionals import Dense, Functionals
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.lines import Linear, Lines
from saddlepoint.certificates.relu import ReLU
from saddlepoint.certificates.sets import InputSet


@final
@dataclass(frozen=True, eq=False)
class SplitLines:
    """The lines of a ReLU's neurons on N domains.

    Attributes:
        lines: where the sign is given, the exact ones.
        pushed: β s, (N, *shape), which the functional of the input is less by.
        read: where to note the functional of the result, (N, 1, *shape); None for nowhere.
    """

    lines: Lines
    pushed: Tensor | None
    read: dict[int, Tensor] | None = None
    position: int = 0

    def backward(self, a: Functionals, careful: bool = False) -> tuple[Functionals | None, Tensor]:
        """Return A' and c, as `Lines.backward` does."""
        if self.read is not None:
            self.read[self.position] = a.dense().values
        moved, constant = self.lines.backward(a, careful)
        if self.pushed is None or moved is None:
            return moved, constant
        whole = moved.dense()
        return replace(whole, values=whole.values - self.pushed.unsqueeze(1)), constant


@final
@dataclass(frozen=True, eq=False)
class Neurons:
    """The P ReLUs whose sign is open over one set.

    Attributes:
        graph: of the network.
        region: the set.
        known: bounds of every node over it, one set.
    """

    graph: Graph
    region: InputSet
    known: Bounds

    @cached_property
    def places(self) -> Mapping[int, Tensor]:
        """Where they are: by the activation's position, in the flattened node."""
        # A sign makes no other activation linear: these keep their lines.
        relus = {i: both for i, both in self.ranges.items() if isinstance(self.graph.activation(i), ReLU)}
        loose = {i: self.graph.activation(i).loose(*both) for i, both in relus.items()}
        return {i: open_.flatten().nonzero().squeeze(1) for i, open_ in loose.items() if bool(open_.any())}

    @cached_property
    def ranges(self) -> Mapping[int, tuple[Tensor, Tensor]]:
        """What is known of the input of each activation."""
        return ranges(self.graph, self.known)

    @cached_property
    def count(self) -> int:
        """P."""
        return sum(len(places) for places in self.places.values())

    @cached_property
    def ends(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest value of each neuron's input, (P,)."""
        lower, upper = ({i: both[side] for i, both in self.ranges.items()} for side in (0, 1))
        return self.gathered(lower)[0], self.gathered(upper)[0]

    @cached_property
    def lost(self) -> Sizes:
        """What rounding may add to a bound, per node."""
        return sizes(self.graph, self.known)

    def gathered(self, values: Mapping[int, Tensor]) -> Tensor:
        """Return the neurons' entries of tensors by the activation's position, (N, *shape), as one, (N, P)."""
        parts = [values[i].flatten(1)[:, places] for i, places in self.places.items()]
        return torch.cat(parts, 1) if parts else self.known[0][0].new_zeros(1, 0)

    def double(self, graph: Graph) -> "Neurons":
        """Return the same of the graph in float64: bounds of real numbers hold in any type."""
        return Neurons(graph, self.region, tuple((low.double(), high.double()) for low, high in self.known))

    @cached_property
    def _fixed(self) -> dict[int, Lines]:
        """The lines of every activation over the whole set."""
        return relax(self.graph, self.ranges)

    def upper(self, signs: Tensor) -> "UpperLines":
        """Return the lines of these domains that do not depend on slopes and multipliers."""
        slopes, intercepts = {}, {}
        for i, (places, sign) in self._parts(signs).items():
            fixed = self._fixed[i]
            assert fixed.upper_slope is not None  # noqa: S101 - a ReLU's
            open_ = sign == 0
            chord, above = (part.flatten(1)[:, places] for part in (fixed.upper_slope, fixed.upper_intercept))
            slopes[i] = _with(fixed.upper_slope, places, torch.where(open_, chord, (sign > 0).to(chord)))
            intercepts[i] = _with(fixed.upper_intercept, places, torch.where(open_, above, 0))
        return UpperLines(slopes, intercepts)

    def lines(
        self, signs: Tensor, slopes: Tensor, multipliers: Tensor, upper: "UpperLines", read: dict[int, Tensor] | None
    ) -> Relaxation:
        """Return the lines of N domains.

        Args:
            signs: s, (N, P): 1, −1, or 0 where it is open.
            slopes: α, (N, P).
            multipliers: β, (N, P).
            upper: of these signs.
            read: where to note the functionals that arrive at each ReLU.
        """
        lines: dict[int, Linear] = dict(self._fixed)
        parts, betas = self._parts(slopes), self._parts(multipliers * signs)
        for i, (places, sign) in self._parts(signs).items():
            fixed = self._fixed[i]
            assert fixed.lower_slope is not None  # noqa: S101 - a ReLU's
            lower = torch.where(sign == 0, parts[i][1], (sign > 0).to(slopes))
            own = Lines(_with(fixed.lower_slope, places, lower), None, upper.slopes[i], upper.intercepts[i])
            pushed = _with(torch.zeros_like(fixed.lower_slope), places, betas[i][1])
            lines[i] = SplitLines(own, pushed, read, i)
        return lines

    def _parts(self, flat: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """Return the places and the columns of each activation's neurons."""
        widths = [len(places) for places in self.places.values()]
        columns = flat.split(widths, 1) if widths else ()  # type: ignore[no-untyped-call]
        return {i: (places, part) for (i, places), part in zip(self.places.items(), columns, strict=True)}

    def bound(
        self,
        rows: Tensor,
        signs: Tensor,
        slopes: Tensor,
        multipliers: Tensor,
        upper: "UpperLines",
        *,
        careful: bool = False,
        read: dict[int, Tensor] | None = None,
    ) -> "Bounded":
        """Bound one functional of the output on each of N domains from below.

        Args:
            rows: the functionals, (N, *shape of the output).
            signs: of the domains, (N, P).
            slopes: α, (N, P).
            multipliers: β, (N, P).
            upper: of these signs.
            careful: whether what rounding may have added is taken off; without it nothing is proven.
            read: where to note the functionals that arrive at each ReLU.
        """
        lines = self.lines(signs, slopes, multipliers, upper, read)
        rounding = self.lost if careful else None
        last = len(self.graph.nodes) - 1
        functional = backward(self.graph, lines, last, Dense(rows.unsqueeze(1)), rounding=rounding)
        least = functional.least(self.region).squeeze(1)
        if careful:  # A − β s is rounded once more than `sizes` counts, by a unit of A and of β
            size = torch.maximum(-self.ends[0], self.ends[1]).double()
            least = least - 4 * torch.finfo(rows.dtype).eps * (multipliers.double() * size).sum(1)
        return Bounded(least, functional.slope(self.graph).squeeze(1).detach())


@final
@dataclass(frozen=True, eq=False)
class UpperLines:
    """Upper slopes and intercepts of each ReLU on N domains, by position, (N, *shape)."""

    slopes: Mapping[int, Tensor]
    intercepts: Mapping[int, Tensor]


@final
@dataclass(frozen=True, eq=False)
class Bounded:
    """Bounds of N functionals, (N,), and the functionals of the input that they rest on, (N, *shape)."""

    least: Tensor
    slope: Tensor


def _with(base: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Return a tensor of one set, (1, *shape), for N, with other values at some places, (N, P)."""
    count = len(values)
    wide = base.flatten(1).expand(count, -1)
    return wide.index_copy(1, places, values.to(base)).reshape(count, *base.shape[1:])
