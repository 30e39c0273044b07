"""Labels and logits that are probably not what was meant: one line of warning for each sign."""

import warnings
from collections.abc import Iterator

import torch

from saddlepoint.errors import InputWarning
from saddlepoint.typing import Labels, Logits

LEAST = 20
"""How many images it takes before their accuracy says anything."""
SHIFTED = 0.3
"""How much better labels must fit when all of them are shifted by one class, and more than half of them then."""
OVERCONFIDENT = 0.5
"""How far the mean confidence may lie above the accuracy."""


def question(logits: Logits, y: Labels) -> None:
    """Warn, as `InputWarning`, of each sign that clean logits (B, K) and labels (B,) do not belong together."""
    for text in questions(logits, y):
        warnings.warn(text, InputWarning, stacklevel=2)


def questions(logits: Logits, y: Labels) -> Iterator[str]:
    """Yield one line for each sign; none for fewer than 20 images."""
    if len(y) < LEAST:
        return
    predicted, right = logits.argmax(1), _share(logits.argmax(1), y)
    shift = max((1, -1), key=lambda step: _share(predicted, y - step))
    shifted = _share(predicted, y - shift)
    if shifted > max(0.5, right + SHIFTED):
        fits = f"labels {'less' if shift > 0 else 'plus'} one fit {shifted:.0%}"
        yield (
            f"the labels fit {right:.0%} of the predictions, and {fits}: they seem to count classes from "
            f"{'1' if shift > 0 else '-1'}; expected 0 to {logits.shape[1] - 1}: pass y {'-' if shift > 0 else '+'} 1"
        )
    elif (confidence := logits.softmax(1).amax(1).mean().item()) > right + OVERCONFIDENT:
        yield (
            f"the model is right on {right:.0%} of these images, but {confidence:.0%} sure on average: check the "
            "order of the classes, and the normalisation, sp.Classifier(module, mean=…, std=…)"
        )
    if bool(((logits >= 0) & (logits <= 1)).all()) and bool((logits != 0).any()):
        yield (
            "all logits lie in [0, 1]: they seem to be outputs of a sigmoid, which starves the gradient; expected what "
            "comes before it"
        )


def _share(predicted: Labels, y: Labels) -> float:
    return (predicted == y).to(torch.float32).mean().item()
