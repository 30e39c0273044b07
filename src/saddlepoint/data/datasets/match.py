"""Whether a data set and a model belong together: asked once, before the first pass of anything else."""

from dataclasses import replace

import torch

from saddlepoint.classifier import Classifier
from saddlepoint.data.datasets.classes import labels_of
from saddlepoint.data.datasets.dataset import Dataset, Sample
from saddlepoint.errors import InputError, ModelError


def matched(data: Dataset, classifier: Classifier) -> Dataset:
    """Return the data set in the form that a classifier takes: its shape, its channels, its labels.

    The shape is that of the first example that can be read; the others must have it, too.

    Raises:
        InputError: the data have other channels or classes than the classifier.
        ModelError: it cannot take images of their shape.
    """
    data = replace(data, recipe=classifier.preprocessing)
    sample = next((readable for index in range(len(data)) if (readable := _readable(data, index))), None)
    if sample is None:
        return data
    data, count = _tried(data, sample, classifier)
    if data.classes is not None:
        data = data.relabelled(labels_of(data.classes, data.customary, classifier, count))
    if max(data.labels) >= count:
        raise InputError(
            f"{data.name} has the label {max(data.labels)}; the model has {count} classes, 0 to {count - 1}: "
            "expected data of the model's own classes"
        )
    return data


def _readable(data: Dataset, index: int) -> Sample | None:
    try:
        return data.read(index)
    except InputError:
        return None


def _tried(data: Dataset, sample: Sample, classifier: Classifier) -> tuple[Dataset, int]:
    """Return the data in the model's channels, colour or grey, and how many classes it tells apart."""
    try:
        return _shaped(data, sample), _classes(sample, classifier)
    except (ModelError, InputError) as error:
        grey = replace(data, grey=True)
        if not data.photos:
            raise
        try:
            sample = grey.read(data.ids.index(sample.id))
            return _shaped(grey, sample), _classes(sample, classifier)
        except (ModelError, InputError):
            raise error from None


def _shaped(data: Dataset, sample: Sample) -> Dataset:
    return replace(data, shape=tuple(sample.x.shape))


def _classes(sample: Sample, classifier: Classifier) -> int:
    try:
        return classifier.predict(sample.x[None]).logits.shape[1]
    except InputError as error:
        raise InputError(f"the model cannot take the data: {error}") from None
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"the model cannot take images of shape {tuple(sample.x.shape)} ({reason}); expected data of its shape"
        ) from None
