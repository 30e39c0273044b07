"""The audit beside the same argument in rational numbers, on networks small enough for it."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from saddlepoint_audit.enclosures import FLOAT32, REAL, Region
from saddlepoint_audit.operations import Network
from saddlepoint_audit.proofs import STEPS, Branches, Hints, margin_of

Row = list[Fraction]
ZERO, ONE = Fraction(0), Fraction(1)


def drawn(seed: int, sizes: tuple[int, ...]) -> tuple[list, dict, list]:
    """Return a list of dense operations and ReLUs, its arrays, and the layers in rationals."""
    rng = np.random.default_rng(seed)
    listed, arrays, layers = [{"kind": "input", "parents": [], "shape": [sizes[0]]}], {}, []
    for n, m in pairwise(sizes):
        place = len(listed)
        weight, offset = (rng.normal(size=shape).astype(np.float32) for shape in ((m, n), (m,)))
        listed.append({"kind": "dense", "parents": [place - 1], "shape": [m]})
        arrays |= {f"{place}/weight": weight, f"{place}/offset": offset}
        layers.append(([[Fraction(float(w)) for w in row] for row in weight], [Fraction(float(b)) for b in offset]))
        listed.append({"kind": "relu", "parents": [place], "shape": [m]})
    return listed[:-1], arrays, layers


def chord(low: Fraction, high: Fraction) -> Fraction:
    return ONE if low >= 0 else ZERO if high <= 0 else high / (high - low)


class Exact:
    """Bounds of a chain of dense layers and ReLUs, by functionals, in rationals."""

    def __init__(self, layers: list, low: Row, high: Row) -> None:
        self.layers, self.low, self.high = layers, low, high
        self.bounds: list[list[tuple[Fraction, Fraction]]] = []
        for k, (weight, offset) in enumerate(layers[:-1]):
            before = (
                [(max(a, ZERO), max(b, ZERO)) for a, b in self.bounds[-1]] if k else list(zip(low, high, strict=True))
            )
            own = []
            for row, shift in zip(weight, offset, strict=True):
                ends = [(w * a, w * b) for w, (a, b) in zip(row, before, strict=True)]
                own.append((sum(map(min, ends), shift), sum(map(max, ends), shift)))
            if k:
                own = [self._tight(k, j, both) for j, both in enumerate(own)]
            self.bounds.append(own)

    def _tight(self, k: int, j: int, both: tuple[Fraction, Fraction]) -> tuple[Fraction, Fraction]:
        low, high = both
        if not low < 0 < high:
            return both
        row, shift = self.layers[k][0][j], self.layers[k][1][j]
        least = self.least(k, row, shift, {})
        most = -self.least(k, [-w for w in row], -shift, {})
        return max(low, least), min(high, most)

    def least(self, k: int, row: Row, shift: Fraction, lines: dict) -> Fraction:
        """Return a bound of ⟨row, ReLU of layer k − 1⟩ + shift; `lines` are (α, β σ, sign) by layer and neuron."""
        a, constant = row, shift
        for layer in range(k - 1, -1, -1):
            pulled = []
            for j, (value, (low, high)) in enumerate(zip(a, self.bounds[layer], strict=True)):
                alpha, pushed, sign = lines.get((layer, j), (None, ZERO, 0))
                slope = chord(low, high) if not sign else (ONE if sign > 0 else ZERO)
                open_ = low < 0 < high and not sign
                lower = (ONE if high > -low else ZERO) if open_ and alpha is None else alpha if open_ else slope
                if value < 0 and open_:
                    constant += value * max(-slope * low, (1 - slope) * high)
                pulled.append((value * lower if value > 0 else value * slope) - pushed)
            weight, offset = self.layers[layer]
            constant += sum((p * b for p, b in zip(pulled, offset, strict=True)), ZERO)
            a = [sum((p * w[i] for p, w in zip(pulled, weight, strict=True)), ZERO) for i in range(len(weight[0]))]
        return constant + sum((min(v * x, v * y) for v, x, y in zip(a, self.low, self.high, strict=True)), ZERO)


@pytest.mark.parametrize("seed", range(12))
def test_bounds_are_those_of_rationals_less_an_allowance(seed):
    rng = np.random.default_rng(seed)
    sizes = (3, 4, 4, 2)
    listed, arrays, layers = drawn(seed, sizes)
    network, eps = Network.of(listed, arrays), float(rng.choice([0.01, 0.1, 0.5]))
    x = rng.random(3).astype(np.float32)
    region = Region.around(x, eps, "linf", None)
    low, high = ([Fraction(float(v)) for v in side] for side in (region.lower, region.upper))
    exact = Exact(layers, low, high)
    row = [p - q for p, q in zip(*layers[-1][0], strict=True)]
    shift = layers[-1][1][0] - layers[-1][1][1]
    steps = {k: rng.integers(0, STEPS + 1, (1, 4)).astype(np.uint8) for k in (0, 1)}
    own = {(k, j): (Fraction(int(steps[k][0, j]), STEPS), ZERO, 0) for k in (0, 1) for j in range(4)}
    hints = Hints(True, neurons={k: np.arange(4, dtype=np.int32) for k in (0, 1)}, slopes=steps)
    best = max(exact.least(2, row, shift, {}), exact.least(2, row, shift, own))
    real, float32 = (margin_of(network, region, 0, hints, unit) for unit in (REAL, FLOAT32))
    size = 1 + sum(abs(float(v)) for v in row)
    flat = sum(
        (min(v * max(a, ZERO), v * max(b, ZERO)) for v, (a, b) in zip(row, exact.bounds[-1], strict=True)), shift
    )
    assert float32 <= real <= max(best, flat)
    assert real >= float(max(best, flat)) - 1e-10 * size
    assert float32 >= real - 1e-3 * size


@pytest.mark.parametrize("seed", range(12))
def test_leaves_are_those_of_rationals_less_an_allowance(seed):
    rng = np.random.default_rng(100 + seed)
    listed, arrays, layers = drawn(seed, (3, 4, 4, 2))
    network, x = Network.of(listed, arrays), rng.random(3).astype(np.float32)
    region = Region.around(x, 0.5, "linf", None)
    exact = Exact(layers, *([Fraction(float(v)) for v in side] for side in (region.lower, region.upper)))
    row = [p - q for p, q in zip(*layers[-1][0], strict=True)]
    shift = layers[-1][1][0] - layers[-1][1][1]
    multipliers = rng.random(2).astype(np.float32)
    slopes = rng.integers(0, STEPS + 1, (2, 8)).astype(np.uint8)
    neuron, bounds = int(rng.integers(8)), []
    for leaf, sign in enumerate((1, -1)):
        lines = {divmod(n, 4): (Fraction(int(slopes[leaf, n]), STEPS), ZERO, 0) for n in range(8)}
        lines[divmod(neuron, 4)] = (None, Fraction(float(multipliers[leaf])) * sign, sign)
        bounds.append(exact.least(2, row, shift, lines))
    literals = np.array([1 + neuron, -1 - neuron], np.int32)
    tree, ends = np.array([neuron, -1, -2], np.int32), np.arange(3, dtype=np.int32)
    branches = Branches({0: tree}, np.zeros(2, np.int32), ends, literals, multipliers, slopes)
    hints = Hints(True, neurons={k: np.arange(4, dtype=np.int32) for k in (0, 1)}, branches=branches)
    whole = margin_of(network, region, 0, Hints(True), REAL)
    if whole > 0:  # then the tree is not looked at
        return
    split = margin_of(network, region, 0, hints, REAL)
    best = max(whole, float(min(bounds)))
    assert best - 1e-9 * (1 + abs(best)) <= split <= max(Fraction(whole), min(bounds))
