"""HiGHS, warm: min ⟨c, v⟩ over A v ≤ b, l ≤ v ≤ u, again and again, with some variables held at other numbers.

Nothing rests on what it answers: a point and multipliers, from which a bound is computed again. So it is free to scale:
a solver takes coefficients below 10⁻⁹ for 0, so that rows, columns and costs are brought to a largest entry of 1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Solution:
    """What the solver says of a program.

    Attributes:
        point: v, the minimiser; None where there is none.
        dual: λ ≤ 0, one for each constraint; those of an infeasible program prove that it is, if anything does.
    """

    point: Matrix | None
    dual: Matrix


@final
class Solver:
    """One linear program, solved from where the last solution left off."""

    def __init__(self, cost: Matrix, left: Matrix, right: Matrix, low: Matrix, high: Matrix) -> None:
        import highspy
        from scipy.sparse import csr_matrix

        self._low, self._high = low, high
        self._columns = _safe(np.maximum(np.abs(low), np.abs(high)))
        wide = left * self._columns
        self._rows = 1 / _safe(np.abs(wide).max(1, initial=0.0))
        self._size = float(_safe(np.abs(cost * self._columns).max(initial=0.0)))
        matrix, model = csr_matrix(wide * self._rows[:, None]), highspy.HighsLp()
        model.num_col_, model.num_row_ = len(cost), len(right)
        model.col_cost_ = cost * self._columns / self._size
        model.col_lower_, model.col_upper_ = low / self._columns, high / self._columns
        model.row_lower_, model.row_upper_ = np.full(len(right), -highspy.kHighsInf), right * self._rows
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_, model.a_matrix_.index_ = matrix.indptr, matrix.indices
        model.a_matrix_.value_ = matrix.data

        class Quiet(highspy.Highs):
            def enableCallbacks(self) -> None:  # noqa: N802 - called at the start, where a banner would be printed
                self.setOptionValue("output_flag", False)
                super().enableCallbacks()  # type: ignore[no-untyped-call]

        self._highs: Any = Quiet()  # type: ignore[no-untyped-call]
        for name, value in (("threads", 1), ("small_matrix_value", 1e-12)):
            self._highs.setOptionValue(name, value)
        self._highs.passModel(model)
        self._infeasible = highspy.HighsModelStatus.kInfeasible
        self._optimal = highspy.HighsModelStatus.kOptimal
        self._held: Mapping[int, float] = {}

    def solve(self, held: Mapping[int, float], seconds: float = math.inf) -> Solution:
        """Solve the program with some variables held at a number, the others free again."""
        self._hold(held)
        self._highs.setOptionValue("time_limit", self._highs.getRunTime() + min(seconds, 1e9))
        self._highs.run()
        status = self._highs.getModelStatus()
        none = np.zeros(len(self._rows))
        if status == self._infeasible:
            _, exists, ray = self._highs.getDualRay()
            return Solution(None, -np.abs(np.asarray(ray)) * self._rows if exists else none)
        if status != self._optimal:
            return Solution(None, none)
        solution = self._highs.getSolution()
        dual = np.minimum(np.asarray(solution.row_dual), 0) * self._rows * self._size
        return Solution(np.asarray(solution.col_value) * self._columns, dual)

    def _hold(self, held: Mapping[int, float]) -> None:
        for column in {*self._held, *held}:
            least, most = (held.get(column, side[column]) for side in (self._low, self._high))
            self._highs.changeColBounds(column, least / self._columns[column], most / self._columns[column])
        self._held = dict(held)


def _safe(size: Any) -> Any:  # noqa: ANN401 - a number or an array
    """Return sizes to divide by: 1 for 0 and for what is no number."""
    return np.where((size > 0) & np.isfinite(size), size, 1.0)
