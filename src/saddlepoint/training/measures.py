"""How good a classifier is while it is trained: clean, under ten steps of PGD, and proven by intervals."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from saddlepoint.attacks import PGD
from saddlepoint.certificates.lowering import Program
from saddlepoint.classifier import Classifier
from saddlepoint.training import certified, state
from saddlepoint.training.examples import Source
from saddlepoint.training.objectives import searched
from saddlepoint.training.recipe import Recipe

_CHECKED = 1000
"""Validation examples that choose the best epoch."""
_PROBE = PGD(steps=10)


def accuracies(
    classifier: Classifier,
    examples: Source,
    recipe: Recipe,
    device: torch.device,
    prefix: str = "validation",
    program: Program | None = None,
) -> dict[str, float]:
    """Return accuracy on up to 1,000 examples in eval mode, clean, under ten steps of PGD, and proven by a program.

    Args:
        classifier: the network; its mode is restored.
        examples: the data to measure on.
        recipe: norm, ε and objective of the training.
        device: where the network is.
        prefix: the first part of every name in the result.
        program: the graph to prove with; None where the recipe does not certify.
    """
    count = min(len(examples), _CHECKED)
    if not count:
        return {}
    training, clean, robust, proven = classifier.training, 0, 0, 0
    classifier.eval()
    with torch.no_grad():
        for rows in torch.split(torch.arange(count), 500):
            x, y = examples.images(rows).to(device), examples.y[rows].to(device)
            clean += int((classifier(x).argmax(1) == y).sum())
            if recipe.eps > 0:
                with torch.enable_grad():
                    point = searched(classifier, x, y, recipe.ball, _PROBE, rows.to(device))
                robust += int((classifier(point).argmax(1) == y).sum())
            if program is not None:
                proven += int(certified.certified(classifier, program, x, y, recipe.ball).sum())
    classifier.train(training)
    shares = {f"{prefix}_clean": clean / count}
    shares |= {f"{prefix}_robust": robust / count} if recipe.eps > 0 else {}
    return shares | ({f"{prefix}_certified": proven / count} if program is not None else {})


@contextmanager
def swapped(classifier: Classifier, weights: state.Weights | None) -> Iterator[None]:
    """Let a classifier have other weights for a while; None leaves its own."""
    if weights is None:
        yield
        return
    own = {name: value.clone() for name, value in classifier.module.state_dict().items()}
    classifier.module.load_state_dict(weights)
    try:
        yield
    finally:
        classifier.module.load_state_dict(own)
