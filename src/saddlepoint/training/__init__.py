"""Training: min_θ E max_δ ℓ, as objectives, recipes and one loop that resumes bit for bit."""

from saddlepoint.training.api import Trained, train
from saddlepoint.training.objectives import (
    Terms,
    adversarial,
    empirical,
    fgsm_rs,
    mart,
    noisy,
    robust_linear,
    trades,
)
from saddlepoint.training.recipe import Recipe, load_recipe

__all__ = [
    "Recipe",
    "Terms",
    "Trained",
    "adversarial",
    "empirical",
    "fgsm_rs",
    "load_recipe",
    "mart",
    "noisy",
    "robust_linear",
    "trades",
    "train",
]
