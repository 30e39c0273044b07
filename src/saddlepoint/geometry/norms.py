"""Norms, row by row: f(rows)[i] is f(rows[i:i+1]) to the last bit, whatever stands beside row i.

That law is what makes an attack reproducible when the loop above re-orders, splits and refills its batches.
"""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from saddlepoint.typing import Images, PerExample


def widest(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on the one device that has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def wide(v: Images) -> Images:
    """Cast v to the widest floating type of its device."""
    return v.to(widest(v.device))


def working(v: Images) -> Images:
    """Cast half precision to float32, in which it is computed; leave float32 and float64 as they are."""
    return v.to(torch.promote_types(v.dtype, torch.float32))


def rows(v: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "batch size"]:
    """Flatten (B, *shape) to (B, d)."""
    return v.reshape(len(v), v.shape[1:].numel())


def beside(value: Shaped[Tensor, " batch"], like: Images) -> Shaped[Tensor, "batch ..."]:
    """Reshape (B,) to (B, 1, …, 1), so that it broadcasts over `like`."""
    return value.reshape(len(value), *(1 for _ in like.shape[1:]))


def spread(value: PerExample, like: Images) -> Float[Tensor, "batch ..."]:
    """Reshape (B,) to (B, 1, …, 1) in the type of `like`."""
    return beside(value.to(like.dtype), like)


def paired(v: Images) -> Float[Tensor, "pairs size"]:
    """Flatten, and put a lone row beside itself.

    PyTorch splits a reduction to one number over its threads, but not one to several numbers: so a row is summed in
    the same order, whatever stands beside it.
    """
    flat = rows(v).contiguous()
    return flat.expand(2, -1) if len(flat) == 1 else flat


def row_sum(v: Images) -> PerExample:
    """Sum each row, in its own type."""
    return paired(v).sum(1)[: len(v)]


def lp_norm(v: Images, p: float) -> PerExample:
    """Return ‖v‖_p = (Σ|v_i|^p)^{1/p} of each row, p ∈ [1, ∞], accumulated in the widest type: (B, *shape) to (B,)."""
    if p == math.inf:
        return wide(rows(v).abs().amax(1))
    if p == 1:
        return row_sum(wide(v.abs()))
    norms: Tensor = torch.linalg.vector_norm(paired(v), p, dim=1, dtype=widest(v.device))
    return norms[: len(v)]


def unit(g: Images) -> Images:
    """Divide each row by its largest magnitude, in float32 at least; a zero row stays zero. No square can overflow."""
    largest = lp_norm(g, math.inf)
    return working(g) / spread(torch.where(largest > 0, largest, 1), working(g))


def dual_exponent(p: float) -> float:
    """Return q with 1/p + 1/q = 1: ‖g‖_q = max_{‖v‖_p ≤ 1} ⟨g, v⟩ (Hölder 1889)."""
    if p == 1:
        return math.inf
    return 1.0 if p == math.inf else p / (p - 1)


def slices(v: Images) -> list[slice]:
    """Cut the batch into slices whose intermediate results stay in a CPU's cache; an accelerator takes it whole.

    Row-wise functions give the same bits either way. At ImageNet size this is several times faster: fresh memory costs
    more than the arithmetic.
    """
    fit = max(1, 2**19 // max(1, v.shape[1:].numel())) if v.device.type == "cpu" else max(1, len(v))
    return [slice(i, i + fit) for i in range(0, max(1, len(v)), fit)]
