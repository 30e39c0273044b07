"""Losses per example; higher is more adversarial. Nothing is averaged: reduction is the caller's business.

With z = h(x) the logits, y the label and t a target class:

    cross-entropy            log Σ exp z_j − z_y                     (Goodfellow et al. 2015)
    logit margin             max_{j≠y} z_j − z_y                     (Carlini & Wagner 2017, f₆ with κ = ∞)
    targeted cross-entropy   z_t − log Σ exp z_j
    targeted margin          z_t − max_{j≠t} z_j
    targeted difference      ℓ(z, y) − ℓ(z, t) = z_t − z_y           (Kolter & Madry, ch. 1)
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from saddlepoint.errors import InputError
from saddlepoint.typing import Labels, Logits, PerExample


def cross_entropy(logits: Logits, y: Labels) -> PerExample:
    """Return ℓ(z, y) = log Σ exp z_j − z_y in nats, (B,)."""
    return functional.cross_entropy(logits, y, reduction="none")


def logit_margin(logits: Logits, y: Labels) -> PerExample:
    """Return max_{j≠y} z_j − z_y, (B,): positive when the example is misclassified."""
    own = logits.gather(1, y[:, None])
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.amax(1) - own.squeeze(1)


def targeted_cross_entropy(logits: Logits, target: Labels) -> PerExample:
    """Return −ℓ(z, t) in nats, (B,): zero when all probability lies on the target."""
    return -cross_entropy(logits, target)


def targeted_margin(logits: Logits, target: Labels) -> PerExample:
    """Return z_t − max_{j≠t} z_j, (B,): positive when the target is predicted."""
    return -logit_margin(logits, target)


def targeted_difference(logits: Logits, y: Labels, target: Labels) -> PerExample:
    """Return ℓ(z, y) − ℓ(z, t), (B,): raise the loss of the label, lower that of the target.

    The log-sum-exp of the two losses cancels, so this is z_t − z_y; written as the lesson writes it, it has the
    lesson's rounding.
    """
    return cross_entropy(logits, y) - cross_entropy(logits, target)


UNTARGETED: dict[str, Callable[[Logits, Labels], PerExample]] = {
    "cross-entropy": cross_entropy,
    "difference": cross_entropy,
    "margin": logit_margin,
}
TARGETED: dict[str, Callable[[Logits, Labels, Labels], PerExample]] = {
    "cross-entropy": lambda logits, _, target: targeted_cross_entropy(logits, target),
    "difference": targeted_difference,
    "margin": lambda logits, _, target: targeted_margin(logits, target),
}


def named(name: str, logits: Logits, y: Labels, target: Labels | None = None) -> PerExample:
    """Return the loss called `name`, in its targeted form when a target is given."""
    if name not in UNTARGETED:
        raise InputError(f"unknown loss {name!r}: expected one of {', '.join(sorted(UNTARGETED))}")
    return UNTARGETED[name](logits, y) if target is None else TARGETED[name](logits, y, target)
