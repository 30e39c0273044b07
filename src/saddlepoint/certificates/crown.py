"""Linear lower bounds, from the output back to the input: CROWN (Zhang et al. 2018), DeepPoly (Singh et al. 2019).

    ⟨A, z⟩ ≥ ⟨A', x⟩ + c      for every input x of a set, z a node's result

Affine operations take a functional through their transposes; an activation takes its lower line where A > 0 and its
upper one where A < 0. The set then gives the least value of A'. Everything is for B sets and S functionals at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor

from saddlepoint.certificates.affine import Affine, Stencil
from saddlepoint.certificates.functionals import Dense, Functionals, Patches, size_of
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.lines import Linear, Lines
from saddlepoint.certificates.sets import InputSet

Relaxation = Mapping[int, Linear]
"""The lines of each activation, by its position."""
Ranges = Mapping[int, tuple[Tensor, Tensor]]
"""(lower, upper) of each activation's input, by the activation's position."""


@final
@dataclass(frozen=True, eq=False)
class Lost:
    """What rounding may add to a bound on the way through a node.

    Attributes:
        rate: for each unit of |A| at its result, (B, *shape).
        floor: whatever A is, (B,): what is lost below the least normal number.
    """

    rate: Tensor
    floor: Tensor


Sizes = Sequence[Lost | None]
"""Per node; see `sizes`."""


@final
@dataclass(frozen=True, eq=False)
class Functional:
    """⟨A', x⟩ + c, a lower bound of what was propagated.

    Attributes:
        input: A', B sets of S functionals of the input; None where it is zero.
        constant: c, (B, S).
        lost: what rounding may have added to c, (B, S); 0 when that was not asked for.
    """

    input: Functionals | None
    constant: Tensor
    lost: Tensor

    def least(self, region: InputSet) -> Tensor:
        """Return at most min over the set, (B, S), float64."""
        sure = self.constant - self.lost
        return sure if self.input is None else region.least(self.input) + sure

    def slope(self, graph: Graph) -> Tensor:
        """Return A', (B, S, *shape)."""
        return (
            self.constant.new_zeros(1).expand(*self.constant.shape, *graph.shape)
            if self.input is None
            else (self.input.dense().values)
        )


def backward(
    graph: Graph,
    relaxation: Relaxation,
    start: int,
    functional: Functionals,
    *,
    rounding: Sizes | None = None,
) -> Functional:
    """Propagate functionals of a node's result to the input.

    Args:
        graph: the network.
        relaxation: lines of every activation before the node.
        start: the node's position.
        functional: A, B sets of S functionals of the node's result.
        rounding: what floating point may add, per unit of |A| at each node; None when nothing is claimed.

    Returns:
        The functional of the input.
    """
    some = functional.values
    pending: dict[int, Functionals] = {start: functional}
    constant = some.new_zeros(some.shape[:2])
    # In float64: what is taken off for rounding must not round away itself.
    total = constant.double()
    careful = rounding is not None
    for i in graph.ancestors(start):
        # Nothing arrives where a functional has become 0, as behind inactive neurons.
        if i == 0 or (a := pending.pop(i, None)) is None:
            continue
        if rounding is not None and (lost := rounding[i]) is not None:
            total = total + size_of(a, lost.rate) + lost.floor.unsqueeze(1)
        operation = graph.nodes[i].operation
        if isinstance(operation, Affine):
            moved, gain = _through(operation, a, careful)
        else:
            back, gain = relaxation[i].backward(a, careful)
            moved = [back]  # of the one parent
        constant = constant + gain
        _collect(pending, graph.nodes[i].parents, moved)
    return Functional(pending.get(0), constant, total)


def _through(operation: Affine, a: Functionals, careful: bool) -> tuple[Sequence[Functionals | None], Tensor | float]:
    """Return Lᵀ A for each parent, and ⟨A, b⟩."""
    gain = 0.0 if operation.offset is None else a.inner(operation.offset.unsqueeze(0), careful=careful)
    if isinstance(a, Patches) and operation.stencil is not None:
        return _by_windows(operation, operation.stencil, a), gain
    whole = a.dense().values
    parts = operation.transpose(whole.flatten(0, 1))
    return [None if part is None else Dense(part.reshape(*whole.shape[:2], *part.shape[1:])) for part in parts], gain


def _by_windows(operation: Affine, stencil: Stencil, a: Patches) -> list[Functionals | None]:
    """Return Lᵀ A for each parent, in the windows that it depends on."""
    parts = stencil.pull(a.values.flatten(0, 1), *operation.weights)
    return [
        part
        if part is None
        else a.moved(part.reshape(*a.values.shape[:2], *part.shape[1:]), stencil.stride, stencil.padding, shape)
        for part, shape in zip(parts, operation.shapes, strict=True)
    ]


def _collect(pending: dict[int, Functionals], parents: Sequence[int], moved: Sequence[Functionals | None]) -> None:
    """Add functionals to those that wait at the parents."""
    for parent, part in zip(parents, moved, strict=True):
        if part is not None:
            pending[parent] = pending[parent] + part if parent in pending else part


def ranges(graph: Graph, bounds: Sequence[tuple[Tensor, Tensor]]) -> Ranges:
    """Return the bounds of each activation's input, as far as they are known."""
    inputs = {i: graph.nodes[i].parents[0] for i in graph.activations}
    return {i: bounds[parent] for i, parent in inputs.items() if parent < len(bounds)}


def relax(graph: Graph, preactivations: Ranges, alpha: Mapping[int, Tensor] | None = None) -> dict[int, Lines]:
    """Return the lines of activations over the ranges of their inputs, at default or at given parameters."""
    lines = {}
    for i, (lower, upper) in preactivations.items():
        activation = graph.activation(i)
        lines[i] = activation.lines(lower, upper, activation.start(lower, upper) if alpha is None else alpha[i])
    return lines


def flat(graph: Graph, preactivations: Ranges) -> dict[int, Lines]:
    """Return constant lines, the range of each activation: with them, propagation is interval arithmetic."""
    lines = {}
    for i, both in preactivations.items():
        lower, upper = graph.activation(i).interval(*both)
        lines[i] = Lines(None, lower, None, upper)
    return lines
