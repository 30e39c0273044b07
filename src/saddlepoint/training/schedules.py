"""Learning rate and ε as functions of t, the share of the run that is done: nothing has to be remembered."""

import math

from saddlepoint.training.recipe import Recipe


def learning_rate(recipe: Recipe, t: float) -> float:
    """Return the learning rate at t ∈ [0, 1)."""
    rising = recipe.warmup > 0 and t < recipe.warmup
    if recipe.schedule == "one-cycle":
        return recipe.lr * (t / recipe.warmup if rising else (1 - t) / max(1 - recipe.warmup, 1e-9))
    share = {
        "constant": 1.0,
        "cosine": 0.5 + 0.5 * math.cos(math.pi * t),
        "step": 0.1 ** ((t >= 0.5) + (t >= 0.75)),
    }[recipe.schedule]
    return recipe.lr * share * (t / recipe.warmup if rising else 1.0)


def radius(recipe: Recipe, t: float) -> float:
    """Return ε at t: it rises linearly over the ramp."""
    return recipe.eps * ramped(recipe, t)


def ramped(recipe: Recipe, t: float) -> float:
    """Return which share of the ramp is done at t."""
    return min(1.0, t / recipe.ramp) if recipe.ramp > 0 else 1.0
