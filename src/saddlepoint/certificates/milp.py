"""The network over a box as a linear or mixed-integer program, solved by HiGHS.

    p = max(z, 0), l ≤ z ≤ u, l < 0 < u      p ≥ 0,  p ≥ z,  p ≤ u (z − l) / (u − l)                    LP (triangle)
                                             p ≥ 0,  p ≥ z,  p ≤ u a,  p ≤ z − l (1 − a),  a ∈ {0, 1}   MILP, exact

(Tjeng, Xiao & Tedrake 2019; Kolter & Madry, chapter 3.) Neurons whose sign is known are affine and get no variable. An
LP's bound is computed again from its dual solution: weak duality holds for any multipliers, so that nothing rests on
the solver. A MILP's is the least of a tree's leaves, each an LP.
"""

import heapq
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saddlepoint.certificates.affine import Affine
from saddlepoint.certificates.bounds import Bounds
from saddlepoint.certificates.graph import Graph, Node
from saddlepoint.certificates.relu import ReLU
from saddlepoint.certificates.solver import Matrix, Solution, Solver
from saddlepoint.errors import ModelError

Expression = tuple[Matrix, Matrix, Matrix]
"""M, m and r."""

LARGEST = 50_000_000
"""Numbers that one dense matrix of the program may have: beyond it the method is hopeless anyway."""
GAP = 1e-5
"""How near a MILP's bound must come to a value that the network attains, as a share of it (and of 1)."""
_SMALL = np.finfo(np.float64).tiny / np.finfo(np.float64).eps
"""A sum's terms count as this much more: products below the least normal number are lost (see `affine.small`)."""


@final
@dataclass
class Program:
    """min ⟨c, v⟩ over A v ≤ b, l ≤ v ≤ u, some v integer; and what each node is in terms of v: M v + m.

    Attributes:
        low: l.
        high: u.
        integer: which variables are 0 or 1.
        left: A, row blocks of growing width.
        right: b.
        sizes: per row, Σ |products| behind it: what rounding is a share of, cancellations included.
        nodes: (M, m, r) per node, M of shape (size, variables so far), r the Σ |products| behind M v + m.
    """

    low: list[Matrix] = field(default_factory=list)
    high: list[Matrix] = field(default_factory=list)
    integer: list[NDArray[np.int64]] = field(default_factory=list)
    left: list[Matrix] = field(default_factory=list)
    right: list[Matrix] = field(default_factory=list)
    sizes: list[Matrix] = field(default_factory=list)
    nodes: list[Expression] = field(default_factory=list)

    @property
    def variables(self) -> int:
        """How many there are so far."""
        return sum(map(len, self.low))

    def add(self, low: Matrix, high: Matrix, *, integer: bool = False) -> Matrix:
        """Append variables; return the rows that select them."""
        before = self.variables
        self.low.append(low)
        self.high.append(high)
        self.integer.append(np.full(len(low), int(integer)))
        return np.eye(len(low), before + len(low), before)

    def require(self, left: Matrix, right: Matrix, size: Matrix) -> None:
        """Append rows A v ≤ b."""
        self.left.append(left)
        self.right.append(right)
        self.sizes.append(size)


def program(graph: Graph, bounds: Bounds, *, exact: bool) -> Program:
    """Return the program of a graph in float64 over the box of its first node's bounds, of one example.

    Args:
        graph: of affine operations and ReLUs.
        bounds: of every node, (1, *shape).
        exact: whether open ReLUs get binary variables; else they are relaxed.

    Raises:
        ModelError: the program would be too large.
    """
    made = Program()
    low, high = (_flat(side) for side in bounds[0])
    made.nodes.append((made.add(low, high), np.zeros(len(low)), np.maximum(np.abs(low), np.abs(high))))
    for node in graph.nodes[1:]:
        if node.size * made.variables > LARGEST:
            raise ModelError(
                f"the program has {made.variables} variables at {node.name!r}, which has {node.size} coordinates: too "
                "many; expected a smaller network, or another method, such as alpha-crown"
            )
        parents = [made.nodes[parent] for parent in node.parents]
        if isinstance(node.operation, Affine):
            made.nodes.append(_affine(node.operation, parents, [graph.nodes[p] for p in node.parents]))
        else:
            if not isinstance(node.operation, ReLU):
                raise ModelError(
                    f"the operation {node.name!r} is no ReLU, of which programs are made; expected another "
                    "method, such as alpha-crown"
                )
            made.nodes.append(_relu(made, parents[0], *map(_flat, bounds[node.parents[0]]), exact=exact))
    return made


@final
@dataclass(frozen=True, eq=False)
class Question:
    """min ⟨c, v⟩ + constant over A v ≤ b, l ≤ v ≤ u, of one functional of the output.

    Attributes:
        cost: c.
        constant: what does not depend on v.
        left: A.
        right: b.
        low: l.
        high: u.
        sizes: per row of A, Σ |products| behind it.
        behind: the same of the functional.
        terms: how many numbers a coefficient sums at most.
    """

    cost: Matrix
    constant: float
    left: Matrix
    right: Matrix
    low: Matrix
    high: Matrix
    sizes: Matrix
    behind: float
    terms: int

    @classmethod
    def of(cls, made: Program, row: Matrix, terms: int) -> "Question":
        """Return the question of ⟨row, output⟩."""
        (matrix, offset, size), wide = made.nodes[-1], made.variables
        left = np.concatenate([np.zeros((0, wide)), *(_wide(part, wide) for part in made.left)])
        right, sizes = (np.concatenate([np.zeros(0), *parts]) for parts in (made.right, made.sizes))
        low, high, behind = np.concatenate(made.low), np.concatenate(made.high), float(np.abs(row) @ size) + _SMALL
        return cls(row @ _wide(matrix, wide), float(row @ offset), left, right, low, high, sizes, behind, terms)

    def nothing(self) -> "Question":
        """Return the question of the functional 0: a positive bound says that there is no v."""
        return replace(self, cost=0 * self.cost, constant=0.0, behind=_SMALL)

    def solver(self) -> Solver:
        """Return a solver of it."""
        return Solver(self.cost, self.left, self.right, self.low, self.high)

    def bound(self, dual: Matrix, held: Mapping[int, float] | None = None) -> tuple[float, float]:
        """Return the lower bound that multipliers prove, and what was taken off it for rounding.

        Weak duality: λᵀb + Σ min over [l, u] of (c − Aᵀλ) v is at most the minimum, whatever λ ≤ 0 is. Of integers all
        of [l, u] is allowed for.

        Args:
            dual: λ; positive entries are clipped to 0.
            held: variables that have one value.
        """
        low, high = self.low.copy(), self.high.copy()
        for place, number in (held or {}).items():
            low[place] = high[place] = number
        # Any λ ≤ 0 proves something, so whatever the solver returned is made one.
        dual = np.minimum(np.nan_to_num(dual, nan=0.0, posinf=0.0, neginf=0.0), 0)
        reduced = self.cost - dual @ self.left
        value = float(dual @ self.right + np.where(reduced > 0, reduced * low, reduced * high).sum() + self.constant)
        size = self.behind + float(np.abs(dual) @ (self.sizes + _SMALL))
        # γ_n ≈ n·u for the longest sum of each kind that `value` adds up; eps is 2u, so that 8 is ample for the rest.
        lost = (self.terms + len(self.cost) + len(self.right) + 8) * np.finfo(np.float64).eps * size
        return (float(value - lost), float(lost)) if math.isfinite(value - lost) else (-math.inf, 0.0)


@final
@dataclass(frozen=True, eq=False)
class Bound:
    """A lower bound of ⟨row, output⟩ over a program.

    Attributes:
        value: proven.
        lost: what was taken off it for rounding.
        point: an input where ⟨row, output⟩ is small, if the solver found one.
    """

    value: float
    lost: float
    point: Matrix | None = None


def by_lines(made: Program, row: Matrix, terms: int) -> Bound:
    """Return the bound of the linear program, by the solver's multipliers; see `dual_bound`."""
    asked = Question.of(made, row, terms)
    solution = asked.solver().solve({})
    value, lost = asked.bound(solution.dual)
    return Bound(value, lost, _input(made, solution))


def by_integers(
    made: Program, row: Matrix, terms: int, reached: Callable[[Matrix], float], seconds: float = math.inf
) -> Bound:
    """Return the bound of the mixed-integer program, to `GAP`: the least of the leaves of a tree.

    A node holds some binary variables at 0 or 1. Its bound follows from multipliers by weak duality, with those
    variables' own ranges; its children hold one more, the one whose linear programs have gained most so far for what
    was fractional (pseudo-costs, Bénichou et al. 1971). No bound rests on the solver.

    Args:
        made: the program, exact.
        row: the functional of the output.
        terms: how many numbers a coefficient of the program sums at most, for its rounding.
        reached: ⟨row, output⟩ at an input: the minimum is not above it.
        seconds: after which no node is divided further; the least of the leaves holds all the same.
    """
    asked, deadline = Question.of(made, row, terms), time.monotonic() + seconds
    empty, solver = asked.nothing(), asked.solver()
    binaries, gains = np.flatnonzero(np.concatenate(made.integer)), _Gains()
    best, point = math.inf, None

    def node(held: Mapping[int, float], above: float) -> "_Node":
        nonlocal best, point
        solution = solver.solve(held, deadline - time.monotonic())
        value, lost = asked.bound(solution.dual, held)
        if solution.point is None and empty.bound(solution.dual, held)[0] > 0:
            value = math.inf  # no point of the set has these signs
        if (at := _input(made, solution)) is not None and (here := reached(at)) < best:
            best, point = here, at
        return _Node(max(value, above), lost, len(held), held, solution.point)

    leaves = [node({}, -math.inf)]
    while (worst := leaves[0]).value < best - GAP * (1 + abs(best)) and time.monotonic() < deadline:
        free = [i for i in binaries.tolist() if i not in worst.held]
        if not free:
            break
        heapq.heappop(leaves)
        chosen = gains.choose(free, worst.point)
        for side in (0.0, 1.0):
            child = node({**worst.held, chosen: side}, worst.value)
            gains.learn(chosen, side, worst, child)
            heapq.heappush(leaves, child)
    return Bound(leaves[0].value, leaves[0].lost, point)


@final
@dataclass(frozen=True, eq=False, order=False)
class _Node:
    value: float
    lost: float
    depth: int
    held: Mapping[int, float]
    point: Matrix | None

    def __lt__(self, other: "_Node") -> bool:
        return bool((self.value, -self.depth) < (other.value, -other.depth))


@final
@dataclass
class _Gains:
    """What holding a variable at 0 or 1 has gained, for each unit that it was moved: sums and counts."""

    sums: defaultdict[tuple[int, float], float] = field(default_factory=lambda: defaultdict(float))
    counts: Counter[tuple[int, float]] = field(default_factory=Counter)

    def choose(self, free: list[int], point: Matrix | None) -> int:
        """Return the variable whose two sides promise most, as a product; one that was never tried promises a mean."""
        mean = sum(self.sums.values()) / max(1, self.counts.total()) or 1.0

        def promise(i: int) -> float:
            at = 0.5 if point is None else float(point[i])
            sides = ((side, abs(at - side)) for side in (0.0, 1.0))
            gains = [away * (self.sums[i, side] + mean) / (self.counts[i, side] + 1) for side, away in sides]
            # By the floor, a variable with no promise on one side is still ranked by its other (Achterberg 2007).
            return max(gains[0], 1e-6 * mean) * max(gains[1], 1e-6 * mean)

        return max(free, key=promise)

    def learn(self, i: int, side: float, before: _Node, after: _Node) -> None:
        """Take in what one child gained.

        Args:
            i: the number of the binary that was fixed.
            side: 0 or 1, where it was fixed.
            before: the node of the tree.
            after: its child on that side.
        """
        away = 0.0 if before.point is None else abs(float(before.point[i]) - side)
        # Nearer than the solver's own tolerance, a gain per distance is noise.
        if away > 1e-6 and math.isfinite(after.value) and math.isfinite(before.value):
            self.sums[i, side] += (after.value - before.value) / away
            self.counts[i, side] += 1


def _input(made: Program, solution: Solution) -> Matrix | None:
    """Return the input of a solution, in its box."""
    return None if solution.point is None else np.clip(solution.point[: len(made.low[0])], made.low[0], made.high[0])


def _affine(operation: Affine, parents: list[Expression], nodes: list[Node]) -> Expression:
    """Return an affine operation's expression: L of every column, f of the constants, |L| of the magnitudes."""
    width = max(matrix.shape[1] for matrix, *_ in parents)
    columns = [_tensor(_wide(matrix, width).T, node) for (matrix, *_), node in zip(parents, nodes, strict=True)]
    image = operation.linear(*columns, *operation.weights)
    offsets = [_tensor(offset[None], node) for (_, offset, _), node in zip(parents, nodes, strict=True)]
    sizes = [_tensor(size[None], node) for (*_, size), node in zip(parents, nodes, strict=True)]
    size = operation.magnitude(*sizes)
    size = size + _SMALL if operation.constant is None else size + operation.constant + _SMALL
    return image.flatten(1).numpy().T, operation.forward(*offsets).flatten().numpy(), size.flatten().numpy()


def _relu(made: Program, z: Expression, low: Matrix, high: Matrix, *, exact: bool) -> Expression:
    """Append variables and rows for open neurons; return the expression of max(z, 0)."""
    matrix, offset, size = z
    open_ = (low < 0) & (high > 0)
    # Where the sign is known the neuron is linear, and takes no variable.
    active = (low >= 0)[:, None]
    count, below, above = int(open_.sum()), low[open_], high[open_]
    chosen = made.add(np.zeros(count), above)
    wide, shift, behind = _wide(matrix[open_], made.variables), offset[open_], size[open_]
    made.require(wide - chosen, -shift, behind + above)  # z ≤ p
    if exact:
        binary = made.add(np.zeros(count), np.ones(count), integer=True)
        p, zeros = _wide(chosen, made.variables), np.zeros(count)
        made.require(p - above[:, None] * binary, zeros, 2 * above)  # p ≤ u a
        under = p - _wide(wide, made.variables) - below[:, None] * binary
        made.require(under, shift - below, behind + above - 2 * below)  # p ≤ z − l (1 − a)
    else:
        slope = above / (above - below)
        tangent = chosen - slope[:, None] * wide
        made.require(tangent, slope * (shift - below), above + slope * (behind - below))  # p ≤ u (z − l) / (u − l)
    result = _wide(matrix, made.variables) * active
    result[open_] = _wide(chosen, made.variables)
    return result, np.where(active[:, 0], offset, 0.0), np.where(active[:, 0], size, np.where(open_, high, 0.0))


def _wide(matrix: Matrix, width: int) -> Matrix:
    """Return a matrix with zeros for variables that came later."""
    return np.pad(matrix, ((0, 0), (0, width - matrix.shape[1])))


def _tensor(rows: Matrix, node: Node) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows)).reshape(-1, *node.shape)


def _flat(side: Tensor) -> Matrix:
    matrix: Matrix = side[0].detach().double().cpu().flatten().numpy()
    return matrix
