"""What a certificate may cost: bytes in one place, and seconds where they are asked for."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from saddlepoint.certificates.graph import Graph
from saddlepoint.errors import InputError

MEMORY = 2**30
"""Bytes that functionals may take, unless told otherwise: it fits a laptop."""
DOMAINS = 2000
"""Domains of an example, unless told otherwise: some seconds, in which most that are ever closed are."""
_COPIES = 8
"""Functionals that are held at once for each that is propagated,"""
_RECORDED = 4
"""and so many times as many where a graph for gradients is kept."""


@final
@dataclass(frozen=True, slots=True)
class Effort:
    """What one example's certificate may cost.

    Attributes:
        memory: bytes that functionals may take.
        deadline: of `time.monotonic`, after which no further step of an ascent is made.
        domains: that branch and bound may bound.
    """

    memory: int = MEMORY
    deadline: float = math.inf
    domains: float = DOMAINS

    @staticmethod
    def within(memory: int, timeout: float | None, domains: float) -> "Effort":
        """Return the effort that begins now.

        Args:
            memory: bytes.
            timeout: seconds; None for no limit.
            domains: that branch and bound may bound.

        Raises:
            InputError: a limit is no such number.
        """
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise InputError(f"timeout is {timeout!r}; expected seconds, such as 10")
        if not (isinstance(domains, int | float) and domains >= 0):
            raise InputError(f"domains is {domains!r}; expected a whole number, such as {DOMAINS}")
        return Effort(memory, math.inf if timeout is None else time.monotonic() + timeout, domains)

    @property
    def left(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline

    def most(self, graph: Graph, *, sets: int = 1, recorded: bool = False) -> int:
        """Return how many functionals may be propagated at once for each of `sets` sets, at least one."""
        widest = max(node.size for node in graph.nodes) * torch.finfo(graph.dtype).bits // 8
        return max(1, self.memory // (_COPIES * (_RECORDED if recorded else 1) * widest * sets))

    def parts(
        self, rows: Tensor, graph: Graph, *, per_row: int = 1, sets: int = 1, recorded: bool = False
    ) -> Iterator[Tensor]:
        """Cut rows, along the first axis, so that the `per_row` functionals of every row fit.

        Args:
            rows: a tensor with one row for each set of functionals.
            graph: the network, whose widest node decides what fits.
            per_row: functionals of each row.
            sets: how many sets are propagated side by side.
            recorded: whether autograd keeps what it computes.
        """
        return iter(torch.split(rows, max(1, self.most(graph, sets=sets, recorded=recorded) // per_row)))


WHOLE = Effort()
"""The default: no deadline."""
