"""From what a user gives, radii and pixel bounds, to rows in δ-space that the arithmetic cannot leave."""

import math
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from saddlepoint.errors import InputError
from saddlepoint.geometry.floats import inward, step_toward_zero, sum_toward_zero, toward_zero
from saddlepoint.geometry.norms import lp_norm, spread, widest
from saddlepoint.typing import Images, PerExample

Radius = float | int | PerExample
"""ε of a ball: one number, or one per example."""
Bound = float | int | Tensor | None
"""A side of the pixel box: a number, a tensor that broadcasts to x, or None for no bound."""


def radius(eps: object) -> Radius:
    """Return a checked radius: a float, or the tensor (B,) as it is."""
    if isinstance(eps, Tensor) and eps.ndim == 1 and eps.is_floating_point():
        if not bool(((eps >= 0) & eps.isfinite()).all()):
            raise InputError(f"eps holds {_first(eps, ~((eps >= 0) & eps.isfinite()))}, expected finite radii ≥ 0")
        return eps
    if isinstance(eps, Tensor) and eps.ndim > 0:
        kind = f"a tensor of shape {tuple(eps.shape)} and type {eps.dtype}"
        raise InputError(f"eps is {kind}, expected a number or a floating-point tensor of shape (B,)")
    number = eps.item() if isinstance(eps, Tensor) else eps
    if isinstance(number, bool) or not isinstance(number, Real) or not 0 <= float(number) < math.inf:
        raise InputError(f"eps is {number!r}, expected a finite number ≥ 0 in pixel units of [0, 1], such as 2 / 255")
    return float(number)


def check_radius(norm: str, eps: float, text: str | None = None, *, width: float = 1.0, name: str = "eps") -> None:
    """Raise InputError if an ℓ∞ ball is larger than the box of pixels is wide, and say what may have been meant.

    Args:
        norm: the name of the ball.
        eps: ε, in pixels.
        text: ε as the user spelt it; None where it is a number.
        width: how wide the box of pixels is.
        name: what the message calls ε.
    """
    if norm != "linf" or not math.isfinite(eps) or eps <= width:
        return
    written = text or f"{eps:g}"
    meant = f"did you mean {written}/255?" if eps < 255 * width else "that is more than all 255 grey levels"
    box = "pixels being in [0, 1]" if width == 1 else "the width of the pixels' box"
    raise InputError(f"{name} is {written}; expected at most {width:g}, {box}: {meant}")


def per_row(eps: Radius, like: Float[Tensor, "rows ..."]) -> Float[Tensor, " rows"]:
    """Return one radius per row of `like`, in the widest type of its device."""
    if not isinstance(eps, Tensor):
        return torch.full((len(like),), eps, dtype=widest(like.device), device=like.device)
    if len(eps) != len(like):
        raise InputError(f"eps holds {len(eps)} radii for {len(like)} examples, expected one for each")
    return eps.to(like.device, widest(like.device))


PixelBound = Float[Tensor, "batch ..."]
"""A side of the pixel box, broadcasting to x; infinite for none."""


def bounds(x: Images, lower: Bound, upper: Bound) -> tuple[PixelBound, PixelBound]:
    """Return the sides of the pixel box, checked, with one row per example.

    Bounds are rounded to x's type first, as PyTorch does when it compares them with x.
    """
    if not x.is_floating_point():
        raise InputError(f"x has type {x.dtype}, expected floating-point pixels")
    least, most = _bound(x, lower, -math.inf), _bound(x, upper, math.inf)
    outside = ~((x >= least) & (x <= most))
    if bool(outside.any()):
        raise InputError(
            f"x holds {_first(x, outside)}, outside the box [{_text(lower)}, {_text(upper)}]; None is no bound"
        )
    return least, most


def box(x: Images, lower: PixelBound, upper: PixelBound) -> tuple[Images, Images]:
    """Return [lower − x, upper − x], rounded toward zero: monotone rounding then keeps fl(x + δ) in [lower, upper]."""
    return _offset(lower.expand_as(x), x), _offset(upper.expand_as(x), x)


def fold(x: Images, limit: PerExample, low: Images, high: Images) -> tuple[Images, Images]:
    """Intersect [low, high] with the ℓ∞ ball so that |fl(x + δ) − x| ≤ ε for every float δ that is left.

    Args:
        x: images, (B, C, H, W).
        limit: ε of each row, (B,).
        low: the least δ that the box allows, (B, C, H, W).
        high: the largest.
    """
    reach = spread(toward_zero(limit, x.dtype), x).expand_as(x)
    return torch.maximum(low, inward(x, -reach)), torch.minimum(high, inward(x, reach))


def unfold(x: Images, limit: PerExample, low: Images, high: Images) -> tuple[Images, Images]:
    """Return the box of `fold` with the ball's bounds as plain ±ε, rounded to nearest.

    Args:
        x: images, (B, C, H, W).
        limit: ε of each row, (B,).
        low: the least δ of the folded box, (B, C, H, W).
        high: the largest.
    """
    (least, most), reach = fold(x, limit, torch.full_like(x, -math.inf), torch.full_like(x, math.inf)), spread(limit, x)
    return torch.where(low == least, -reach, low), torch.where(high == most, reach, high)


def shrink(z: Images, p: float, limit: PerExample, dtype: torch.dtype) -> Images:
    """Scale the rows of z that are longer than ε down to it, radially, and cast, all rounding toward zero.

    The margin covers the rounding of the norm itself, in whatever order a reader may sum: such errors grow like √d
    (Higham & Mary 2019). Every step is monotone, so what is shorter here stays shorter.

    Args:
        z: points, (B, C, H, W).
        p: of the norm.
        limit: ε of each row, (B,).
        dtype: the type to cast to.
    """
    margin = (8 + math.sqrt(z.shape[1:].numel())) * torch.finfo(limit.dtype).eps
    norm, budget = lp_norm(z, p), limit * (1 - margin)
    factor = spread(toward_zero(torch.where(norm > budget, budget / norm, 1), z.dtype), z)
    return toward_zero(torch.where(factor < 1, step_toward_zero(z * factor), z), dtype)


def _bound(x: Images, bound: Bound, absent: float) -> PixelBound:
    value = torch.as_tensor(absent if bound is None else bound, dtype=x.dtype, device=x.device)
    try:
        value.expand_as(x)
    except RuntimeError as error:
        raise InputError(f"a bound of {_text(bound)} does not broadcast to x of shape {tuple(x.shape)}") from error
    return value.reshape([1] * (x.ndim - value.ndim) + list(value.shape)).expand(len(x), *[-1] * (x.ndim - 1))


def _offset(bound: Images, x: Images) -> Images:
    return torch.where(bound.isinf(), bound, sum_toward_zero(bound, -x))


def _first(values: Tensor, flags: Tensor) -> str:
    row = int(flags.reshape(len(flags), -1).any(1).nonzero()[0])
    return f"{values[row][flags[row]].flatten()[0].item():g} in row {row}"


def _text(bound: Bound) -> str:
    return f"shape {tuple(bound.shape)}" if isinstance(bound, Tensor) else str(bound)
