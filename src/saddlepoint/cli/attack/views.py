"""What a classifier says of images, seen from the true class."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlepoint.classifier import Classifier
from saddlepoint.errors import InputError, SaddlepointError
from saddlepoint.losses import cross_entropy


@dataclass(frozen=True, slots=True)
class View:
    """The prediction at one point; `true` is the probability of the true class, `loss` its cross-entropy in nats."""

    label: int
    name: str
    probability: float
    true: float
    loss: float


def look(classifier: Classifier, x: Tensor, box: tuple[float, float] | None = (0.0, 1.0)) -> Tensor:
    """Return the logits of images (B, C, H, W), as float64.

    Raises:
        InputError: the model cannot take images of this shape.
    """
    try:
        return classifier.predict(x, box=box).logits.cpu().double()
    except SaddlepointError:
        raise
    except (RuntimeError, AssertionError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{classifier.name} cannot take images of {_shape(x)} ({reason})") from None


def views(classifier: Classifier, logits: Tensor, y: Tensor) -> Sequence[View]:
    """Return one view per row of logits (B, K) with true classes y (B,)."""
    probability = logits.softmax(1)
    top, label = probability.max(1)
    true = probability.gather(1, y[:, None]).squeeze(1)
    columns = (label, top, true, cross_entropy(logits, y))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [View(index, classifier.name_of(index), best, own, loss) for index, best, own, loss in rows]


def _shape(x: Tensor) -> str:
    return f"{x.shape[2]} × {x.shape[3]} pixels"
