"""Losses per example; higher is more adversarial. Nothing is averaged: reduction is the caller's business.

With z = h(x) the logits, y the label and t a target class:

    cross-entropy            log Σ exp z_j − z_y                     (Goodfellow et al. 2015)
    margin objective         max_{j≠y} z_j − z_y                     (Carlini & Wagner 2017, f₆ with κ = ∞)
    targeted cross-entropy   z_t − log Σ exp z_j
    targeted margin          z_t − max_{j≠t} z_j
    targeted difference      ℓ(z, y) − ℓ(z, t) = z_t − z_y           (Kolter & Madry, ch. 1)
    DLR                      (max_{j≠y} z_j − z_y) / (z_π1 − z_π3)   (Croce & Hein 2020, eq. 6; π sorts z downwards)
    targeted DLR             (z_t − z_y) / (z_π1 − (z_π3 + z_π4)/2)  (ibid., eq. 7)
    softmax margin           log(1 + max_{j≠y} p_j − p_y)            (Xie et al. 2025, "PMA"; p = softmax(z))
    targeted softmax margin  log(1 + p_t − max_{j≠t} p_j)
    rescaled cross-entropy   ℓ(z / (z_π1 − z_π2), y)                 (Yu & Xu 2023, "MIFPE", with t = 1)

Ratios are zero where all their logits are equal. With too few classes for a denominator another takes its place: with
three, targeted DLR divides by z_π1 − (z_π2 + z_π3)/2 (by z_π1 − z_π3 it were constant while the label is first and the
target last); with two, both divide by 1. The logarithm of the softmax margin is monotone, and never loses a gradient to
rounding: 1 − p_y is summed from the other classes.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from saddlepoint.errors import InputError
from saddlepoint.typing import Labels, Logits, PerExample


def cross_entropy(logits: Logits, y: Labels) -> PerExample:
    """Return ℓ(z, y) = log Σ exp z_j − z_y in nats, (B,)."""
    return functional.cross_entropy(logits, y, reduction="none")


def margin(logits: Logits, y: Labels) -> PerExample:
    """Return z_y − max_{j≠y} z_j, (B,): positive where y is predicted. Its negative is what attacks ascend."""
    own = logits.gather(1, y[:, None])
    others = logits.scatter(1, y[:, None], -torch.inf)
    return own.squeeze(1) - others.amax(1)


def targeted_cross_entropy(logits: Logits, target: Labels) -> PerExample:
    """Return −ℓ(z, t) in nats, (B,): zero when all probability lies on the target."""
    return -cross_entropy(logits, target)


def targeted_margin(logits: Logits, target: Labels) -> PerExample:
    """Return z_t − max_{j≠t} z_j, (B,): positive when the target is predicted."""
    return margin(logits, target)


def targeted_difference(logits: Logits, y: Labels, target: Labels) -> PerExample:
    """Return ℓ(z, y) − ℓ(z, t), (B,): raise the loss of the label, lower that of the target.

    The log-sum-exp of the two losses cancels, so this is z_t − z_y; written as the lesson writes it, it has the
    lesson's rounding.
    """
    return cross_entropy(logits, y) - cross_entropy(logits, target)


def dlr(logits: Logits, y: Labels) -> PerExample:
    """Return the difference of logits ratio, (B,): the margin in units of z_π1 − z_π3, invariant to a·z + b."""
    top = logits.topk(min(3, logits.shape[1]), 1).values
    return _ratio(-margin(logits, y), top[:, 0] - top[:, 2] if top.shape[1] == 3 else None)


def targeted_dlr(logits: Logits, y: Labels, target: Labels) -> PerExample:
    """Return (z_t − z_y) / (z_π1 − (z_π3 + z_π4)/2), (B,); with three classes, (z_π2 + z_π3)/2."""
    top = logits.topk(min(4, logits.shape[1]), 1).values
    rise = (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])).squeeze(1)
    return _ratio(rise, top[:, 0] - top[:, -2:].mean(1) if top.shape[1] > 2 else None)


def softmax_margin(logits: Logits, y: Labels) -> PerExample:
    """Return log(1 + max_{j≠y} p_j − p_y), (B,): positive when the example is misclassified, at most log 2."""
    return _probability_gap(logits, _rival(logits, y), y)


def targeted_softmax_margin(logits: Logits, target: Labels) -> PerExample:
    """Return log(1 + p_t − max_{j≠t} p_j), (B,): positive when the target is predicted, at most log 2."""
    return _probability_gap(logits, target, _rival(logits, target))


def rescaled_cross_entropy(logits: Logits, y: Labels) -> PerExample:
    """Return ℓ(z/s, y) with s = z_π1 − z_π2, (B,): confident logits no longer drown the gradient in rounding.

    The scale s is a constant to the gradient, and 1 where the two are equal.
    """
    return cross_entropy(_rescaled(logits), y)


def _rival(logits: Logits, y: Labels) -> Labels:
    return logits.detach().scatter(1, y[:, None], -torch.inf).argmax(1)


def _probability_gap(logits: Logits, up: Labels, down: Labels) -> PerExample:
    """Return log(1 + p_up − p_down) = log(Σ_{j≠down} p_j + p_up)."""
    others = logits.scatter(1, down[:, None], -torch.inf).logsumexp(1)
    return torch.logaddexp(others, logits.gather(1, up[:, None]).squeeze(1)) - logits.logsumexp(1)


def _rescaled(logits: Logits) -> Logits:
    top = logits.detach().topk(2, 1).values
    gap = top[:, :1] - top[:, 1:]
    return logits / torch.where(gap > 0, gap, 1)


def _ratio(rise: PerExample, gap: PerExample | None) -> PerExample:
    return rise if gap is None else rise / (gap + max(1e-12, torch.finfo(gap.dtype).tiny))


UNTARGETED: dict[str, Callable[[Logits, Labels], PerExample]] = {
    "cross-entropy": cross_entropy,
    "difference": cross_entropy,
    "margin": lambda logits, y: -margin(logits, y),
    "dlr": dlr,
    "softmax-margin": softmax_margin,
    "rescaled-cross-entropy": rescaled_cross_entropy,
}
TARGETED: dict[str, Callable[[Logits, Labels, Labels], PerExample]] = {
    "cross-entropy": lambda logits, _, target: targeted_cross_entropy(logits, target),
    "difference": targeted_difference,
    "margin": lambda logits, _, target: targeted_margin(logits, target),
    "dlr": targeted_dlr,
    "softmax-margin": lambda logits, _, target: targeted_softmax_margin(logits, target),
    "rescaled-cross-entropy": lambda logits, _, target: -rescaled_cross_entropy(logits, target),
}


def check(name: object) -> None:
    """Raise InputError unless a loss has this name."""
    if name not in UNTARGETED:
        raise InputError(f"unknown loss {name!r}: expected one of {', '.join(sorted(UNTARGETED))}")


def named(name: str, logits: Logits, y: Labels, target: Labels | None = None) -> PerExample:
    """Return the loss called `name`, in its targeted form when a target is given.

    Args:
        name: one of `UNTARGETED`.
        logits: (B, K).
        y: labels, (B,).
        target: the class to reach, (B,); None for an untargeted attack.
    """
    check(name)
    return UNTARGETED[name](logits, y) if target is None else TARGETED[name](logits, y, target)
