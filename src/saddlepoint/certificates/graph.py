"""One graph for every verifier: the input, affine operations and activations, in the order of computation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor

from saddlepoint.certificates.affine import Affine
from saddlepoint.certificates.lines import Lines


@runtime_checkable
class Activation(Protocol):
    """A function of one coordinate, and lines below and above it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x)."""

    def interval(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Return the range of f over [lower, upper]."""

    def slopes(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Return bounds of f' over [lower, upper]; of Clarke's derivative where there is a kink."""

    def loose(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Tell where the lines would gain from tighter bounds."""

    def start(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return the parameters of lines that make a small relaxation; α-CROWN starts there."""

    def clip(self, parameter: Tensor) -> Tensor:
        """Return the nearest parameters that are allowed."""

    def lines(self, lower: Tensor, upper: Tensor, parameter: Tensor) -> Lines:
        """Return lines below and above f on [lower, upper], sound for all allowed parameters."""


@final
@dataclass(frozen=True)
class Input:
    """The network's input."""


Operation = Input | Affine | Activation


@final
@dataclass(frozen=True, eq=False)
class Node:
    """One operation.

    Attributes:
        name: as the exported program calls it.
        operation: what it does.
        parents: the positions of its arguments.
        shape: of its result, without the examples' axis.
    """

    name: str
    operation: Operation
    parents: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many coordinates the result has."""
        return math.prod(self.shape)

    @property
    def affine(self) -> bool:
        """Whether the operation is affine."""
        return isinstance(self.operation, Affine)


@final
@dataclass(frozen=True, eq=False)
class Graph:
    """y = h(x) as a list of nodes: the first is the input, the last the output, parents stand before children.

    Attributes:
        nodes: the nodes.
        dtype: of its weights.
        normalised: whether the module gives the log-softmax of the last node, whose differences of logits are the same.
    """

    nodes: tuple[Node, ...]
    dtype: torch.dtype = torch.float32
    normalised: bool = False

    @property
    def activations(self) -> tuple[int, ...]:
        """The positions of the activations, in order."""
        return tuple(i for i, node in enumerate(self.nodes) if node.parents and not node.affine)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        affine = (node.operation for node in self.nodes if isinstance(node.operation, Affine))
        return next((weight.device for operation in affine for weight in operation.weights), torch.device("cpu"))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.nodes[0].shape

    @property
    def outputs(self) -> int:
        """How many numbers one output has."""
        return self.nodes[-1].size

    @property
    def terms(self) -> int:
        """How many numbers a coordinate of a product of all operations sums at most, for its rounding."""
        return sum(node.operation.most if isinstance(node.operation, Affine) else 1 for node in self.nodes)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return every node's result, (B, *shape), for inputs x, (B, *shape)."""
        values = [x]
        for node in self.nodes[1:]:
            operation = node.operation
            assert not isinstance(operation, Input)  # noqa: S101 - only the first node is one
            values.append(operation.forward(*(values[parent] for parent in node.parents)))
        return values

    def __call__(self, x: Tensor) -> Tensor:
        """Return h(x), (B, K)."""
        return self.forward(x)[-1].flatten(1)

    def ancestors(self, position: int) -> Sequence[int]:
        """Return the nodes that a node's result depends on and itself, last first."""
        wanted = {position}
        for i in range(position, -1, -1):
            if i in wanted:
                wanted.update(self.nodes[i].parents)
        return sorted(wanted, reverse=True)

    def activation(self, position: int) -> Activation:
        """Return the operation of an activation's node."""
        operation = self.nodes[position].operation
        assert not isinstance(operation, Input | Affine)  # noqa: S101 - asked for activations only
        return operation

    @property
    def inputs(self) -> frozenset[int]:
        """The positions of the nodes that activations read."""
        return frozenset(self.nodes[i].parents[0] for i in self.activations)

    def loose(self, position: int, lower: Tensor, upper: Tensor) -> Tensor:
        """Tell where tighter bounds of a node make better lines of any activation that reads it."""
        readers = [i for i in self.activations if self.nodes[i].parents[0] == position]
        return torch.stack([self.activation(i).loose(lower, upper) for i in readers]).any(0)

    def until(self, position: int) -> "Graph":
        """Return the nodes up to this one."""
        return Graph(self.nodes[: position + 1], self.dtype)

    def linear_input(self, position: int) -> bool:
        """Tell whether a node's result is an affine function of the input."""
        return not any(i in self.activations for i in self.ancestors(position))


def pruned(nodes: Sequence[Node], output: int, dtype: torch.dtype) -> Graph:
    """Return the graph of what the output depends on."""
    whole = Graph(tuple(nodes))
    kept = sorted({0, *whole.ancestors(output)})
    place = {old: new for new, old in enumerate(kept)}
    return Graph(
        tuple(
            Node(nodes[i].name, nodes[i].operation, tuple(place[p] for p in nodes[i].parents), nodes[i].shape)
            for i in kept
        ),
        dtype,
    )
