"""Why a bound that floating point computes is a bound: the argument in one place, with its constants.

Let u be the unit roundoff of a type (2⁻²⁴ in float32, 2⁻⁵³ in float64), γ_n = n u / (1 − n u), and η its least normal
number. What is claimed is about real arithmetic; what computes it is not, and each of these steps says by how much.

1.  *One operation.* A sum of n products, in any order, fused or not, is off by at most γ_n Σ |terms| + n η
    (Higham 2002, section 3.1 and eq. 2.8): `gamma` and `small`. So the interval of a node, computed from those of its
    parents, is widened by γ_n (|L| |x| + |b|) + n η, with |x| taken from the parents' bounds (`Affine.rounding`,
    `bounds.step`). By induction over the nodes in their order, every interval holds.

2.  *One functional.* CROWN replaces ⟨A, z_i⟩ at node i by ⟨A', z_j⟩ + c at its parents. Suppose that rounding turns A'
    into A' + ΔA. That is a functional, too, and all that follows bounds it; so the result is wrong by ⟨ΔA, z_j⟩ alone,
    and |ΔA| ≤ γ_n |L|ᵀ|A| + n η. Hence

        |⟨ΔA, z_j⟩| ≤ γ_n ⟨|A|, |L| |z_j|⟩ + …

    which is ⟨|A|, rate⟩ with a rate that does not depend on A: one tensor per node, from the bounds of step 1
    (`Affine.pulling`, `bounds.sizes`). `crown.backward` adds up ⟨|A|, rate⟩ along the way, each rounded up
    (`functionals.size_of`), and `Functional.least` subtracts the sum.

3.  *The set.* min ⟨A, x⟩ is taken in float64, less γ_n of the sum of the magnitudes (`sets`), and what goes back into a
    narrower type is rounded outward (`outward`).

4.  *Activations.* The lines of a ReLU are exact where its sign is known, and the product with a slope is one of the
    roundings that `SLACK` allows for. Smooth activations lower and raise their lines by what torch's functions may be
    off (`smooth`).

5.  *Slopes.* A certificate may come from any slopes at all: α-CROWN's ascent is not part of the argument.

`tests/certificates/test_rounding.py` holds each step against float64 and fractions.
"""

import math

import torch
from torch import Tensor

RUN = 32
"""Terms that a careful sum adds in their own type: to convert each of them costs as much as the rest of the sum."""
SLACK = 8
"""Roundings besides those of a sum: of folded weights, of the addition of a functional's parts, of a slope."""


def gamma(terms: int, like: Tensor) -> float:
    """Return γ_n of the type of `like`, for sums of `terms` products and what little is done to them besides."""
    share = (terms + SLACK) * torch.finfo(like.dtype).eps / 2
    return share / (1 - share) if share < 1 else math.inf


def small(like: Tensor) -> float:
    """Return η / u: a number so small that its share u is the least normal number, below which products are lost.

    γ_n (s + η / u) is at least γ_n s + n η. Kernels may flush what lies below the least normal number to 0, so that η
    is that number, not half of the least subnormal one.
    """
    return 2 * torch.finfo(like.dtype).tiny / torch.finfo(like.dtype).eps


def summed(node: Tensor) -> int:
    """Return the number of terms n whose γ_n covers `careful_sum` over a node's result: all of them in float64."""
    return max(RUN, node.numel()) if node.dtype == torch.float64 else RUN


def careful_sum(terms: Tensor) -> Tensor:
    """Return the sums over the last axis: of `RUN` terms in their own type, pair by pair, and of these in float64.

    They are off by at most γ_n with n = `summed`, as `Affine.pulling` and `sizes` allow for. Pairs are added element by
    element: torch's own float32 sums may depend on where a row lies in memory.
    """
    parts, rest = divmod(terms.shape[-1], RUN)
    whole, tail = terms.split([parts * RUN, rest], -1)  # type: ignore[no-untyped-call]
    runs = whole.reshape(*terms.shape[:-1], RUN, parts)
    while (half := runs.shape[-2] // 2) > 0:
        runs = runs[..., :half, :] + runs[..., half:, :]
    total: Tensor = runs.squeeze(-2).sum(-1, dtype=torch.float64) + tail.sum(-1, dtype=torch.float64)
    return total


def outward(lower: Tensor, upper: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return bounds in another type, rounded outward."""
    if lower.dtype == dtype:
        return lower, upper
    low, high = lower.to(dtype), upper.to(dtype)
    below, above = torch.full_like(low, -torch.inf), torch.full_like(high, torch.inf)
    return (
        torch.where(low > lower, torch.nextafter(low, below), low),
        torch.where(high < upper, torch.nextafter(high, above), high),
    )
