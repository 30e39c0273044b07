"""The graph of the classifier that was certified last: an export takes half a second, a look at it 20 ms."""

import hashlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from saddlepoint.certificates.agreement import compare_anywhere
from saddlepoint.certificates.graph import Graph
from saddlepoint.classifier import Classifier
from saddlepoint.classifier.forms import tensors_in
from saddlepoint.classifier.model import absorb
from saddlepoint.errors import ModelError

Graphs = tuple[Graph, Graph]
"""In float32 and in float64."""


@final
@dataclass(frozen=True, eq=False)
class _Kept:
    """What was exported last: of one classifier, lest the weights of many stay in memory."""

    classifier: weakref.ref[Classifier]
    key: tuple[object, ...]
    graphs: Graphs


_last: list[_Kept] = []


def kept(classifier: Classifier, shape: tuple[int, ...], make: Callable[[], Graphs]) -> Graphs:
    """Return the graphs of a classifier, made anew unless they were made of it as it is now.

    Weights, modes, settings and hooks are compared by content, and the module is held against the graph at random
    pixels, call by call, as after an export (`compare_anywhere`): what its code does now is what the graph says.
    """
    key = (shape, classifier.device, _state(classifier))
    for each in _last[:]:
        if each.classifier() is classifier and each.key == key and _holds(each.graphs, classifier):
            return each.graphs
    _last.clear()  # before memory is taken for another
    graphs = make()
    # A dead classifier's graph goes with it.
    _last[:] = [_Kept(weakref.ref(classifier, lambda _: _last.clear()), key, graphs)]
    return graphs


def _holds(graphs: Graphs, classifier: Classifier) -> bool:
    try:
        compare_anywhere(graphs[1], classifier)
    except ModelError:
        return False
    return True


def _state(classifier: Classifier) -> str:
    """Return a hash of all that a forward may read of its modules: tensors, modes, settings, hooks, code."""
    total = hashlib.sha256(classifier.digest().encode())
    for name, module in classifier.named_modules():
        total.update(f"{name} {type(module)!r} {module.training}".encode())
        for key, value in sorted(vars(module).items()):
            if key in ("_parameters", "_buffers", "_modules"):
                continue  # these are in the digest
            total.update(f"{key} {value!r}".encode())
            for tensor in tensors_in(value):  # no parameter and no buffer, so that the digest does not know it
                absorb(total, key, tensor)
    return total.hexdigest()
