"""The network over a box as a linear or mixed-integer program, solved by HiGHS.

    p = max(z, 0), l ≤ z ≤ u, l < 0 < u      p ≥ 0,  p ≥ z,  p ≤ u (z − l) / (u − l)                    LP (triangle)
                                             p ≥ 0,  p ≥ z,  p ≤ u a,  p ≤ z − l (1 − a),  a ∈ {0, 1}   MILP, exact

(Tjeng, Xiao & Tedrake 2019; Kolter & Madry, chapter 3.) Neurons whose sign is known are affine and get no variable. An
LP's bound is computed again from its dual solution: weak duality holds for any multipliers, so that nothing rests on
the solver. A MILP's bound is the solver's, less a tolerance that covers its own.
"""

import math
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saddlepoint.certificates.affine import Affine
from saddlepoint.certificates.bounds import Bounds
from saddlepoint.certificates.graph import Graph, Node
from saddlepoint.certificates.relu import ReLU
from saddlepoint.errors import ModelError

Matrix = NDArray[np.float64]
Expression = tuple[Matrix, Matrix, Matrix]
"""M, m and r."""

LARGEST = 50_000_000
"""Numbers that one dense matrix of the program may have: beyond it the method is hopeless anyway."""
SOLVER = 1e-5
"""What is taken off a MILP's bound, as a share of the largest logit: ten times HiGHS's feasibility tolerance."""


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


def by_integers(made: Program, row: Matrix, seconds: float = math.inf) -> tuple[float, float]:
    """Return the solver's lower bound of ⟨row, output⟩ over the mixed-integer program, and what was taken off it.

    Args:
        made: the program.
        row: the functional of the output.
        seconds: after which the solver stops; its bound holds all the same.
    """
    from scipy.optimize import LinearConstraint, milp

    cost, constant, left, right = _posed(made, row)
    low, high, integer = np.concatenate(made.low), np.concatenate(made.high), np.concatenate(made.integer)
    found = milp(
        cost,
        constraints=LinearConstraint(left, -np.inf, right),
        bounds=_bounds(low, high),
        integrality=integer,
        options={} if math.isinf(seconds) else {"time_limit": seconds},
    )
    if found.mip_dual_bound is None:
        return -np.inf, 0.0
    matrix, offset, _ = made.nodes[-1]
    largest = np.abs(_wide(matrix, made.variables)) @ np.maximum(np.abs(low), np.abs(high)) + np.abs(offset)
    lost = SOLVER * (1 + float(np.abs(row) @ largest))
    return float(found.mip_dual_bound) + constant - lost, lost


def multipliers(made: Program, row: Matrix) -> Matrix:
    """Return the solver's λ ≤ 0, one for each constraint, of min ⟨row, output⟩ over the linear program."""
    from scipy.optimize import linprog

    cost, _, left, right = _posed(made, row)
    bounds = np.stack([np.concatenate(made.low), np.concatenate(made.high)], 1)
    solved = linprog(cost, left, right, bounds=bounds, method="highs")
    found: Matrix | None = None if solved.ineqlin is None else solved.ineqlin.marginals  # None where it failed
    return np.zeros(len(right)) if found is None else np.minimum(found, 0)


def dual_bound(made: Program, row: Matrix, dual: Matrix, terms: int) -> tuple[float, float]:
    """Return the lower bound of ⟨row, output⟩ that multipliers prove, and what was taken off it for rounding.

    Weak duality: λᵀb + Σ min over [l, u] of (c − Aᵀλ) v is at most the minimum, whatever λ ≤ 0 is.

    Args:
        made: the linear program.
        row: the functional of the output.
        dual: λ, of whom only what is negative counts.
        terms: how many numbers a coefficient of the program sums at most, for its rounding.
    """
    cost, constant, left, right = _posed(made, row)
    low, high, sizes = np.concatenate(made.low), np.concatenate(made.high), np.concatenate([np.zeros(0), *made.sizes])
    dual = np.minimum(dual, 0)
    reduced = cost - dual @ left
    value = float(dual @ right + np.where(reduced > 0, reduced * low, reduced * high).sum() + constant)
    behind = float(np.abs(row) @ made.nodes[-1][2]) + float(np.abs(dual) @ sizes)
    lost = (terms + len(cost) + len(right) + 8) * np.finfo(np.float64).eps * behind
    return value - lost, lost


def _posed(made: Program, row: Matrix) -> tuple[Matrix, float, Matrix, Matrix]:
    """Return c, a constant, A and b: the functional is ⟨c, v⟩ + the constant, subject to A v ≤ b."""
    matrix, offset, _ = made.nodes[-1]
    left = [np.zeros((0, made.variables)), *(_wide(part, made.variables) for part in made.left)]
    right = np.concatenate([np.zeros(0), *made.right])
    return row @ _wide(matrix, made.variables), float(row @ offset), np.concatenate(left), right


def _affine(operation: Affine, parents: list[Expression], nodes: list[Node]) -> Expression:
    """Return an affine operation's expression: L of every column, f of the constants, |L| of the magnitudes."""
    width = max(matrix.shape[1] for matrix, *_ in parents)
    columns = [_tensor(_wide(matrix, width).T, node) for (matrix, *_), node in zip(parents, nodes, strict=True)]
    image = operation.linear(*columns, *operation.weights)
    offsets = [_tensor(offset[None], node) for (_, offset, _), node in zip(parents, nodes, strict=True)]
    sizes = [_tensor(size[None], node) for (*_, size), node in zip(parents, nodes, strict=True)]
    size = operation.magnitude(*sizes)
    if operation.constant is not None:
        size = size + operation.constant
    return image.flatten(1).numpy().T, operation.forward(*offsets).flatten().numpy(), size.flatten().numpy()


def _relu(made: Program, z: Expression, low: Matrix, high: Matrix, *, exact: bool) -> Expression:
    """Append variables and rows for open neurons; return the expression of max(z, 0)."""
    matrix, offset, size = z
    open_ = (low < 0) & (high > 0)
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


def _bounds(low: Matrix, high: Matrix) -> Any:  # noqa: ANN401 - SciPy has no types
    from scipy.optimize import Bounds as Limits

    return Limits(low, high)


def _wide(matrix: Matrix, width: int) -> Matrix:
    """Return a matrix with zeros for variables that came later."""
    return np.pad(matrix, ((0, 0), (0, width - matrix.shape[1])))


def _tensor(rows: Matrix, node: Node) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows)).reshape(-1, *node.shape)


def _flat(side: Tensor) -> Matrix:
    found: Matrix = side[0].detach().double().cpu().flatten().numpy()
    return found
