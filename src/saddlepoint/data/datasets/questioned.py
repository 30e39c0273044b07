"""A first look at a data set and a model together, before hours are spent on them."""

import torch

from saddlepoint.classifier import Classifier
from saddlepoint.classifier.questions import question
from saddlepoint.data.datasets.dataset import Dataset
from saddlepoint.errors import InputError, ModelError

FIRST = 64


def question_data(classifier: Classifier, data: Dataset) -> None:
    """Warn, as `InputWarning`, of signs in the first 64 examples that labels and predictions do not belong together."""
    samples = []
    for index in range(min(FIRST, len(data))):
        try:
            samples.append(data.read(index))
        except InputError:  # the run itself reports it
            continue
    if not samples:
        return
    try:
        logits = classifier.predict(torch.stack([sample.x for sample in samples]), box=None).logits.cpu()
    except (ModelError, RuntimeError, ValueError, IndexError):  # the run itself reports that, too
        return
    question(logits, torch.tensor([sample.y for sample in samples]))
